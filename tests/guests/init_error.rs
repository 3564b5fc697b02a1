//! Refuses its configuration unless it has `{"accept": true}`.

use mediation_plugin::{Event, Mapper, Mapping, Plugin};

#[derive(serde::Deserialize)]
struct InitError {
    #[serde(default)]
    accept: bool,
}

impl Plugin for InitError {
    type Config = Self;
    fn new(config: Self) -> Result<Self, String> {
        if config.accept { Ok(config) } else { Err("config.accept: is not true; set it".into()) }
    }
}

impl Mapper for InitError {
    fn transform(&self, _event: &Event) -> Mapping {
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: InitError);
