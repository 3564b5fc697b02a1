//! Traps in `init`, by a panic.

use mediation_plugin::{Event, Mapper, Mapping, Plugin};

#[derive(serde::Deserialize)]
struct InitTrap {}

impl Plugin for InitTrap {
    type Config = Self;
    #[allow(clippy::panic, reason = "what this guest is for")]
    fn new(_config: Self) -> Result<Self, String> {
        panic!("init went wrong")
    }
}

impl Mapper for InitTrap {
    fn transform(&self, _event: &Event) -> Mapping {
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: InitTrap);
