//! What the tests stand on: it starts the real engine and a real Kafka, and speaks to both as clients do.
//!
//! - `run` one test: a runtime of its own, at most four at once, 120 s, its seconds recorded
//! - `process` children that die with this process, and their output
//! - `engine` the engine's binary with a configuration; its sessions, packet log and use of resources
//! - `spec` the configuration that most tests share, and what a test changes in it
//! - `broker` what the conformance suite needs from a broker, for `memory`
//! - `kafka` Apache Kafka as a process, and as a broker for the conformance suite
//! - `ws`, `raw_ws`, `sse`, `raw_http` clients; the raw ones withhold pongs, stop reading, and break rules
//! - `guests` plugins folders with the built guests
//! - `netns` a host of its own for a client, which can vanish

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "JSON answers are read by index; a miss fails the test")]
#![allow(clippy::print_stderr, reason = "a failed test dumps what it knows")]

pub mod broker;
pub mod engine;
pub mod guests;
pub mod kafka;
pub mod netns;
pub mod process;
pub mod raw_http;
pub mod raw_ws;
pub mod run;
pub mod spec;
pub mod sse;
pub mod ws;

pub use broker::{Broker, Memory, Record, World};
pub use engine::Engine;
pub use guests::Plugins;
pub use kafka::{Kafka, OnKafka};
pub use netns::FarHost;
pub use raw_http::RawHttp;
pub use raw_ws::RawWs;
pub use run::{eventually, run, unique};
pub use spec::Spec;
pub use sse::{Sse, SseEvent};
pub use ws::{Refusal, Ws};

/// An HTTP client that keeps no connection open between requests.
#[must_use]
pub fn http() -> reqwest::Client {
    reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().build().expect("a plain HTTP client")
}
