//! Conditions on an event, and texts with its values in them: what rules in a plugin's configuration are made of.
//! Used by the bundled plugins; not part of the interface.

use crate::Event;
use std::collections::BTreeMap;

/// A path of literal parts, `{name}` for one part, and at its end `*` for the rest: `/orders/{tenant}/*`.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct PathPattern {
    parts: Vec<Part>,
    rest: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Literal(String),
    Named(String),
}

impl TryFrom<String> for PathPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let trimmed = text.strip_prefix('/').ok_or_else(|| format!("path {text:?} has to start with /"))?;
        let (trimmed, rest) = match trimmed.strip_suffix('*') {
            Some(before) if before.is_empty() || before.ends_with('/') => (before.trim_end_matches('/'), true),
            Some(_) => return Err(format!("path {text:?}: * stands for whole parts, as in /orders/*")),
            None => (trimmed, false),
        };
        if trimmed.contains('*') {
            return Err(format!(
                "path {text:?}: * may only be its end; name a part in between, as in /orders/{{id}}/x"
            ));
        }
        let part = |part: &str| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => Part::Named(name.into()),
            None => Part::Literal(part.into()),
        };
        let parts = if rest && trimmed.is_empty() { Vec::new() } else { trimmed.split('/').map(part).collect() };
        Ok(PathPattern { parts, rest })
    }
}

impl PathPattern {
    /// The named parts' values where the path fits.
    pub fn fits(&self, path: &str) -> Option<Vec<(String, String)>> {
        let mut given = path.strip_prefix('/')?.split('/');
        let mut named = Vec::new();
        for part in &self.parts {
            match (part, given.next()?) {
                (Part::Literal(literal), value) if literal == value => {}
                (Part::Named(name), value) if !value.is_empty() => named.push((name.clone(), value.into())),
                _ => return None,
            }
        }
        (self.rest || given.next().is_none()).then_some(named)
    }
}

/// `*` at the end of a value stands for anything, also nothing.
fn value_fits(pattern: &str, value: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == value, |prefix| value.starts_with(prefix))
}

/// What has to be so for a rule to hold; what is not given holds. A value may end with `*`.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// The request's path.
    pub path: Option<PathPattern>,
    /// By header, any case.
    pub header: BTreeMap<String, String>,
    /// By query parameter.
    pub query: BTreeMap<String, String>,
    /// The client's id.
    pub client_id: Option<String>,
}

impl Conditions {
    /// The values of the path's named parts where all of it holds; `client_id` instead of the event's own where given.
    pub fn hold(&self, event: &Event, client_id: Option<&str>) -> Option<Vec<(String, String)>> {
        let held = |key: String, pattern: &str| event.get(&key).is_some_and(|value| value_fits(pattern, &value));
        let id = || client_id.map_or_else(|| event.client_id(), Into::into);
        let all = self.header.iter().all(|(name, value)| held(format!("header.{}", name.to_lowercase()), value))
            && self.query.iter().all(|(name, value)| held(format!("query.{name}"), value))
            && self.client_id.as_ref().is_none_or(|pattern| value_fits(pattern, &id()));
        match &self.path {
            _ if !all => None,
            None => Some(Vec::new()),
            Some(path) => path.fits(&event.get("path")?),
        }
    }
}

/// A text with values in it: `orders.{tenant}`, `{header.x-region|eu}` (`eu` where there is none). A name is a named part
/// of the path, `id`, `route`, `source_id`, `client_id`, or a metadata key.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Bit>);

#[derive(Clone, Debug, PartialEq)]
enum Bit {
    Text(String),
    Value { name: String, default: Option<String> },
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (mut bits, mut left) = (Vec::new(), text.as_str());
        while let Some((before, after)) = left.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("{text:?}: a {{ without its }}: close it"))?;
            bits.push(Bit::Text(before.into()));
            bits.push(match name.split_once('|') {
                Some((name, default)) => Bit::Value { name: name.into(), default: Some(default.into()) },
                None => Bit::Value { name: name.into(), default: None },
            });
            left = after;
        }
        bits.push(Bit::Text(left.into()));
        Ok(Template(bits))
    }
}

impl Template {
    /// The text; the error is the name that the event has no value for.
    pub fn fill(&self, event: &Event, named: &[(String, String)]) -> Result<String, &str> {
        let value = |name: &str| {
            let part = named.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
            part.or_else(|| match name {
                "id" => Some(event.id()),
                "route" => Some(event.route()),
                "source_id" => Some(event.source_id()),
                "client_id" => Some(event.client_id()),
                key => event.get(key),
            })
        };
        let mut text = String::new();
        for bit in &self.0 {
            match bit {
                Bit::Text(plain) => text.push_str(plain),
                Bit::Value { name, default } => {
                    text.push_str(&value(name).or_else(|| default.clone()).ok_or(name.as_str())?);
                }
            }
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn fits(pattern: &str, path: &str) -> Option<String> {
        let named = PathPattern::try_from(pattern.to_owned()).unwrap().fits(path)?;
        Some(named.iter().map(|(name, value)| format!("{name}={value} ")).collect())
    }

    #[test]
    fn a_path_has_named_parts_and_a_rest() {
        assert_eq!(fits("/orders/{tenant}/*", "/orders/acme/1/2").as_deref(), Some("tenant=acme "));
        assert_eq!(fits("/orders/*", "/orders/").as_deref(), Some(""));
        assert_eq!(fits("/*", "/").as_deref(), Some(""));
        assert_eq!(fits("/a", "/a").as_deref(), Some(""));
        for (pattern, path) in [("/a", "/a/b"), ("/a/{b}", "/a/"), ("/a/b", "/a"), ("/orders/*", "/ordersx")] {
            assert_eq!(fits(pattern, path), None, "{pattern} {path}");
        }
        for wrong in ["orders", "/ord*", "/*/x"] {
            assert!(PathPattern::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let event = testing::Event::upstream().with("path", "/a").with("query.q", "1").with_header("x-t", "acme-eu");
        let holds = |json: &str| serde_json::from_str::<Conditions>(json).unwrap().hold(&event.lend(), None).is_some();
        assert!(holds("{}"));
        assert!(holds(r#"{"path": "/a", "query": {"q": "1"}, "header": {"X-T": "acme-*"}, "client_id": "client-1"}"#));
        assert!(!holds(r#"{"path": "/a", "query": {"q": "2"}}"#));
        assert!(!holds(r#"{"header": {"x-other": "*"}}"#));
        assert!(!holds(r#"{"client_id": "client"}"#));
    }

    #[test]
    fn a_template_says_which_value_is_missing() {
        let event = testing::Event::upstream().with("header.x", "1");
        let fill = |text: &str| {
            let template = Template::try_from(text.to_owned()).unwrap();
            template.fill(&event.lend(), &[("t".into(), "acme".into())]).map_err(str::to_owned)
        };
        assert_eq!(fill("a.{t}.{header.x}.{client_id}").unwrap(), "a.acme.1.client-1");
        assert_eq!(fill("{no|eu}").unwrap(), "eu");
        assert_eq!(fill("{no}").unwrap_err(), "no");
        assert!(Template::try_from("{t".to_owned()).is_err());
    }
}
