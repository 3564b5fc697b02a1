//! Sets and removes metadata: fixed values, and copies from headers, query, path and session.
//!
//! A value that the event does not have is left out, not set empty. docs/plugins-bundled.md has its configuration.

use mediation_plugin::matching::{PathPattern, Template};
use mediation_plugin::{Enricher, Enrichment, Event, Patch, Plugin};
use std::collections::BTreeMap;

/// The configuration, and the plugin.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct SetMetadata {
    /// Gives its named parts to `session`.
    path: Option<PathPattern>,
    /// At connect; seen later as `session.KEY`.
    session: BTreeMap<String, Template>,
    /// On each event.
    set: BTreeMap<String, Template>,
    /// From each event.
    remove: Vec<String>,
}

fn patch(values: &BTreeMap<String, Template>, event: &Event, named: &[(String, String)]) -> Patch {
    let mut patch = Patch::new();
    for (key, template) in values {
        if let Ok(value) = template.fill(event, named) {
            patch = patch.set(key, value);
        }
    }
    patch
}

impl Plugin for SetMetadata {
    type Config = Self;

    fn new(config: Self) -> Result<Self, String> {
        if config.session.is_empty() && config.set.is_empty() && config.remove.is_empty() {
            return Err("config: has none of `session`, `set`, `remove`; say at least one".into());
        }
        let keys = config.session.keys().chain(config.set.keys()).chain(&config.remove);
        for key in keys {
            if key.chars().any(char::is_uppercase) {
                return Err(format!("config: the key {key:?} has upper-case letters; metadata keys are lower-case"));
            }
            if key.starts_with("mediation.") {
                return Err(format!("config: the key {key:?} belongs to the engine; choose another"));
            }
        }
        Ok(config)
    }
}

impl Enricher for SetMetadata {
    fn enrich_session(&self, event: &Event) -> Enrichment {
        let path = || self.path.as_ref()?.fits(&event.get("path")?);
        patch(&self.session, event, &path().unwrap_or_default()).into()
    }

    fn enrich(&self, event: &Event) -> Enrichment {
        let mut patch = patch(&self.set, event, &[]);
        patch.remove = self.remove.clone();
        patch.into()
    }
}

mediation_plugin::export!(enricher: SetMetadata);

#[cfg(test)]
mod tests {
    use super::*;
    use mediation_plugin::{config, testing};

    fn plugin(text: &str) -> SetMetadata {
        config::parse(text).unwrap()
    }

    #[test]
    fn a_session_gets_what_its_request_says() {
        let plugin = plugin(
            r#"{"path": "/t/{tenant}/*", "session": {"tenant": "{tenant}", "lang": "{query.lang|en}", "no": "{query.no}"}}"#,
        );
        let event = testing::Event::upstream().with("path", "/t/acme/x");
        assert_eq!(plugin.enrich_session(&event.lend()), Patch::new().set("lang", "en").set("tenant", "acme").into());
        assert_eq!(plugin.enrich(&event.lend()), Enrichment::Pass);
    }

    #[test]
    fn an_event_gets_fixed_values_and_copies() {
        let plugin =
            plugin(r#"{"set": {"header.x-tenant": "{session.tenant}", "header.x-by": "gateway"}, "remove": ["a"]}"#);
        let event = testing::Event::upstream().with("session.tenant", "acme");
        let expected = Patch::new().set("header.x-by", "gateway").set("header.x-tenant", "acme").remove("a");
        assert_eq!(plugin.enrich(&event.lend()), expected.into());
    }

    #[test]
    fn a_wrong_configuration_names_the_key() {
        for (text, says) in [
            ("{}", "none of `session`"),
            (r#"{"set": {"X-A": "1"}}"#, "\"X-A\" has upper-case"),
            (r#"{"set": {"mediation.x": "1"}}"#, "belongs to the engine"),
            (r#"{"set": {"a": "{b"}}"#, "config.set.a: \"{b\": a { without its }"),
        ] {
            let error = config::parse::<SetMetadata>(text).err().unwrap();
            assert!(error.contains(says), "{error}");
        }
    }
}
