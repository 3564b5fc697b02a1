//! The two ways of an event, one file each, for sessions (and, later, bridges).
//!
//! - [`downstream`] broker -> subscription -> window -> entrypoint
//! - [`dead_letter`] events that nobody could take
//! - [`shared`] a downstream half that several connections look at
//! - [`upstream`] entrypoint -> bounded channel -> publisher -> broker
//!
//! Called by entrypoints; knows no client protocol and no broker protocol.

pub mod dead_letter;
pub mod downstream;
mod generations;
pub mod receipts;
pub mod shared;
pub mod upstream;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::endpoint::Address;
use crate::plugin::Facts;
use crate::routing::{Route, Table};

/// One direction of a session (of a request, on http_post) as the resolver granted it.
#[derive(Clone)]
pub struct Leg {
    /// The route; on the endpoint that was granted ([`Route::on`]).
    pub route: Arc<Route>,
    /// What the resolver named at connect; None: the endpoint's own.
    pub address: Option<Address>,
    /// Ordering key that the resolver named at connect, upstream.
    pub key: Option<bytes::Bytes>,
    /// What plugins may know of the session.
    pub facts: Arc<Facts>,
    /// Decides who is in a canary's share: the same for all events of the session.
    pub seed: u64,
    /// Where the endpoints of further targets and dead letters are looked up.
    pub table: Arc<ArcSwap<Table>>,
}
