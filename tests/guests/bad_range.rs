//! Emits one output with a range that is not in the payload, when its trigger (`RANGE`) is pulled. `kind` says which:
//! `past_end` (the default), `offset_past_end`, `offset_max`, `size_max`, `both_max`, `second` (a good range first).

use mediation_guests::Trigger;
use mediation_plugin::{Event, Mapper, Mapping, Output, Piece};

#[derive(serde::Deserialize)]
struct BadRange {
    #[serde(flatten)]
    trigger: Trigger,
    #[serde(default)]
    kind: Kind,
}
mediation_guests::configured!(BadRange);

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    PastEnd,
    OffsetPastEnd,
    OffsetMax,
    SizeMax,
    BothMax,
    Second,
}

impl Mapper for BadRange {
    fn transform(&self, event: &Event) -> Mapping {
        let size = event.payload_size();
        if !self.trigger.pulled(event, "RANGE") {
            return Mapping::Pass;
        }
        let bad = match self.kind {
            Kind::PastEnd | Kind::Second => (0, size + 1),
            Kind::OffsetPastEnd => (size + 1, 0),
            Kind::OffsetMax => (u64::MAX, 1),
            Kind::SizeMax => (1, u64::MAX),
            Kind::BothMax => (u64::MAX, u64::MAX),
        };
        let mut pieces = vec![Piece::Range(bad)];
        if matches!(self.kind, Kind::Second) {
            pieces.insert(0, Piece::Range((0, size)));
        }
        Output::pieces(pieces).into()
    }
}

mediation_plugin::export!(mapper: BadRange);
