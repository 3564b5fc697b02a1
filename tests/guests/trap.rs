//! Traps when its trigger (`TRAP`) is pulled.

use mediation_guests::Trigger;
use mediation_plugin::{Event, Mapper, Mapping};

#[derive(serde::Deserialize)]
struct Trap(Trigger);
mediation_guests::configured!(Trap);

impl Mapper for Trap {
    fn transform(&self, event: &Event) -> Mapping {
        if self.0.pulled(event, "TRAP") {
            std::process::abort();
        }
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: Trap);
