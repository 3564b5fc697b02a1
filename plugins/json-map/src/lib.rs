//! Picks, renames, sets and removes fields of a JSON payload, by JSON pointer (`/order/id`).
//!
//! In this order: `pick`, `rename`, `set`, `copy`, `remove`. docs/plugins-bundled.md has its configuration.

use mediation_plugin::{Event, Mapper, Mapping, Output, Plugin};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The configuration, and the plugin.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonMap {
    /// Only these stay, where they are; empty: all.
    pick: Vec<String>,
    /// From where to where.
    rename: BTreeMap<String, String>,
    /// Fixed values.
    set: BTreeMap<String, Value>,
    /// Values of metadata, by key.
    copy: BTreeMap<String, String>,
    /// These go.
    remove: Vec<String>,
    /// A payload that is not JSON: rejected (the default), or passed on as it is.
    pass_other: bool,
}

/// The parts of a pointer, unescaped.
fn parts(pointer: &str) -> impl Iterator<Item = String> {
    pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"))
}

/// Puts a value where the pointer says; what is on the way and holds no fields becomes an object.
fn put(document: &mut Value, pointer: &str, value: Value) {
    let mut at = document;
    for part in parts(pointer) {
        if !at.is_object() && !at.is_array() {
            *at = Value::Object(Map::new());
        }
        let next = match at {
            Value::Array(all) => part.parse::<usize>().ok().and_then(|n| all.get_mut(n)),
            Value::Object(fields) => Some(fields.entry(part).or_insert(Value::Null)),
            _ => None,
        };
        let Some(next) = next else { return };
        at = next;
    }
    *at = value;
}

/// Takes the value out of where the pointer says.
fn take(document: &mut Value, pointer: &str) -> Option<Value> {
    let (parent, _) = pointer.rsplit_once('/')?;
    let last = parts(pointer).last()?;
    match document.pointer_mut(parent)? {
        Value::Object(fields) => fields.shift_remove(&last),
        Value::Array(all) => last.parse().ok().filter(|n| *n < all.len()).map(|n| all.remove(n)),
        _ => None,
    }
}

impl JsonMap {
    fn map(&self, mut document: Value, event: &Event) -> Value {
        if !self.pick.is_empty() {
            let mut picked = Value::Object(Map::new());
            for pointer in &self.pick {
                if let Some(value) = document.pointer(pointer) {
                    put(&mut picked, pointer, value.clone());
                }
            }
            document = picked;
        }
        for (from, to) in &self.rename {
            if let Some(value) = take(&mut document, from) {
                put(&mut document, to, value);
            }
        }
        for (pointer, value) in &self.set {
            put(&mut document, pointer, value.clone());
        }
        for (pointer, key) in &self.copy {
            if let Some(value) = event.get(key) {
                put(&mut document, pointer, value.into());
            }
        }
        for pointer in &self.remove {
            take(&mut document, pointer);
        }
        document
    }
}

impl Plugin for JsonMap {
    type Config = Self;

    fn new(config: Self) -> Result<Self, String> {
        let renamed = config.rename.iter().flat_map(|(from, to)| [from, to]);
        let set = config.set.keys().chain(config.copy.keys());
        let all = config.pick.iter().chain(renamed).chain(set).chain(&config.remove);
        let mut any = false;
        for pointer in all {
            any = true;
            if !pointer.starts_with('/') {
                return Err(format!("config: the JSON pointer {pointer:?} has to start with /, as in \"/order/id\""));
            }
        }
        if any { Ok(config) } else { Err("config: has none of `pick`, `rename`, `set`, `copy`, `remove`".into()) }
    }
}

impl Mapper for JsonMap {
    fn transform(&self, event: &Event) -> Mapping {
        match event.json() {
            Ok(document) => Output::bytes(self.map(document, event).to_string()).into(),
            Err(_) if self.pass_other => Mapping::Pass,
            Err(why) => why.into(),
        }
    }
}

mediation_plugin::export!(mapper: JsonMap);

#[cfg(test)]
mod tests {
    use super::*;
    use mediation_plugin::{config, testing};

    fn mapped(config: &str, payload: &str) -> Mapping {
        let event = testing::Event::upstream().with_payload(payload).with("session.tenant", "acme");
        config::parse::<JsonMap>(config).unwrap().transform(&event.lend())
    }

    #[test]
    fn fields_are_picked_renamed_set_copied_and_removed() {
        let config = r#"{"pick": ["/id", "/order", "/none"], "rename": {"/order/sum": "/total", "/gone": "/x"},
            "set": {"/meta/v": 2, "/order/items/0/q": 1}, "copy": {"/tenant": "session.tenant", "/y": "none"},
            "remove": ["/order/secret", "/no/such"]}"#;
        let payload = r#"{"secret": 1, "order": {"sum": 5, "secret": "s", "items": [{}, {}]}, "id": "a~/b"}"#;
        let expected = r#"{"id":"a~/b","order":{"items":[{"q":1},{}]},"total":5,"meta":{"v":2},"tenant":"acme"}"#;
        assert_eq!(mapped(config, payload), Output::bytes(expected).into());
    }

    #[test]
    fn pointers_are_unescaped() {
        assert_eq!(mapped(r#"{"rename": {"/a~1b": "/c~0d"}}"#, r#"{"a/b":1}"#), Output::bytes(r#"{"c~d":1}"#).into());
    }

    #[test]
    fn what_is_not_json_is_rejected_or_passed() {
        let rejected = mapped(r#"{"remove": ["/a"]}"#, "hello");
        assert!(matches!(&rejected, Mapping::Reject(why) if why.code == "json-invalid"), "{rejected:?}");
        assert_eq!(mapped(r#"{"remove": ["/a"], "pass_other": true}"#, "hello"), Mapping::Pass);
    }

    #[test]
    fn a_wrong_configuration_names_the_key() {
        let error = |text| config::parse::<JsonMap>(text).err().unwrap();
        assert!(error("{}").contains("none of `pick`"));
        assert!(error(r#"{"remove": ["order"]}"#).contains("\"order\" has to start with /"));
        assert!(error(r#"{"drop": []}"#).contains("unknown field `drop`"));
    }
}
