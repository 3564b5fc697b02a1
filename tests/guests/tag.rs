//! Sets `x-tag` and `header.x-tag` from its configuration, and `x-generation`, `header.x-generation` where it has one;
//! at connect `tag` and `generation`. Counts `tagged`, logs a line at `debug`.

use mediation_plugin::{Enricher, Enrichment, Event, Patch, Plugin};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    tag: String,
    generation: Option<String>,
}

impl Plugin for Tag {
    type Config = Self;
    const COUNTERS: &'static [&'static str] = &["tagged"];
    fn new(config: Self) -> Result<Self, String> {
        Ok(config)
    }
}

impl Enricher for Tag {
    fn enrich_session(&self, _event: &Event) -> Enrichment {
        let mut patch = Patch::new().set("tag", &self.tag);
        if let Some(generation) = &self.generation {
            patch = patch.set("generation", generation);
        }
        patch.into()
    }

    fn enrich(&self, event: &Event) -> Enrichment {
        mediation_plugin::count("tagged", 1);
        mediation_plugin::debug!("{} gets {}", event.id(), self.tag);
        let mut patch = Patch::new().set("x-tag", &self.tag).set("header.x-tag", &self.tag);
        if let Some(generation) = &self.generation {
            patch = patch.set("x-generation", generation).set("header.x-generation", generation);
        }
        patch.into()
    }
}

mediation_plugin::export!(enricher: Tag);
