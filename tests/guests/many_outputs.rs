//! Emits `count` (10,000) outputs when its trigger (`MANY`) is pulled.

use mediation_guests::Trigger;
use mediation_plugin::{Event, Mapper, Mapping, Output};

#[derive(serde::Deserialize)]
struct Many {
    #[serde(flatten)]
    trigger: Trigger,
    #[serde(default = "ten_thousand")]
    count: usize,
}
mediation_guests::configured!(Many);

fn ten_thousand() -> usize {
    10_000
}

impl Mapper for Many {
    fn transform(&self, event: &Event) -> Mapping {
        match self.trigger.pulled(event, "MANY") {
            true => Mapping::Emit(vec![Output::same(); self.count]),
            false => Mapping::Pass,
        }
    }
}

mediation_plugin::export!(mapper: Many);
