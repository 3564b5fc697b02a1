//! The Mediation Engine: a gateway between web clients and event brokers.
//!
//! - [`config`] the configuration
//! - [`endpoint`] broker connections
//! - [`event`] the unit that travels
//! - [`observe`] packet log, engine log, metrics, the admin listener's answers

pub mod config;
pub mod endpoint;
pub mod event;
pub mod observe;
