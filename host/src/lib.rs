//! The Mediation Engine: a gateway between web clients and event brokers.
//!
//! - [`engine`] puts everything together and runs it; nothing else sees all
//! - [`cli`] the command line
//! - [`config`] the configuration
//! - [`entrypoint`] what clients speak: `websocket`, `sse`, `http_post`, `http_get`
//! - [`http`] what all listeners share
//! - [`pipeline`] the two ways of an event
//! - [`plugin`] WebAssembly components: routes, mapping, enrichment
//! - [`session`] who is connected
//! - [`routing`] which endpoint a client's path leads to
//! - [`endpoint`] broker connections
//! - [`event`] the unit that travels
//! - [`observe`] packet log, engine log, metrics, the admin listener's answers

pub mod cli;
pub mod config;
pub mod endpoint;
pub mod engine;
pub mod entrypoint;
pub mod event;
pub mod http;
pub mod observe;
pub mod pipeline;
pub mod plugin;
pub mod routing;
pub mod session;
