//! Never returns from `init`.

use mediation_plugin::{Event, Mapper, Mapping, Plugin};

#[derive(serde::Deserialize)]
struct InitSpin {}

impl Plugin for InitSpin {
    type Config = Self;
    fn new(_config: Self) -> Result<Self, String> {
        loop {
            std::hint::black_box(0);
        }
    }
}

impl Mapper for InitSpin {
    fn transform(&self, _event: &Event) -> Mapping {
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: InitSpin);
