//! From what guests answer to the engine's values, within limits: here a guest's answer becomes an event.

use std::sync::Arc;

use super::answer::{self, Body, Mapping, Piece};
use super::voice::Voice;
use super::{Admission, Decision, Output, Rejection, Resolution, SessionEnriched, Target};
use crate::event::{Event, Payload};

/// Outputs of one event, and targets.
pub(super) const OUTPUTS: usize = 64;
/// Bytes that one answer may hold, for small payloads.
const BYTES: usize = 16 << 20;

/// Bytes that the answer to an event may hold.
pub(super) fn allowance(event: &Event) -> usize {
    event.payload.as_ref().map_or(0, Payload::len).saturating_mul(4).max(BYTES)
}

/// What a mapper made: None for pass.
pub(super) enum Mapped {
    Pass,
    Out(Vec<Output>),
    Reject(Rejection),
}

/// # Errors
/// Why the answer is refused.
pub(super) fn mapped(mapping: Mapping, event: &Event, voice: &Voice) -> Result<Mapped, String> {
    let outputs = match mapping {
        Mapping::Pass => return Ok(Mapped::Pass),
        Mapping::Drop => return Ok(Mapped::Out(Vec::new())),
        Mapping::Reject(rejection) => return Ok(Mapped::Reject(rejection.into())),
        Mapping::Emit(outputs) => outputs,
    };
    if outputs.len() > OUTPUTS {
        return Err(format!("{} outputs of one event; {OUTPUTS} are the most", outputs.len()));
    }
    let mut left = allowance(event);
    outputs.into_iter().map(|one| output(one, event, &mut left, voice)).collect::<Result<_, _>>().map(Mapped::Out)
}

fn output(one: answer::Output, from: &Event, left: &mut usize, voice: &Voice) -> Result<Output, String> {
    let payload = match one.body {
        Body::Same => from.payload.clone(),
        Body::Absent => None,
        Body::Pieces(pieces) => Some(joined(pieces, from)?),
    };
    let size = payload.as_ref().map_or(0, Payload::len);
    *left = left.checked_sub(size).ok_or_else(|| {
        format!("its outputs hold more than {} bytes: 16 MiB, or four times the payload", allowance(from))
    })?;
    let mut event = Event { payload, ..from.clone() };
    if let Some(key) = one.key {
        event.key = Some(key);
    }
    patch(&mut event, &one.set, &one.remove, voice);
    Ok(Output { event, address: one.address })
}

fn joined(pieces: Vec<Piece>, from: &Event) -> Result<Payload, String> {
    let nothing = Payload::default();
    let whole = from.payload.as_ref().unwrap_or(&nothing);
    let mut parts = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => parts.push(bytes),
            Piece::Range((offset, size)) => {
                if !whole.share(offset, size, &mut parts) {
                    let end = offset.saturating_add(size);
                    return Err(format!("range {offset}..{end} is outside of a payload of {} bytes", whole.len()));
                }
            }
        }
    }
    Ok(Payload::joined(parts))
}

/// Applies what a guest sets and removes.
pub(super) fn patch(event: &mut Event, set: &[(Box<str>, Box<str>)], remove: &[Box<str>], voice: &Voice) {
    let refuse = |key: &str| voice.warn(&format!("it may not set or remove {key:?}: the key is the engine's own"));
    for key in remove {
        if !event.remove(key) {
            refuse(key);
        }
    }
    for (key, value) in set {
        if !event.set(key, value) {
            refuse(key);
        }
    }
}

pub(super) fn decision(answer: answer::Decision) -> Decision {
    match answer {
        answer::Decision::Pass => Decision::Pass,
        answer::Decision::Reject(rejection) => Decision::Reject(rejection.into()),
        answer::Decision::Accept(given) => Decision::Accept(Admission {
            target: given.target.map(Into::into),
            client_id: given.client_id,
            attributes: given.attributes,
            expires_at_ms: given.expires_at_ms,
        }),
    }
}

/// # Errors
/// Why the answer is refused.
pub(super) fn resolution(answer: answer::Resolution) -> Result<Resolution, String> {
    match answer {
        answer::Resolution::Pass => Ok(Resolution::Pass),
        answer::Resolution::Reject(rejection) => Ok(Resolution::Reject(rejection.into())),
        answer::Resolution::Targets(all) if all.len() > OUTPUTS => {
            Err(format!("{} targets of one event; {OUTPUTS} are the most", all.len()))
        }
        answer::Resolution::Targets(all) => Ok(Resolution::Targets(all.into_iter().map(Into::into).collect())),
    }
}

pub(super) fn session(answer: answer::Enrichment) -> SessionEnriched {
    match answer {
        answer::Enrichment::Pass => SessionEnriched::Pass,
        answer::Enrichment::Reject(rejection) => SessionEnriched::Reject(rejection.into()),
        answer::Enrichment::Patch(patch) => {
            let removed = patch.remove.into_iter().map(|key| (key, None));
            SessionEnriched::Patch(
                removed.chain(patch.set.into_iter().map(|(key, value)| (key, Some(value)))).collect(),
            )
        }
    }
}

impl From<answer::Rejection> for Rejection {
    fn from(answer: answer::Rejection) -> Self {
        Self { code: answer.code, message: answer.message, retry: answer.retry }
    }
}

impl From<answer::Target> for Target {
    fn from(answer: answer::Target) -> Self {
        Self { endpoint: answer.endpoint, address: answer.address, key: answer.key }
    }
}

/// The event with an enricher's patch; None where it passed.
pub(super) fn enriched(
    answer: answer::Enrichment,
    event: &Event,
    voice: &Voice,
) -> Result<Option<Arc<Event>>, Rejection> {
    match answer {
        answer::Enrichment::Pass => Ok(None),
        answer::Enrichment::Reject(rejection) => Err(rejection.into()),
        answer::Enrichment::Patch(by) => {
            let mut event = event.clone();
            patch(&mut event, &by.set, &by.remove, voice);
            Ok(Some(Arc::new(event)))
        }
    }
}
