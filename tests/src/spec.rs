//! The configuration that most tests share: all four entrypoints on one endpoint named `broker`.
//!
//! `ws`, `sse`, `poll` read from it; `up` (a WebSocket) and `post` publish to it. A test names what differs.

use serde_json::{Value, json};

/// What a test asks for.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Of every route.
    pub guarantee: &'static str,
    /// Of every route.
    pub channel_size: usize,
    /// Further keys of the downstream routes.
    pub down: Value,
    /// Further keys of the upstream routes.
    pub up: Value,
    /// Further keys of listeners, by name: `{"ws": {"ping_timeout": "3s"}}`.
    pub listeners: Value,
    /// Further keys of the endpoint's `config`.
    pub endpoint: Value,
    /// Further keys at the top.
    pub top: Value,
    /// Partitions of the topic that clients read, where the broker has partitions.
    pub partitions: i32,
    /// Whether the test looks at what was published upstream.
    pub tap: bool,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            guarantee: "at_least_once",
            channel_size: 64,
            down: json!({}),
            up: json!({}),
            listeners: json!({}),
            endpoint: json!({}),
            top: json!({}),
            partitions: 1,
            tap: false,
        }
    }
}

impl Spec {
    /// With that guarantee on every route.
    #[must_use]
    pub fn with(guarantee: &'static str) -> Self {
        Self { guarantee, ..Self::default() }
    }

    /// The whole configuration around an endpoint; `more_entrypoints` and `more_routes` are the broker's own.
    #[must_use]
    pub fn config(&self, endpoint: &Value, more_entrypoints: Vec<Value>, more_routes: Vec<Value>) -> Value {
        let mut endpoint = endpoint.clone();
        merge(&mut endpoint["config"], &self.endpoint);
        let mut entrypoints: Vec<Value> =
            [("ws", "websocket"), ("up", "websocket"), ("sse", "sse"), ("post", "http_post"), ("poll", "http_get")]
                .map(|(name, kind)| entrypoint(name, kind))
                .into();
        entrypoints.extend(more_entrypoints);
        for entrypoint in &mut entrypoints {
            let name = entrypoint["name"].as_str().unwrap_or_default().to_owned();
            merge(entrypoint, &self.listeners[&name]);
        }
        let mut routes: Vec<Value> =
            ["ws", "sse", "poll"].map(|to| self.route("broker", to, "downstream", &self.down)).into();
        routes.extend(["up", "post"].map(|from| self.route(from, "broker", "upstream", &self.up)));
        routes.extend(more_routes);
        let mut config = json!({
            "admin": { "port": 0, "bind": "127.0.0.1" },
            "log_level": "debug",
            "entrypoints": entrypoints, "endpoints": [endpoint], "routes": routes,
        });
        merge(&mut config, &self.top);
        config
    }

    fn route(&self, source: &str, target: &str, direction: &str, more: &Value) -> Value {
        let mut route = route(source, target, direction, self.guarantee);
        merge(&mut route, &json!({ "channel_size": self.channel_size }));
        merge(&mut route, more);
        route
    }
}

/// An entrypoint on a free port of loopback.
#[must_use]
pub fn entrypoint(name: &str, kind: &str) -> Value {
    json!({ "name": name, "type": kind, "port": 0, "bind": "127.0.0.1" })
}

/// A route.
#[must_use]
pub fn route(source: &str, target: &str, direction: &str, guarantee: &str) -> Value {
    json!({ "source": source, "target": target, "direction": direction, "delivery_guarantee": guarantee })
}

/// Puts every key of `from` into `into`.
pub fn merge(into: &mut Value, from: &Value) {
    let Some(from) = from.as_object() else { return };
    for (key, value) in from {
        into[key] = value.clone();
    }
}
