//! Schema faults as findings: where, what, and what to do. `mod` calls it with the value tree.
//!
//! Values are shown only where the schema names the words that a key takes, and a value that came out of the environment
//! never: its source text stands for it.

use std::collections::HashMap;

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::paths::{Location, LocationSegment};
use serde_json::Value;

use super::problem::{Finding, hint};
use super::schema;
use super::yaml::Expanded;

/// Checks `value`; what is at fault is taken out of it, so that the rest can be typed and checked too.
pub(super) fn check(value: &mut Value, expanded: &HashMap<String, Expanded>) -> Result<Vec<Finding>, String> {
    retype(value, expanded)?;
    let mut found: Vec<(Finding, Option<String>)> = Vec::new();
    for error in schema::faults(value)? {
        for (finding, pointer) in findings(&error, expanded) {
            // `type` and `enum` both speak about one value: the first is enough.
            if !found.iter().any(|(other, _)| other.path == finding.path) {
                found.push((finding, pointer));
            }
        }
    }
    for pointer in found.iter().filter_map(|(_, pointer)| pointer.as_deref()) {
        take_out(value, pointer);
    }
    Ok(found.into_iter().map(|(finding, _)| finding).collect())
}

/// `port: "${PORT}"` is meant as a number, `password: ${PASSWORD}` as text even if it is all digits: where the schema wants
/// the other type, an expanded scalar takes it.
fn retype(value: &mut Value, expanded: &HashMap<String, Expanded>) -> Result<(), String> {
    let wrong: Vec<String> = schema::faults(value)?
        .iter()
        .filter(|error| matches!(error.kind(), ValidationErrorKind::Type { .. } | ValidationErrorKind::Custom { .. }))
        .map(|error| error.instance_path().as_str().to_owned())
        .collect();
    for pointer in wrong {
        if let (Some(place), Some(found)) = (value.pointer_mut(&pointer), expanded.get(&pointer)) {
            *place = found.other.clone();
        }
    }
    Ok(())
}

/// Removes the nearest map entry; a fault in a list takes the whole list, whose default stands in.
fn take_out(value: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    match value.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&key.replace("~1", "/").replace("~0", "~"));
        }
        // The elements of the top lists keep their places: other messages name them by index.
        Some(Value::Array(items)) if parent.matches('/').count() == 1 => {
            if let Some(item) = key.parse::<usize>().ok().and_then(|index| items.get_mut(index)) {
                *item = Value::Null;
            }
        }
        Some(Value::Array(_)) => take_out(value, parent),
        _ => {}
    }
}

/// The findings of one fault, each with the pointer of what has to be taken out.
fn findings(error: &ValidationError<'_>, expanded: &HashMap<String, Expanded>) -> Vec<(Finding, Option<String>)> {
    let pointer = error.instance_path().as_str();
    let path = path_of(error.instance_path());
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|key| {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                (Finding::new(join(&path, key), unknown(error, key)), Some(format!("{pointer}/{escaped}")))
            })
            .collect(),
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            vec![(Finding::new(join(&path, key), "missing; add it"), None)]
        }
        kind => vec![(Finding::new(path, text(error, kind, expanded.get(pointer))), Some(pointer.to_owned()))],
    }
}

fn unknown(error: &ValidationError<'_>, key: &str) -> String {
    let known = schema::around(error).and_then(|part| part.get("properties")).and_then(Value::as_object);
    let names: Vec<&str> = known.map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default();
    let otherwise = match names.len() {
        0..=12 => format!("take it out, or use one of {}", names.join(", ")),
        _ => "take it out; config/schema.json has the keys".to_owned(),
    };
    format!("unknown key; {}", hint(key, names, &otherwise))
}

fn text(error: &ValidationError<'_>, kind: &ValidationErrorKind, expanded: Option<&Expanded>) -> String {
    let value = error.instance();
    let shown = || match (expanded, value.as_str()) {
        (Some(expanded), _) => format!("{:?}", expanded.source),
        (None, Some(text)) => format!("{text:?}"),
        (None, None) => value.to_string(),
    };
    match kind {
        ValidationErrorKind::Custom { message, .. } => match (expanded, message.split_once(" is out of range")) {
            (Some(_), Some((_, rest))) => format!("{} is out of range{rest}", shown()),
            _ => message.clone(),
        },
        ValidationErrorKind::Type { kind } => format!("expected {}, found {}", expected(error, kind), name_of(value)),
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let otherwise = format!("use one of {}", words.join(", "));
            format!("{} is not known here; {}", shown(), hint(value.as_str().unwrap_or_default(), words, &otherwise))
        }
        ValidationErrorKind::Minimum { .. } | ValidationErrorKind::Maximum { .. } => {
            let limit = |key| schema::around(error).and_then(|part| part.get(key)).map(Value::to_string);
            match (limit("minimum"), limit("maximum")) {
                (Some(min), Some(max)) => format!("{} is out of range; use {min} to {max}", shown()),
                (min, max) => format!("{} is out of range; use {}", shown(), min.or(max).unwrap_or_default()),
            }
        }
        ValidationErrorKind::MinLength { .. } | ValidationErrorKind::MinItems { .. } => {
            "empty; give it a value, or take the key out".to_owned()
        }
        ValidationErrorKind::MaxLength { limit } => format!("too long; use {limit} characters at most"),
        _ => "not valid here; see config/schema.json".to_owned(),
    }
}

fn expected(error: &ValidationError<'_>, kind: &TypeKind) -> String {
    let has = |key| schema::around(error).is_some_and(|part| part.get(key).is_some());
    if has("x-size") {
        return "a size, such as 65536 or 64KiB".to_owned();
    }
    if has("x-duration") {
        return "a duration with its unit, such as 30s".to_owned();
    }
    let names: Vec<String> = match kind {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(many) => many.iter().map(|one| one.to_string()).collect(),
    };
    names.iter().map(|name| people(name)).collect::<Vec<_>>().join(" or ")
}

fn people(name: &str) -> &'static str {
    match name {
        "array" => "a list",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "object" => "a map",
        "string" => "text",
        _ => "nothing",
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing; give it a value, or take the key out",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// `routes[2].target`.
fn path_of(location: &Location) -> String {
    location.iter().fold(String::new(), |path, segment| match segment {
        LocationSegment::Index(index) => format!("{path}[{index}]"),
        LocationSegment::Property(key) => join(&path, &key),
    })
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}
