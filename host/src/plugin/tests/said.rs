//! Fuzzed answers: whatever guests return becomes events within the limits, or words. The reference is naive: it joins
//! bytes one by one.

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::chains::{closed, pass, with_headers};
use super::*;
use crate::event::{EventId, Header, Payload};
use crate::plugin::answer;
use crate::plugin::outcome::{self, Mapped, OUTPUTS};
use crate::plugin::voice::Voice;

const LARGE: usize = 5 << 20;
static LARGE_BYTES: LazyLock<Bytes> = LazyLock::new(|| vec![b'L'; LARGE].into());

/// What a guest makes: [`answer::Output`], to be printed and cloned.
#[derive(Debug, Clone)]
struct Made {
    body: Body,
    set: Vec<(String, String)>,
    remove: Vec<String>,
    address: Option<String>,
    key: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Body {
    Same,
    Absent,
    Pieces(Vec<Piece>),
}

#[derive(Debug, Clone)]
enum Piece {
    Range(Place, Place),
    Bytes(Vec<u8>),
    Large,
}

/// An offset or a size.
#[derive(Debug, Clone, Copy)]
enum Place {
    At(u64),
    /// So much less or more than the payload's size.
    Size(i64),
    /// So much less than a power of two.
    Below(u32, u64),
}

impl Place {
    fn of(self, size: usize) -> u64 {
        match self {
            Self::At(at) => at,
            Self::Size(more) => (size as u64).saturating_add_signed(more),
            Self::Below(bits, less) => 1_u64.checked_shl(bits).unwrap_or(0).wrapping_sub(less),
        }
    }
}

fn keys() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "key",
        "content_type",
        "traceparent",
        "header.content-type",
        "header.x",
        "header.X",
        "header.",
        "header.mediation.id",
        "header.Mediation.ID",
        "header.MEDIATION.null",
        "mediation.null",
        "mediation.",
        "mediation.id",
        "session.tenant",
        "session.",
        "topic",
        "timestamp",
        "x",
        "",
        "header.ünïcödé--",
        "a\r\nb: c",
        "header.a\r\nb",
        "\0",
    ]);
    let header = texts().prop_map(|text| format!("header.{text}"));
    prop_oneof![6 => known.prop_map(str::to_owned), 1 => any::<String>(), 1 => header]
}

fn texts() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec!["", "#", "*", "orders/#", "a.*", "\r\n", "\0", "#1", "..", "\u{202e}"]);
    prop_oneof![
        6 => any::<String>(),
        2 => odd.prop_map(str::to_owned),
        1 => (1..100_000_usize).prop_map(|size| "h".repeat(size)),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    let place = || {
        let bits = prop::sample::select(vec![31, 32, 63, 64]);
        prop_oneof![
            4 => (0..12_u64).prop_map(Place::At),
            2 => (-12..3_i64).prop_map(Place::Size),
            1 => (bits, 0..3_u64).prop_map(|(bits, less)| Place::Below(bits, less)),
        ]
    };
    let piece = prop_oneof![
        8 => (place(), place()).prop_map(|(offset, size)| Piece::Range(offset, size)),
        8 => (0..4_u64, 0..4_u64).prop_map(|(offset, size)| Piece::Range(Place::At(offset), Place::At(size))),
        8 => vec(any::<u8>(), 0..20).prop_map(Piece::Bytes),
        1 => Just(Piece::Large),
    ];
    let body =
        prop_oneof![2 => Just(Body::Same), 1 => Just(Body::Absent), 3 => vec(piece, 0..4).prop_map(Body::Pieces)];
    let (set, remove) = (vec((keys(), texts()), 0..4), vec(keys(), 0..3));
    (body, set, remove, option::of(texts()), option::of(vec(any::<u8>(), 0..9)))
        .prop_map(|(body, set, remove, address, key)| Made { body, set, remove, address, key })
}

/// A payload in one piece or several; or none.
fn events() -> impl Strategy<Value = Event> {
    let small = vec(vec(any::<u8>(), 0..9), 0..4);
    let pieces = small.prop_map(|all| all.into_iter().map(Bytes::from).collect::<Vec<_>>());
    let pieces = prop_oneof![20 => pieces, 1 => Just(vec![LARGE_BYTES.clone()])];
    let headers = vec(prop::sample::select(vec!["mediation.id", "Mediation.Trace", "x", "X", "content-type"]), 0..4);
    (option::of(pieces), headers, option::of(vec(any::<u8>(), 0..4))).prop_map(|(pieces, headers, key)| Event {
        payload: pieces.map(Payload::joined),
        key: key.map(Bytes::from),
        headers: headers.into_iter().map(|name| Header { name: name.into(), value: Some("own".into()) }).collect(),
        ..samples::event(b"")
    })
}

fn pairs(of: &[(String, String)]) -> answer::Pairs {
    of.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

fn answered(made: &Made, size: usize) -> answer::Output {
    let piece = |piece: &Piece| match piece {
        Piece::Range(offset, length) => answer::Piece::Range((offset.of(size), length.of(size))),
        Piece::Bytes(bytes) => answer::Piece::Bytes(bytes.clone().into()),
        Piece::Large => answer::Piece::Bytes(LARGE_BYTES.clone()),
    };
    answer::Output {
        body: match &made.body {
            Body::Same => answer::Body::Same,
            Body::Absent => answer::Body::Absent,
            Body::Pieces(pieces) => answer::Body::Pieces(pieces.iter().map(piece).collect()),
        },
        set: pairs(&made.set),
        remove: made.remove.iter().map(|key| key.as_str().into()).collect(),
        address: made.address.as_deref().map(Into::into),
        key: made.key.clone().map(Bytes::from),
    }
}

fn bytes(event: &Event) -> Option<Vec<u8>> {
    event.payload.as_ref().map(|payload| payload.to_bytes().to_vec())
}

/// What the body should be; Err: a range outside of it.
fn reference(body: &Body, from: Option<&[u8]>) -> Result<Option<Vec<u8>>, ()> {
    let pieces = match body {
        Body::Same => return Ok(from.map(<[u8]>::to_vec)),
        Body::Absent => return Ok(None),
        Body::Pieces(pieces) => pieces,
    };
    let (whole, mut all) = (from.unwrap_or_default(), Vec::new());
    for piece in pieces {
        match piece {
            Piece::Bytes(bytes) => all.extend(bytes),
            Piece::Large => all.extend(LARGE_BYTES.iter()),
            Piece::Range(offset, size) => {
                let (offset, size) = (u128::from(offset.of(whole.len())), u128::from(size.of(whole.len())));
                if offset + size > whole.len() as u128 {
                    return Err(());
                }
                all.extend(whole.iter().skip(offset as usize).take(size as usize));
            }
        }
    }
    Ok(Some(all))
}

fn engines(key: &str) -> bool {
    let header = key.strip_prefix("header.").map(str::to_ascii_lowercase);
    key.starts_with("mediation.") || key.starts_with("session.") || header.is_some_and(|h| h.starts_with("mediation."))
}

/// What is the engine's own is as it was, what was set last is what is read.
fn patched(event: &Event, from: &Event, set: &[(String, String)]) -> Result<(), TestCaseError> {
    prop_assert_eq!((&event.id, &event.source, event.timestamp_ms), (&from.id, &from.source, from.timestamp_ms));
    let own = |event: &Event| -> Vec<(Box<str>, Option<Bytes>)> {
        let ours = event.headers.iter().filter(|header| header.name.to_ascii_lowercase().starts_with("mediation."));
        ours.map(|header| (header.name.as_ref().into(), header.value.clone())).collect()
    };
    prop_assert_eq!(own(event), own(from), "headers of the engine");
    let attributes = event.attributes.iter().flat_map(|list| list.iter());
    prop_assert_eq!(attributes.filter(|(key, _)| engines(key)).count(), 0, "attributes of the engine");
    let alias = |key: &str| match key.to_ascii_lowercase().strip_prefix("header.") {
        Some(name) => format!("header.{name}").replace("header.content-type", "content_type"),
        None => key.to_owned(),
    };
    for (at, (key, value)) in set.iter().enumerate() {
        let last = set[at + 1..].iter().all(|(later, _)| alias(later) != alias(key));
        let elsewhere = matches!(&*alias(key), "content_type" | "header.traceparent");
        if last && !engines(key) && !elsewhere {
            let read = event.get(key);
            prop_assert_eq!(read.as_deref(), Some(value.as_str()), "{:?}", key);
        }
    }
    Ok(())
}

fn voice() -> Voice {
    Voice::new("p".into(), Metrics::new().plugin("p"))
}

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_a_mapper_emits_is_as_a_naive_reader_has_it(
        event in events(),
        all in prop_oneof![12 => vec(made(), 0..4), 1 => vec(made(), 0..70)],
    ) {
        let from = bytes(&event);
        let size = from.as_ref().map_or(0, Vec::len);
        let emitted = answer::Mapping::Emit(all.iter().map(|made| answered(made, size)).collect());
        let mapped = outcome::mapped(emitted, &event, &voice());
        let mut left = (size * 4).max(16 << 20);
        let mut wanted = Vec::new();
        let mut refused = (all.len() > OUTPUTS).then_some("64 are the most");
        for made in &all {
            if refused.is_some() {
                break;
            }
            match reference(&made.body, from.as_deref()) {
                Err(()) => refused = Some("outside of a payload"),
                Ok(payload) => match left.checked_sub(payload.as_ref().map_or(0, Vec::len)) {
                    None => refused = Some("four times the payload"),
                    Some(rest) => {
                        left = rest;
                        wanted.push(payload);
                    }
                },
            }
        }
        let outputs = match (mapped, refused) {
            (Err(why), Some(part)) => {
                prop_assert!(why.contains(part) && why.len() < 1024, "{why}: {part}");
                return Ok(());
            }
            (Ok(Mapped::Out(outputs)), None) => outputs,
            (mapped, _) => {
                let said = mapped.map(|_| "taken");
                return Err(TestCaseError::fail(format!("{said:?}, expected {refused:?}")));
            }
        };
        prop_assert_eq!(outputs.len(), all.len());
        for ((output, made), payload) in outputs.iter().zip(&all).zip(wanted) {
            prop_assert!(bytes(&output.event) == payload, "{:?}: other bytes", made.body);
            prop_assert_eq!(output.address.as_deref(), made.address.as_deref());
            let set = made.set.iter().rev().find(|(key, _)| key == "key").map(|(_, value)| value.as_bytes().to_vec());
            let kept = made.key.clone().or_else(|| event.key.as_ref().map(|key| key.to_vec()));
            let key = set.or_else(|| kept.filter(|_| !made.remove.iter().any(|key| key == "key")));
            prop_assert_eq!(output.event.key.as_ref().map(|key| key.to_vec()), key);
            patched(&output.event, &event, &made.set)?;
        }
    }

    #[test]
    fn what_an_enricher_sets_never_touches_what_is_the_engines(
        event in events(), set in vec((keys(), texts()), 0..20), remove in vec(keys(), 0..20),
    ) {
        let patch = answer::Patch { set: pairs(&set), remove: remove.iter().map(|key| key.as_str().into()).collect() };
        let enriched = outcome::enriched(answer::Enrichment::Patch(patch), &event, &voice());
        let Ok(Some(enriched)) = enriched else { return Err(TestCaseError::fail("a patch is a patch")) };
        prop_assert!(bytes(&enriched) == bytes(&event), "another payload");
        patched(&enriched, &event, &set)?;
        // Nothing that reads it fails on it.
        prop_assert!(enriched.size() >= bytes(&enriched).map_or(0, |all| all.len()));
        for (key, value) in enriched.metadata().iter().filter(|(key, _)| !key.starts_with("header.")) {
            prop_assert_eq!(enriched.get(key).map(Into::<String>::into), Some(value.clone()), "{:?}", key);
        }
    }

    #[test]
    fn what_a_resolver_says_is_taken_over_as_it_is_up_to_64_targets(
        all in vec((texts(), option::of(texts()), option::of(vec(any::<u8>(), 0..9))), 0..70),
        admission in (option::of(texts()), vec((keys(), texts()), 0..9), option::of(any::<u64>())),
    ) {
        let target = |(endpoint, address, key): &(String, Option<String>, Option<Vec<u8>>)| answer::Target {
            endpoint: endpoint.clone(),
            address: address.as_deref().map(Into::into),
            key: key.clone().map(Bytes::from),
        };
        match outcome::resolution(answer::Resolution::Targets(all.iter().map(target).collect())) {
            Ok(Resolution::Targets(targets)) => {
                let targets = targets.into_iter().map(|one| {
                    (one.endpoint, one.address.map(|text| text.to_string()), one.key.map(|key| key.to_vec()))
                });
                prop_assert_eq!(targets.collect::<Vec<_>>(), all.clone());
                prop_assert!(all.len() <= OUTPUTS);
            }
            other => prop_assert!(all.len() > OUTPUTS && other.is_err()),
        }
        let (client_id, attributes, expires_at_ms) = admission;
        let given = answer::Admission {
            target: all.first().map(target),
            client_id: client_id.clone(),
            attributes: pairs(&attributes),
            expires_at_ms,
        };
        let Decision::Accept(taken) = outcome::decision(answer::Decision::Accept(given)) else {
            return Err(TestCaseError::fail("it was admitted"));
        };
        prop_assert_eq!((taken.client_id, taken.expires_at_ms), (client_id, expires_at_ms));
        prop_assert_eq!(taken.target.is_some(), !all.is_empty());
        prop_assert_eq!(taken.attributes, pairs(&attributes));
    }
}

#[test]
fn what_guests_say_comes_through_a_chain_within_its_limits() {
    let host = host(&[("r", "resolver-demo"), ("v", "verdict"), ("w", "wrap")], Vec::new());
    let of = closed(&host, &["r"], &["v", "w"]);
    proptest!(config(), |(
        payload in prop::sample::select(vec![&b""[..], b"x", b"{\"a\":1}"]),
        verdict in prop::sample::select(vec!["drop", "none", "absent", "reject", "retry", "double", "pass"]),
        address in option::of(texts()), strip in option::of(keys()),
        fan in option::of(texts()), key in option::of(texts()),
    )| {
        let mut headers = vec![("x-verdict", verdict), ("mediation.id", "own")];
        let asked = [("x-address", &address), ("x-strip", &strip), ("x-fan", &fan), ("x-key", &key)];
        headers.extend(asked.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        let passed = pass(&of, with_headers(payload, &headers));
        let own = samples::event(b"").id;
        match passed.result {
            Err(failure) => {
                let told = failure.reason() == "rejected:told-to" && matches!(verdict, "reject" | "retry");
                prop_assert!(told, "{failure}");
            }
            Ok(outcome) => {
                let count = match verdict {
                    _ if fan.as_deref() == Some("none") => 0,
                    "drop" | "none" => 0,
                    "double" => 2,
                    _ => 1,
                };
                prop_assert_eq!(outcome.events.len(), count);
                let targets = outcome.targets.map(|all| all.len());
                let fans = fan.as_ref().filter(|fan| *fan != "none").map(|fan| fan.split(',').count());
                prop_assert_eq!(targets, fans);
                for (routed, part) in outcome.events.iter().zip(1..) {
                    let id = if count == 1 { own.clone() } else { EventId::Part { of: Arc::new(own.clone()), part } };
                    prop_assert_eq!(&routed.event.id, &id);
                    let header = routed.event.header("mediation.id").map(|value| value.to_vec());
                    let shown = if count == 1 { "own".to_owned() } else { id.to_string() };
                    prop_assert_eq!(header, Some(shown.into_bytes()));
                    if verdict != "pass" || address.is_some() {
                        prop_assert_eq!(routed.address.as_deref(), address.as_deref());
                    }
                    let inside: &[u8] = if verdict == "absent" { b"" } else { payload };
                    prop_assert_eq!(bytes(&routed.event), Some([b"{\"data\":", inside, b"}"].concat()));
                }
            }
        }
    });
}
