//! The event that the engine lends for one call. Nothing is copied into the plugin until a method asks for it.

use crate::{Direction, Rejection};

#[cfg(not(target_arch = "wasm32"))]
/// The other side of it.
#[doc(hidden)]
pub type Lent = crate::testing::Event;
#[cfg(target_arch = "wasm32")]
/// The other side of it.
#[doc(hidden)]
pub type Lent = crate::bindings::base::mediation::plugin::types::Event;

/// An event of the engine, or at connect the connection's data (`method`, `path`, `query.NAME`, `header.NAME`).
pub struct Event<'a>(&'a Lent);

impl<'a> Event<'a> {
    #[doc(hidden)]
    pub fn new(lent: &'a Lent) -> Self {
        Event(lent)
    }

    /// Which event this is.
    pub fn id(&self) -> String {
        self.0.id()
    }

    /// Name of the entrypoint or endpoint that it came from.
    pub fn source_id(&self) -> String {
        self.0.source_id()
    }

    /// Name of the route that it travels.
    pub fn route(&self) -> String {
        self.0.route()
    }

    /// Towards the broker, or towards clients.
    pub fn direction(&self) -> Direction {
        self.0.direction()
    }

    /// Id of the client of its session.
    pub fn client_id(&self) -> String {
        self.0.client_id()
    }

    /// Milliseconds since the Unix epoch.
    pub fn timestamp_ms(&self) -> u64 {
        self.0.timestamp_ms()
    }

    /// Value of one metadata key; keys are lower-case (`path`, `header.x-tenant`, `session.sub`).
    pub fn get(&self, key: &str) -> Option<String> {
        self.0.get(key)
    }

    /// All metadata: costs a copy of each pair, so prefer [`Event::get`].
    pub fn metadata(&self) -> Vec<(String, String)> {
        self.0.metadata()
    }

    /// The raw values of one header: headers may repeat and may be binary.
    pub fn header(&self, name: &str) -> Vec<Vec<u8>> {
        self.0.header(name)
    }

    /// The ordering key as the broker has it.
    pub fn key(&self) -> Option<Vec<u8>> {
        self.0.key()
    }

    /// False for a tombstone.
    pub fn has_payload(&self) -> bool {
        self.0.has_payload()
    }

    /// In bytes.
    pub fn payload_size(&self) -> u64 {
        self.0.payload_size()
    }

    /// Copies the payload into the plugin.
    pub fn payload(&self) -> Vec<u8> {
        self.0.payload()
    }

    /// Copies a part of the payload; shorter at its end.
    pub fn payload_range(&self, offset: u64, size: u32) -> Vec<u8> {
        self.0.payload_range(offset, size)
    }

    /// The payload read as JSON; what is not JSON is refused with the code `json-invalid`, for good.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Rejection> {
        serde_json::from_slice(&self.payload())
            .map_err(|e| Rejection::new("json-invalid", format!("the payload is not the JSON that is expected: {e}")))
    }
}
