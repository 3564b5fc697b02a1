//! Takes memory, a MiB at a time, until there is none, when its trigger (`HOG`) is pulled.

use mediation_guests::Trigger;
use mediation_plugin::{Event, Mapper, Mapping};

#[derive(serde::Deserialize)]
struct Hog(Trigger);
mediation_guests::configured!(Hog);

impl Mapper for Hog {
    fn transform(&self, event: &Event) -> Mapping {
        if self.0.pulled(event, "HOG") {
            let mut all = Vec::new();
            loop {
                all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        }
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: Hog);
