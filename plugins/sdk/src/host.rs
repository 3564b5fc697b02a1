//! What a plugin may ask of the engine besides its event: a log line, a counter, the time. Natively these go to
//! [`testing`](crate::testing).

#[cfg(target_arch = "wasm32")]
use crate::bindings::base::mediation::plugin::host;
pub use crate::bindings::base::mediation::plugin::host::Level;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::host;

/// Whether a message of that level would be kept; the [`log!`](crate::log) macros ask it before they format.
pub fn log_enabled(level: Level) -> bool {
    host::log_enabled(level)
}

/// Capped in size and rate by the engine. Prefer the macros.
pub fn log(level: Level, message: &str) {
    host::log(level, message);
}

/// Adds to a counter named in [`Plugin::COUNTERS`](crate::Plugin::COUNTERS); unknown names are ignored.
pub fn count(counter: &str, delta: u64) {
    host::count(counter, delta);
}

/// The engine's wall clock, milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    host::now_ms()
}

/// `log!(Level::Warn, "no tenant on {}", id)`: formats only when the engine would keep the line.
#[macro_export]
macro_rules! log {
    ($level:expr, $($arg:tt)+) => {
        if $crate::host::log_enabled($level) {
            $crate::host::log($level, &::std::format!($($arg)+));
        }
    };
}

/// [`log!`] at `debug`.
#[macro_export]
macro_rules! debug { ($($arg:tt)+) => { $crate::log!($crate::Level::Debug, $($arg)+) }; }

/// [`log!`] at `info`.
#[macro_export]
macro_rules! info { ($($arg:tt)+) => { $crate::log!($crate::Level::Info, $($arg)+) }; }

/// [`log!`] at `warn`.
#[macro_export]
macro_rules! warn { ($($arg:tt)+) => { $crate::log!($crate::Level::Warn, $($arg)+) }; }

/// [`log!`] at `error`.
#[macro_export]
macro_rules! error { ($($arg:tt)+) => { $crate::log!($crate::Level::Error, $($arg)+) }; }
