//! What the admin listener shows of the engine; `engine` implements it, so that nothing here knows the engine.

use serde_json::Value;

/// What the engine shows.
pub trait View: Send + Sync {
    /// `{"status":"ok","sessions":n}`
    fn healthz(&self) -> Value;
    /// Whether the engine takes sessions, and `{"status":"ready","endpoints":{}}`.
    fn readyz(&self) -> (bool, Value);
    /// All sessions.
    fn sessions(&self) -> Value;
    /// All routes.
    fn routes(&self) -> Value;
    /// All plugins: `{"plugins":[..]}`.
    fn plugins(&self) -> Value;
}
