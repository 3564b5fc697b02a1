//! Emits `outputs` events (3): all but the last are equal parts of the payload as ranges, the last is `same`. Each has
//! its number from 0 in `x-part` and `header.x-part`.

use mediation_plugin::{Event, Mapper, Mapping, Output};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Split {
    #[serde(default = "three")]
    outputs: u64,
}
mediation_guests::configured!(Split);

fn three() -> u64 {
    3
}

impl Mapper for Split {
    fn transform(&self, event: &Event) -> Mapping {
        let (size, parts) = (event.payload_size(), self.outputs.saturating_sub(1).max(1));
        let cut = |n: u64| size * n / parts;
        let output = |n: u64| match n + 1 < self.outputs {
            true => Output::range(cut(n), cut(n + 1) - cut(n)),
            false => Output::same(),
        };
        let numbered = |n: u64| output(n).set("x-part", n.to_string()).set("header.x-part", n.to_string());
        Mapping::Emit((0..self.outputs).map(numbered).collect())
    }
}

mediation_plugin::export!(mapper: Split);
