//! Keeps `kib` (64) KiB more with each call, for ever; never fails by itself.

use mediation_plugin::{Event, Mapper, Mapping};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Leak {
    #[serde(default = "some")]
    kib: usize,
}
mediation_guests::configured!(Leak);

fn some() -> usize {
    64
}

impl Mapper for Leak {
    fn transform(&self, _event: &Event) -> Mapping {
        std::mem::forget(std::hint::black_box(vec![1_u8; self.kib << 10]));
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: Leak);
