//! Sends a session to an endpoint and address by the request's path, query, headers and client id.
//!
//! Asked at connect; docs/plugins-bundled.md has its configuration. What clients publish goes where their session leads.

use mediation_plugin::matching::{Conditions, Template};
use mediation_plugin::{Admission, Decision, Direction, Event, Plugin, Rejection, Resolver, Target};
use std::collections::BTreeMap;

/// The configuration, and the plugin.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRouter {
    rules: Vec<Rule>,
    /// What happens to a request that no rule holds for: the route's own target, or 404.
    #[serde(default)]
    otherwise: Otherwise,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Otherwise {
    #[default]
    Pass,
    Reject,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default, rename = "match")]
    when: Conditions,
    direction: Option<Way>,
    endpoint: String,
    address: Option<Template>,
    key: Option<Template>,
    #[serde(default)]
    attributes: BTreeMap<String, Template>,
}

#[derive(PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Upstream,
    Downstream,
}

impl Rule {
    fn is_of(&self, direction: Direction) -> bool {
        match self.direction {
            None => true,
            Some(Way::Upstream) => direction == Direction::Upstream,
            Some(Way::Downstream) => direction == Direction::Downstream,
        }
    }

    fn admit(&self, event: &Event, named: &[(String, String)]) -> Result<Admission, Rejection> {
        let fill = |template: &Template| {
            template
                .fill(event, named)
                .map_err(|name| Rejection::new("bad-request", format!("the request has no value for {name}")))
        };
        let mut target = Target::endpoint(&self.endpoint);
        target.address = self.address.as_ref().map(fill).transpose()?;
        target.key = self.key.as_ref().map(fill).transpose()?.map(Into::into);
        let mut admission = Admission::new().target(target);
        for (key, value) in &self.attributes {
            admission = admission.attribute(key, fill(value)?);
        }
        Ok(admission)
    }
}

impl Plugin for RequestRouter {
    type Config = Self;

    fn new(config: Self) -> Result<Self, String> {
        if config.rules.is_empty() {
            return Err("config.rules: is empty; say at least one, or take the plugin off its route".into());
        }
        Ok(config)
    }
}

impl Resolver for RequestRouter {
    fn connect(&self, event: &Event) -> Decision {
        let direction = event.direction();
        let mut rules = self.rules.iter().filter(|rule| rule.is_of(direction));
        let found = rules.find_map(|rule| rule.when.hold(event, None).map(|named| (rule, named)));
        match (found, &self.otherwise) {
            (Some((rule, named)), _) => rule.admit(event, &named).map_or_else(Decision::Reject, Decision::Accept),
            (None, Otherwise::Pass) => Decision::Pass,
            (None, Otherwise::Reject) => Rejection::new("not-found", "no rule leads this request anywhere").into(),
        }
    }
}

mediation_plugin::export!(resolver: RequestRouter);

#[cfg(test)]
mod tests {
    use super::*;
    use mediation_plugin::{config, testing};

    const CONFIG: &str = r#"{"otherwise": "reject", "rules": [
        {"match": {"path": "/orders/{tenant}/*", "header": {"x-region": "eu*"}}, "direction": "upstream",
         "endpoint": "kafka-eu", "address": "orders.{tenant}", "key": "{client_id}", "attributes": {"tenant": "{tenant}"}},
        {"match": {"path": "/orders/{tenant}/*"}, "endpoint": "kafka-main", "address": "{query.topic}"}]}"#;

    fn connect(event: testing::Event) -> Decision {
        config::parse::<RequestRouter>(CONFIG).unwrap().connect(&event.lend())
    }

    #[test]
    fn the_first_rule_that_holds_decides() {
        let event = testing::Event::upstream().with("path", "/orders/acme/1").with("header.x-region", "eu-west");
        let target = Target::endpoint("kafka-eu").address("orders.acme").key("client-1");
        assert_eq!(connect(event), Admission::new().target(target).attribute("tenant", "acme").into());
        let event = testing::Event::downstream()
            .with("path", "/orders/acme/1")
            .with("header.x-region", "eu-west")
            .with("query.topic", "t");
        assert_eq!(connect(event), Admission::new().target(Target::endpoint("kafka-main").address("t")).into());
    }

    #[test]
    fn a_request_without_a_value_or_a_rule_is_refused() {
        let code = |event| match connect(event) {
            Decision::Reject(why) => why.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(testing::Event::upstream().with("path", "/orders/acme/1")), "bad-request");
        assert_eq!(code(testing::Event::upstream().with("path", "/else")), "not-found");
    }

    #[test]
    fn a_wrong_configuration_names_the_key() {
        let error = |text: &str| config::parse::<RequestRouter>(text).err().unwrap();
        assert!(error("{}").contains("missing field `rules`"), "{}", error("{}"));
        assert!(error(r#"{"rules": []}"#).starts_with("config.rules: is empty"));
        let wrong = error(r#"{"rules": [{"endpoint": "a", "match": {"path": "orders"}}]}"#);
        assert!(wrong.starts_with("config.rules[0].match.path: path \"orders\" has to start with /"), "{wrong}");
    }
}
