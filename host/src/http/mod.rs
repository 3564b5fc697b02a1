//! What all listeners share: accepting, limits, time-outs, who asks, the error table, and bodies that tell when they
//! were written. Knows no brokers.

pub mod body;
pub mod error;
pub mod limiter;
pub mod listener;
pub mod request;
pub mod upload;

pub use body::{Body, Chunk, Written};
pub use error::Error;

/// What a handler answers.
pub type Response = http::Response<Body>;
