//! What guests answer, as the component model hands it over; [`outcome`](super::outcome) makes the engine's values of it.
#![allow(
    unsafe_code,
    reason = "derived: the component model's layout of these types, checked when a component is loaded"
)]

use std::sync::Arc;

use bytes::Bytes;
use wasmtime::component::{ComponentType, Lift};

pub(super) type Pairs = Vec<(Box<str>, Box<str>)>;

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Description {
    #[expect(dead_code, reason = "a plugin is called what its file is called")]
    pub(super) name: String,
    pub(super) version: String,
    pub(super) counters: Vec<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Rejection {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) retry: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Target {
    pub(super) endpoint: String,
    pub(super) address: Option<Arc<str>>,
    pub(super) key: Option<Bytes>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Admission {
    pub(super) target: Option<Target>,
    #[component(name = "client-id")]
    pub(super) client_id: Option<String>,
    pub(super) attributes: Pairs,
    #[component(name = "expires-at-ms")]
    pub(super) expires_at_ms: Option<u64>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum Decision {
    #[component(name = "pass")]
    Pass,
    #[component(name = "accept")]
    Accept(Admission),
    #[component(name = "reject")]
    Reject(Rejection),
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum Resolution {
    #[component(name = "pass")]
    Pass,
    #[component(name = "targets")]
    Targets(Vec<Target>),
    #[component(name = "reject")]
    Reject(Rejection),
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum Piece {
    #[component(name = "range")]
    Range((u64, u64)),
    #[component(name = "bytes")]
    Bytes(Bytes),
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum Body {
    #[component(name = "same")]
    Same,
    #[component(name = "pieces")]
    Pieces(Vec<Piece>),
    #[component(name = "absent")]
    Absent,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Output {
    pub(super) body: Body,
    pub(super) set: Pairs,
    pub(super) remove: Vec<Box<str>>,
    pub(super) address: Option<Arc<str>>,
    pub(super) key: Option<Bytes>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum Mapping {
    #[component(name = "pass")]
    Pass,
    #[component(name = "drop")]
    Drop,
    #[component(name = "emit")]
    Emit(Vec<Output>),
    #[component(name = "reject")]
    Reject(Rejection),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct Patch {
    pub(super) set: Pairs,
    pub(super) remove: Vec<Box<str>>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum Enrichment {
    #[component(name = "pass")]
    Pass,
    #[component(name = "patch")]
    Patch(Patch),
    #[component(name = "reject")]
    Reject(Rejection),
}
