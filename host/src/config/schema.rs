//! The JSON Schema of the configuration, generated from the file's types; committed as config/schema.json.
//!
//! `faults` checks against it. It owns neither the types nor the messages about them.

use std::sync::LazyLock;

use jsonschema::{ValidationError, Validator};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::file::File;
use super::file_endpoint::{Kafka, Memory, loose};
use super::units;
use super::words::EndpointType;

/// The schema, as config/schema.json holds it.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kafka = generator.subschema_for::<Kafka>().to_value();
    let memory = generator.subschema_for::<Memory>().to_value();
    let mut root = generator.into_root_schema_for::<File>().to_value();
    tidy(&mut root);
    let by_type: Vec<Value> = [
        (EndpointType::Kafka, kafka),
        (EndpointType::Memory, memory),
        (EndpointType::Rabbitmq, loose(EndpointType::Rabbitmq)),
        (EndpointType::Mqtt5, loose(EndpointType::Mqtt5)),
        (EndpointType::Solace, loose(EndpointType::Solace)),
        (EndpointType::Jms, loose(EndpointType::Jms)),
    ]
    .into_iter()
    .map(|(kind, config)| {
        let required = if kind == EndpointType::Memory { json!([]) } else { json!(["config"]) };
        json!({
            "if": { "properties": { "type": { "const": kind.name() } }, "required": ["type"] },
            "then": { "properties": { "config": config }, "required": required },
        })
    })
    .collect();
    if let Some(Value::Object(endpoint)) = root.pointer_mut("/$defs/Endpoint") {
        endpoint.insert("allOf".to_owned(), Value::Array(by_type));
    }
    root
}

/// Makes the generated schema say what an editor and a message can use: a key is left out, never null; one of several
/// words is an `enum` with the words' descriptions in one text.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(tidy);
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|name| name != "null");
                if let [one] = types.as_slice() {
                    let one = one.clone();
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(mut any)) = map.remove("anyOf") {
                any.retain(|one| one.get("type").is_none_or(|name| name != "null"));
                match any.as_mut_slice() {
                    [Value::Object(one)] => one.iter().for_each(|(key, value)| {
                        map.entry(key.clone()).or_insert_with(|| value.clone());
                    }),
                    _ => {
                        map.insert("anyOf".to_owned(), Value::Array(any));
                    }
                }
            }
            words(map);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn words(map: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = map.get("oneOf") else { return };
    let texts: Option<Vec<(Value, String)>> = choices
        .iter()
        .map(|one| {
            let word = one.get("const")?;
            let text = one.get("description").and_then(Value::as_str).unwrap_or_default();
            Some((word.clone(), format!("{}: {text}", word.as_str()?)))
        })
        .collect();
    let Some(texts) = texts else { return };
    let own = map.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (words, lines): (Vec<Value>, Vec<String>) = texts.into_iter().unzip();
    map.remove("oneOf");
    map.insert("type".to_owned(), json!("string"));
    map.insert("enum".to_owned(), Value::Array(words));
    map.insert("description".to_owned(), json!(format!("{own}\n{}", lines.join("\n"))));
}

/// The schema and its compiled form. The result only fails when our own types are at fault, which a test rules out.
struct Compiled {
    schema: Value,
    validator: Result<Validator, String>,
}

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| {
    let schema = schema();
    let validator = jsonschema::options()
        .with_keyword("x-duration", units::duration_keyword)
        .with_keyword("x-size", units::size_keyword)
        .build(&schema)
        .map_err(|error| error.to_string());
    Compiled { schema, validator }
});

/// What the schema says against a value.
pub(super) fn faults(value: &Value) -> Result<Vec<ValidationError<'_>>, String> {
    match &COMPILED.validator {
        Ok(validator) => Ok(validator.iter_errors(value).collect()),
        Err(error) => Err(format!("the engine's own schema does not compile: {error}; please report it")),
    }
}

/// The part of the schema that holds the keyword at fault.
pub(super) fn around(error: &ValidationError<'_>) -> Option<&'static Value> {
    let path = error.schema_path().as_str();
    let (parent, _) = path.rsplit_once('/')?;
    COMPILED.schema.pointer(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/schema.json");

    #[test]
    fn schema_file_is_current() {
        let wanted = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(PATH, &wanted).unwrap();
        }
        let found = std::fs::read_to_string(PATH).unwrap_or_default();
        assert!(
            found == wanted,
            "config/schema.json is stale; renew it with: UPDATE_SCHEMA=1 cargo test -p mediation-engine schema"
        );
    }

    #[test]
    fn schema_compiles_and_describes_every_key() {
        assert!(COMPILED.validator.is_ok());
        let defs = COMPILED.schema.get("$defs").and_then(Value::as_object).unwrap();
        let all = defs.values().chain([&COMPILED.schema]);
        for (key, value) in all.filter_map(|def| def.get("properties")?.as_object()).flatten() {
            let place = value.get("description").or_else(|| value.get("$ref"));
            assert!(place.is_some(), "{key} has no description");
        }
    }
}
