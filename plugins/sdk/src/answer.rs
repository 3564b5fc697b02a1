//! What a plugin answers with: the interface's own types, with builders.

pub use crate::bindings::base::mediation::plugin::types::Rejection;
pub use crate::bindings::enricher::exports::mediation::plugin::metadata_enricher::{Enrichment, Patch};
pub use crate::bindings::mapper::exports::mediation::plugin::event_mapper::{Body, Mapping, Output, Piece};
pub use crate::bindings::resolver::exports::mediation::plugin::route_resolver::{
    Admission, Decision, Resolution, Target,
};

impl Rejection {
    /// `code` is stable, lower-case with dashes; the event does not succeed later either, unless [`Rejection::retry`].
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Rejection { code: code.into(), message: message.into(), retry: false }
    }

    /// The same event may succeed later.
    pub fn retry(mut self) -> Self {
        self.retry = true;
        self
    }
}

impl Output {
    fn new(body: Body) -> Self {
        Output { body, set: Vec::new(), remove: Vec::new(), address: None, key: None }
    }

    /// The input's payload, shared.
    pub fn same() -> Self {
        Output::new(Body::Same)
    }

    /// This payload.
    pub fn bytes(payload: impl Into<Vec<u8>>) -> Self {
        Output::new(Body::Pieces(vec![Piece::Bytes(payload.into())]))
    }

    /// A part of the input's payload, shared. It must lie within.
    pub fn range(offset: u64, size: u64) -> Self {
        Output::new(Body::Pieces(vec![Piece::Range((offset, size))]))
    }

    /// The whole of the input's payload, shared, between two texts. `size` is [`Event::payload_size`](crate::Event).
    pub fn wrap(before: impl Into<Vec<u8>>, size: u64, after: impl Into<Vec<u8>>) -> Self {
        Output::pieces(vec![Piece::Bytes(before.into()), Piece::Range((0, size)), Piece::Bytes(after.into())])
    }

    /// These, one after the other.
    pub fn pieces(pieces: Vec<Piece>) -> Self {
        Output::new(Body::Pieces(pieces))
    }

    /// No payload: a tombstone where the target has them, else empty.
    pub fn absent() -> Self {
        Output::new(Body::Absent)
    }

    /// Sets one metadata pair over the input's.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.push((key.into(), value.into()));
        self
    }

    /// Removes one of the input's metadata keys.
    pub fn remove(mut self, key: impl Into<String>) -> Self {
        self.remove.push(key.into());
        self
    }

    /// Instead of the target's own address; upstream only.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The ordering key; upstream only.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl From<Output> for Mapping {
    fn from(output: Output) -> Self {
        Mapping::Emit(vec![output])
    }
}

impl From<Vec<Output>> for Mapping {
    fn from(outputs: Vec<Output>) -> Self {
        Mapping::Emit(outputs)
    }
}

impl From<Rejection> for Mapping {
    fn from(why: Rejection) -> Self {
        Mapping::Reject(why)
    }
}

/// So that a mapper may use `?` within: `self.map(event).into()`.
impl<T: Into<Mapping>> From<Result<T, Rejection>> for Mapping {
    fn from(result: Result<T, Rejection>) -> Self {
        result.map_or_else(Mapping::Reject, Into::into)
    }
}

impl Patch {
    /// Changes nothing yet.
    pub fn new() -> Self {
        Patch { set: Vec::new(), remove: Vec::new() }
    }

    /// Sets one metadata pair.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.set.push((key.into(), value.into()));
        self
    }

    /// Removes one metadata key.
    pub fn remove(mut self, key: impl Into<String>) -> Self {
        self.remove.push(key.into());
        self
    }
}

impl Default for Patch {
    fn default() -> Self {
        Patch::new()
    }
}

/// A patch without a change is a pass.
impl From<Patch> for Enrichment {
    fn from(patch: Patch) -> Self {
        if patch.set.is_empty() && patch.remove.is_empty() { Enrichment::Pass } else { Enrichment::Patch(patch) }
    }
}

impl From<Rejection> for Enrichment {
    fn from(why: Rejection) -> Self {
        Enrichment::Reject(why)
    }
}

impl Target {
    /// An endpoint's own address.
    pub fn endpoint(name: impl Into<String>) -> Self {
        Target { endpoint: name.into(), address: None, key: None }
    }

    /// Topic, queue or address there, taken literally.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The ordering key, where the endpoint has one.
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl Admission {
    /// Lets the client in, and changes nothing yet.
    pub fn new() -> Self {
        Admission { target: None, client_id: None, attributes: Vec::new(), expires_at_ms: None }
    }

    /// Where the session reads or publishes.
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Replaces the client id that the client claimed.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// On every event of the session, as `session.KEY`.
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((key.into(), value.into()));
        self
    }

    /// The session is closed then, milliseconds since the Unix epoch.
    pub fn expires_at_ms(mut self, at: u64) -> Self {
        self.expires_at_ms = Some(at);
        self
    }
}

impl Default for Admission {
    fn default() -> Self {
        Admission::new()
    }
}

impl From<Admission> for Decision {
    fn from(admission: Admission) -> Self {
        Decision::Accept(admission)
    }
}

impl From<Rejection> for Decision {
    fn from(why: Rejection) -> Self {
        Decision::Reject(why)
    }
}

impl From<Vec<Target>> for Resolution {
    fn from(targets: Vec<Target>) -> Self {
        Resolution::Targets(targets)
    }
}

impl From<Rejection> for Resolution {
    fn from(why: Rejection) -> Self {
        Resolution::Reject(why)
    }
}
