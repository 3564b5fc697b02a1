//! Puts the payload, shared, between two texts: `{"data":` and `}` unless the configuration has `before` and `after`.

use mediation_plugin::{Event, Mapper, Mapping, Output};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wrap {
    before: String,
    after: String,
}
mediation_guests::configured!(Wrap);

impl Default for Wrap {
    fn default() -> Self {
        Wrap { before: r#"{"data":"#.into(), after: "}".into() }
    }
}

impl Mapper for Wrap {
    fn transform(&self, event: &Event) -> Mapping {
        Output::wrap(self.before.as_str(), event.payload_size(), self.after.as_str()).into()
    }
}

mediation_plugin::export!(mapper: Wrap);
