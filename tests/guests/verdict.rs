//! A mapper that answers what the event asks for in `x-verdict` or `header.x-verdict`: `drop`, `none` (emits nothing),
//! `absent`, `reject`, `retry`, `double`; else passes. `header.x-address` and `header.x-key` are the output's address
//! and key; `header.x-strip` is a metadata key that it removes.

use mediation_plugin::{Event, Mapper, Mapping, Output, Rejection};

#[derive(serde::Deserialize)]
struct Verdict {}
mediation_guests::configured!(Verdict);

fn of(event: &Event, name: &str) -> Option<String> {
    event.get(name).or_else(|| event.get(&format!("header.{name}")))
}

fn dressed(mut output: Output, event: &Event) -> Output {
    output.address = of(event, "x-address");
    output.key = of(event, "x-key").map(Into::into);
    output.remove = of(event, "x-strip").into_iter().collect();
    output
}

impl Mapper for Verdict {
    fn transform(&self, event: &Event) -> Mapping {
        let plain = ["x-address", "x-key", "x-strip"].iter().all(|name| of(event, name).is_none());
        match of(event, "x-verdict").as_deref() {
            Some("drop") => Mapping::Drop,
            Some("none") => Mapping::Emit(Vec::new()),
            Some("absent") => dressed(Output::absent(), event).into(),
            Some("reject") => Rejection::new("told-to", "the event asked to be rejected").into(),
            Some("retry") => Rejection::new("told-to", "the event asked to be retried").retry().into(),
            Some("double") => vec![dressed(Output::same(), event), dressed(Output::same(), event)].into(),
            _ if plain => Mapping::Pass,
            _ => dressed(Output::same(), event).into(),
        }
    }
}

mediation_plugin::export!(mapper: Verdict);
