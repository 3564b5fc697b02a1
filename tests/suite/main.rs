//! All tests that need the engine's binary. `conformance` runs against every broker, the others against what they name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "JSON answers are read by index; a miss fails the test")]
#![allow(missing_docs, reason = "a test's name says what it shows")]

mod admission;
mod conformance;
mod hostile_clients;
mod http_answers;
mod kafka_faults;
mod kafka_security;
mod limits;
mod long_poll;
mod made_anew;
mod more_refusals;
mod operating;
mod other_clients;
mod plugins;
mod reload;
mod resume;
mod slow_clients;
mod takeover;
