//! Asks for the payload's size and passes: the least that a mapper costs.

use mediation_plugin::{Event, Mapper, Mapping};

#[derive(serde::Deserialize)]
struct MapperPass {}
mediation_guests::configured!(MapperPass);

impl Mapper for MapperPass {
    fn transform(&self, event: &Event) -> Mapping {
        std::hint::black_box(event.payload_size());
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: MapperPass);
