//! All three stages in one component. The configuration says what each call does: `pass` (the default), `mark` (sets
//! `x-full-CALL`), `trap`, `spin`, `reject`, `panic`.

use mediation_plugin::{
    Admission, Decision, Enricher, Enrichment, Event, Mapper, Mapping, Output, Patch, Rejection, Resolution, Resolver,
};

#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    #[default]
    Pass,
    Mark,
    Trap,
    Spin,
    Reject,
    Panic,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Full {
    connect: Act,
    resolve: Act,
    enrich_session: Act,
    enrich: Act,
    transform: Act,
}
mediation_guests::configured!(Full);

impl Act {
    fn play<T: From<Rejection>>(self, pass: T, mark: impl FnOnce() -> T) -> T {
        match self {
            Act::Pass => pass,
            Act::Mark => mark(),
            Act::Trap => std::process::abort(),
            Act::Spin => loop {
                std::hint::black_box(0);
            },
            Act::Reject => Rejection::new("forbidden", "the configuration says so").into(),
            #[allow(clippy::panic, reason = "what a plugin's bug looks like")]
            Act::Panic => panic!("the configuration says so"),
        }
    }
}

impl Resolver for Full {
    fn connect(&self, _event: &Event) -> Decision {
        self.connect.play(Decision::Pass, || Admission::new().attribute("x-full-connect", "1").into())
    }

    fn resolve(&self, _event: &Event) -> Resolution {
        self.resolve.play(Resolution::Pass, || Resolution::Pass)
    }
}

impl Enricher for Full {
    fn enrich_session(&self, _event: &Event) -> Enrichment {
        self.enrich_session.play(Enrichment::Pass, || Patch::new().set("x-full-enrich-session", "1").into())
    }

    fn enrich(&self, _event: &Event) -> Enrichment {
        self.enrich.play(Enrichment::Pass, || Patch::new().set("x-full-enrich", "1").into())
    }
}

impl Mapper for Full {
    fn transform(&self, _event: &Event) -> Mapping {
        self.transform.play(Mapping::Pass, || Output::same().set("x-full-transform", "1").into())
    }
}

mediation_plugin::export!(full: Full);
