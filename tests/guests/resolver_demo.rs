//! A resolver by rules. At connect the first rule whose `path` (with a `*` at its end: a prefix) fits decides:
//! `reject` is a code; else it admits with `endpoint`, `address`, `client_id`, `attributes`, `expires_at_ms` or
//! `expires_in_ms`. No rule: pass.
//!
//! Each event goes where `header.x-fan` says: `kafka-main,other:topic` is two targets, `none` is none, and
//! `header.x-refuse` is a code to reject with (`header.x-retry`: for now). Neither: pass.

use mediation_plugin::{Admission, Decision, Event, Rejection, Resolution, Resolver, Target};
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Demo {
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    path: String,
    reject: Option<String>,
    endpoint: Option<String>,
    address: Option<String>,
    client_id: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
    expires_at_ms: Option<u64>,
    expires_in_ms: Option<u64>,
}
mediation_guests::configured!(Demo);

impl Rule {
    fn fits(&self, path: &str) -> bool {
        self.path.strip_suffix('*').map_or(path == self.path, |prefix| path.starts_with(prefix))
    }

    fn decide(&self) -> Decision {
        if let Some(code) = &self.reject {
            return Rejection::new(code, format!("the rule for {} says so", self.path)).into();
        }
        let target =
            self.endpoint.as_ref().map(|name| Target { address: self.address.clone(), ..Target::endpoint(name) });
        let from_now = self.expires_in_ms.map(|ms| mediation_plugin::now_ms().saturating_add(ms));
        Decision::Accept(Admission {
            target,
            client_id: self.client_id.clone(),
            attributes: self.attributes.clone().into_iter().collect(),
            expires_at_ms: self.expires_at_ms.or(from_now),
        })
    }
}

impl Resolver for Demo {
    fn connect(&self, event: &Event) -> Decision {
        let path = event.get("path").unwrap_or_default();
        self.rules.iter().find(|rule| rule.fits(&path)).map_or(Decision::Pass, Rule::decide)
    }

    fn resolve(&self, event: &Event) -> Resolution {
        if let Some(code) = event.get("header.x-refuse") {
            let retry = event.get("header.x-retry").is_some();
            return Resolution::Reject(Rejection { retry, ..Rejection::new(code, "the event asked for it") });
        }
        match event.get("header.x-fan").as_deref() {
            None => Resolution::Pass,
            Some("none") => Resolution::Targets(Vec::new()),
            Some(fan) => Resolution::Targets(fan.split(',').map(|part| target(part.trim())).collect()),
        }
    }
}

fn target(text: &str) -> Target {
    match text.split_once(':') {
        Some((endpoint, address)) => Target::endpoint(endpoint).address(address),
        None => Target::endpoint(text),
    }
}

mediation_plugin::export!(resolver: Demo);
