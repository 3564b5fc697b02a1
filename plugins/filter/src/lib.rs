//! Keeps the events for which an expression is true, and drops the others.
//!
//! The expression is CEL, the language of Envoy's and Kubernetes' policies: whoever runs this gateway beside them
//! knows it, it always ends, it has types, and a missing field is an error instead of a silent false. It sees `meta`
//! (map of metadata), `body` (the payload as JSON, `null` where it is none), `size`, `client_id`, `route`.
//! docs/plugins-bundled.md has its configuration.

use cel::{Context, Program, Value};
use mediation_plugin::{Event, Mapper, Mapping, Plugin, Rejection};

/// The plugin.
pub struct Filter {
    keep: Program,
    otherwise: OnError,
    reads_meta: bool,
    reads_body: bool,
}

/// The configuration.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    keep: String,
    #[serde(default)]
    on_error: OnError,
}

/// What happens to an event on which the expression fails.
#[derive(Clone, Copy, Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum OnError {
    #[default]
    Reject,
    Keep,
    Drop,
}

const NAMES: [&str; 5] = ["meta", "body", "size", "client_id", "route"];

impl Plugin for Filter {
    type Config = Config;
    const COUNTERS: &'static [&'static str] = &["dropped", "failed"];

    fn new(config: Config) -> Result<Self, String> {
        let keep = Program::compile(&config.keep).map_err(|e| format!("config.keep: is not a CEL expression: {e}"))?;
        let references = keep.references();
        // The variable of `all`, `map` and the like looks like any other: then an unknown name shows at the first event.
        let has_own = ["all(", "exists(", "exists_one(", "map(", "filter("].iter().any(|of| config.keep.contains(of));
        let unknown = references.variables().into_iter().find(|name| !NAMES.contains(name));
        if let Some(name) = unknown.filter(|_| !has_own) {
            return Err(format!("config.keep: there is no {name:?}; it may use {}", NAMES.join(", ")));
        }
        let (reads_meta, reads_body) = (references.has_variable("meta"), references.has_variable("body"));
        Ok(Filter { reads_meta, reads_body, keep, otherwise: config.on_error })
    }
}

impl Filter {
    fn keeps(&self, event: &Event) -> Result<bool, String> {
        let mut context = Context::default();
        let mut add = |name: &str, value: Value| context.add_variable_from_value(name.to_owned(), value);
        if self.reads_meta {
            let pairs: std::collections::HashMap<String, String> = event.metadata().into_iter().collect();
            add("meta", pairs.into());
        }
        if self.reads_body {
            let body: serde_json::Value = serde_json::from_slice(&event.payload()).unwrap_or_default();
            add("body", cel::to_value(body).map_err(|e| e.to_string())?);
        }
        add("size", Value::Int(i64::try_from(event.payload_size()).unwrap_or(i64::MAX)));
        add("client_id", event.client_id().into());
        add("route", event.route().into());
        match self.keep.execute(&context) {
            Ok(Value::Bool(keep)) => Ok(keep),
            Ok(other) => Err(format!("is {:?}, not true or false", other.type_of())),
            Err(e) => Err(e.to_string()),
        }
    }
}

impl Mapper for Filter {
    fn transform(&self, event: &Event) -> Mapping {
        match (self.keeps(event), self.otherwise) {
            (Ok(true), _) => Mapping::Pass,
            (Ok(false), _) => {
                mediation_plugin::count("dropped", 1);
                Mapping::Drop
            }
            (Err(why), on_error) => {
                mediation_plugin::count("failed", 1);
                mediation_plugin::debug!("config.keep {why}");
                match on_error {
                    OnError::Keep => Mapping::Pass,
                    OnError::Drop => Mapping::Drop,
                    OnError::Reject => Rejection::new("filter-failed", format!("config.keep {why}")).into(),
                }
            }
        }
    }
}

mediation_plugin::export!(mapper: Filter);

#[cfg(test)]
mod tests {
    use super::*;
    use mediation_plugin::{config, testing};

    fn filter(keep: &str, payload: &str) -> Mapping {
        let event = testing::Event::upstream().with_payload(payload).with_header("x-tenant", "acme");
        let config = serde_json::json!({ "keep": keep }).to_string();
        config::parse::<Filter>(&config).unwrap().transform(&event.lend())
    }

    #[test]
    fn an_expression_sees_metadata_and_fields() {
        let payload = r#"{"total": 120, "big": 3000000000, "price": 1.5, "items": [{"sku": "a-1"}], "none": null}"#;
        for keep in [
            r#"meta["header.x-tenant"] == "acme" && body.total > 100"#,
            r#"body.items.exists(i, i.sku.startsWith("a-"))"#,
            r#"!has(body.other) && body.none == null && body.price > 1.0 && body.big > 2999999999"#,
            r#""header.x-tenant" in meta && size > 10 && client_id == "client-1" && route == "route-1""#,
        ] {
            assert_eq!(filter(keep, payload), Mapping::Pass, "{keep}");
            assert_eq!(filter(&format!("!({keep})"), payload), Mapping::Drop, "{keep}");
        }
        assert_eq!(filter("body == null", "not json"), Mapping::Pass);
    }

    #[test]
    fn a_failing_expression_does_what_on_error_says() {
        let failed = filter("body.total > 100", "{}");
        assert!(matches!(&failed, Mapping::Reject(why) if why.code == "filter-failed"), "{failed:?}");
        assert!(matches!(filter("size + 1", ""), Mapping::Reject(why) if why.message.contains("not true or false")));
        let event = testing::Event::upstream().with_payload("{}");
        for (on_error, expected) in [("keep", Mapping::Pass), ("drop", Mapping::Drop)] {
            let config = serde_json::json!({ "keep": "body.total > 1", "on_error": on_error }).to_string();
            assert_eq!(config::parse::<Filter>(&config).unwrap().transform(&event.lend()), expected);
        }
        assert_eq!(testing::counted("failed"), 4);
    }

    #[test]
    fn a_wrong_configuration_names_the_key() {
        let error = |text: &str| config::parse::<Filter>(text).err().unwrap();
        assert!(error("{}").contains("missing field `keep`"));
        assert!(error(r#"{"keep": "1 +"}"#).starts_with("config.keep: is not a CEL expression"));
        let unknown = error(r#"{"keep": "bodi.x == 1"}"#);
        assert!(unknown.starts_with("config.keep: there is no \"bodi\"; it may use meta"), "{unknown}");
    }
}
