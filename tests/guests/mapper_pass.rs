//! Asks for the payload's size and passes.

use mediation_plugin::{Event, Mapper, Mapping, Plugin};

#[derive(serde::Deserialize)]
struct MapperPass {}

impl Plugin for MapperPass {
    type Config = Self;
    fn new(config: Self) -> Result<Self, String> {
        Ok(config)
    }
}

impl Mapper for MapperPass {
    fn transform(&self, event: &Event) -> Mapping {
        let _size = event.payload_size();
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: MapperPass);
