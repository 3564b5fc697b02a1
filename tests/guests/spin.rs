//! Loops for ever when its trigger (`SPIN`) is pulled. A payload with `SLOW`, or each `every`th call, takes `slow_ms`
//! (5) instead, and then passes.

use mediation_guests::{Trigger, contains};
use mediation_plugin::{Event, Mapper, Mapping, now_ms};
use std::cell::Cell;

#[derive(serde::Deserialize)]
struct Spin {
    #[serde(flatten)]
    trigger: Trigger,
    #[serde(default = "five")]
    slow_ms: u64,
    every: Option<u64>,
    #[serde(skip)]
    calls: Cell<u64>,
}
mediation_guests::configured!(Spin);

fn five() -> u64 {
    5
}

fn burn() {
    for n in 0..1000_u32 {
        std::hint::black_box(n);
    }
}

impl Mapper for Spin {
    fn transform(&self, event: &Event) -> Mapping {
        self.calls.set(self.calls.get() + 1);
        if self.trigger.pulled(event, "SPIN") {
            loop {
                burn();
            }
        }
        if contains(event, "SLOW") || self.every.is_some_and(|every| self.calls.get().is_multiple_of(every.max(1))) {
            let until = now_ms() + self.slow_ms;
            while now_ms() < until {
                burn();
            }
        }
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: Spin);
