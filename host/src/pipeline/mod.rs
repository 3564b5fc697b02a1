//! The two ways of an event, one file each, for sessions (and, later, bridges).
//!
//! - [`downstream`] broker -> subscription -> window -> entrypoint
//! - [`shared`] a downstream half that several connections look at
//! - [`upstream`] entrypoint -> bounded channel -> publisher -> broker
//!
//! Called by entrypoints; knows no client protocol and no broker protocol.

pub mod downstream;
pub mod receipts;
pub mod shared;
pub mod upstream;
