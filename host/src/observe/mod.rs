//! What operators see: the packet log on stdout, the engine's log on stderr, metrics, the admin listener's answers.
//!
//! Everything here yields to the data path: what cannot be written in time is dropped and counted, never waited for.
//!
//! - [`packet`] one line for each event and direction
//! - [`log`] the engine's own log
//! - [`metrics`] counters and gauges, and their text form
//! - [`admin`] from a request to the admin listener to its answer
//!
//! No sockets here: `http` owns the listener and calls [`admin::answer`].

pub mod admin;
pub mod log;
pub mod metrics;
pub mod packet;
mod page;
pub mod view;
