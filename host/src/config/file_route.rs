//! Routes as the file writes them; the rules of `file` hold here too.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::file_parts::{PacketLog, Use, secs};
use super::units::{Size, Time, sizes, times, times_or_off};
use super::words::{Direction, Guarantee, OnBrokerLoss, Receipt, Sharing};

/// Which sessions a route is for; without it: all that no other route takes.
#[derive(Debug, Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Match {
    /// Begins with `/`; a `*` at the end matches any rest.
    pub(super) path: Option<String>,
    /// Request headers and their values.
    pub(super) header: BTreeMap<String, String>,
    /// Query keys and their values.
    pub(super) query: BTreeMap<String, String>,
}

/// Where events go that nobody could take.
#[derive(Debug, Deserialize, Serialize, JsonSchema, Default)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = json!(["endpoint", "address"])))]
pub(super) struct DeadLetter {
    /// An endpoint's name.
    #[schemars(length(min = 1))]
    pub(super) endpoint: Option<String>,
    /// Topic or queue there.
    #[schemars(length(min = 1))]
    pub(super) address: Option<String>,
}

/// Joins a source to a target in one direction.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = json!(["source", "target", "direction"])))]
pub(super) struct Route {
    /// Its name; default `source->target`.
    #[schemars(length(min = 1, max = 128))]
    pub(super) name: Option<String>,
    /// An entrypoint's or endpoint's name.
    #[schemars(length(min = 1))]
    pub(super) source: Option<String>,
    /// An endpoint's or entrypoint's name.
    #[schemars(length(min = 1))]
    pub(super) target: Option<String>,
    /// Towards the target broker, or towards clients.
    pub(super) direction: Option<Direction>,
    /// Which sessions it is for.
    #[serde(rename = "match")]
    pub(super) matches: Option<Match>,
    /// When an event counts as done.
    pub(super) delivery_guarantee: Guarantee,
    /// Events out at once, each way: also the broker's prefetch. 1: one event at a time. Default 64.
    #[schemars(range(min = 1, max = 65535))]
    pub(super) channel_size: Option<u32>,
    /// Bytes out at once; one larger event passes alone; a size in bytes.
    #[schemars(extend("x-size" = sizes("1KiB", "1GiB")))]
    pub(super) channel_bytes: Size,
    /// Downstream: whether a client's position outlives its connection.
    pub(super) durable: bool,
    /// Downstream, at_least_once: the least that is taken from a client. Default: what a plain client gives.
    pub(super) receipt: Option<Receipt>,
    /// What becomes of sessions when their broker goes away. Default: hold for sse and bridges, else close.
    pub(super) on_broker_loss: Option<OnBrokerLoss>,
    /// Downstream: who sees an event. Default: what the broker does by nature.
    pub(super) subscription: Option<Sharing>,
    /// Of shared subscriptions; default `mediation-shared.<route name>`.
    #[schemars(length(min = 1))]
    pub(super) group: Option<String>,
    /// Downstream: ends a session that reads nothing for so long; a duration, or off. Default off, 60s where shared.
    #[schemars(extend("x-duration" = times_or_off("100ms", "1d")))]
    pub(super) slow_client_timeout: Option<Time>,
    /// Before a nacked event is given again; it doubles up to 30s; a duration.
    #[schemars(extend("x-duration" = times("1ms", "30s")))]
    pub(super) redelivery_backoff: Time,
    /// Nacks before an event goes to the dead letters. Default: no limit.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_redeliveries: Option<u32>,
    /// Where events go that nobody could take.
    pub(super) dead_letter: Option<DeadLetter>,
    /// Upstream: for one publish, repeats included; a duration.
    #[schemars(extend("x-duration" = times("100ms", "1h")))]
    pub(super) publish_timeout: Time,
    /// http_post: requests at once. Default: channel_size where it is set, else 1024.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) max_in_flight: Option<u32>,
    /// http_post: how long a request waits for a place; a duration.
    #[schemars(extend("x-duration" = times("0s", "5m")))]
    pub(super) accept_timeout: Time,
    /// Upstream: whether connects and disconnects are published.
    pub(super) lifecycle_events: bool,
    /// Decides at connect, and about each upstream event.
    #[schemars(length(min = 1))]
    pub(super) resolver: Option<String>,
    /// The chain that each event passes.
    pub(super) plugins: Vec<Use>,
    /// Instead of the engine's packet_log.
    pub(super) packet_log: Option<PacketLog>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            name: None,
            source: None,
            target: None,
            direction: None,
            matches: None,
            delivery_guarantee: Guarantee::Auto,
            channel_size: None,
            channel_bytes: Size(4 << 20),
            durable: false,
            receipt: None,
            on_broker_loss: None,
            subscription: None,
            group: None,
            slow_client_timeout: None,
            redelivery_backoff: secs(1),
            max_redeliveries: None,
            dead_letter: None,
            publish_timeout: secs(30),
            max_in_flight: None,
            accept_timeout: secs(5),
            lifecycle_events: false,
            resolver: None,
            plugins: Vec::new(),
            packet_log: None,
        }
    }
}
