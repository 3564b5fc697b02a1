//! Durations (`30s`, `1m30s`, `off`) and sizes (`64KiB`) as the configuration writes them, and the two schema keywords
//! (`x-duration`, `x-size`) that check them and their ranges together with everything else.

use std::time::Duration;

use jsonschema::paths::Location;
use jsonschema::{Keyword, ValidationError};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

/// A duration; None is `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Option<Duration>);

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) usize);

const TIMES: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 8] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// `1m30s`, `500ms`, `2h`: whole numbers with a unit each.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut millis = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = digits(rest)?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit.trim())?;
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
        rest = next;
    }
    Some(Duration::from_millis(millis))
}

/// `1MiB`, `64 KiB`, `1MB`, `4096`.
pub(super) fn size(text: &str) -> Option<usize> {
    let (number, unit) = digits(text.trim())?;
    let unit = unit.trim();
    let (_, factor) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    usize::try_from(number.checked_mul(*factor)?).ok()
}

fn digits(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    Some((number.parse().ok()?, rest))
}

/// A duration as the configuration writes it.
pub(super) fn show_duration(value: Option<Duration>) -> String {
    let Some(value) = value else { return "off".to_owned() };
    let mut millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, factor) in TIMES.iter().rev() {
        if millis >= *factor {
            out.push_str(&format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    out
}

/// A size as the configuration writes it, in the largest binary unit that divides it.
pub(super) fn show_size(value: usize) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if value > 0 && value % (1_usize << shift) == 0 {
            return format!("{}{unit}", value >> shift);
        }
    }
    value.to_string()
}

/// The `x-duration` of a key.
pub(super) fn times(min: &str, max: &str) -> Value {
    json!({ "min": min, "max": max })
}

/// The `x-duration` of a key that may be `off`.
pub(super) fn times_or_off(min: &str, max: &str) -> Value {
    json!({ "min": min, "max": max, "off": true })
}

/// The `x-size` of a key.
pub(super) fn sizes(min: &str, max: &str) -> Value {
    json!({ "min": min, "max": max })
}

/// The keyword `x-duration`, compiled.
struct TimeRange {
    min: String,
    max: String,
    off: bool,
}

impl TimeRange {
    fn fault(&self, value: &Value) -> Option<String> {
        let off = if self.off { ", or off" } else { "" };
        match value {
            // A YAML 1.1 tool turns `off` into `false` on its way here.
            Value::Bool(false) if self.off => None,
            Value::String(text) if self.off && text == "off" => None,
            Value::String(text) => match duration(text) {
                None => Some(format!(
                    "not a duration; write a number with its unit, such as \"30s\", \"1m30s\" or \"500ms\"{off}"
                )),
                Some(found) if Some(found) < duration(&self.min) || Some(found) > duration(&self.max) => {
                    Some(format!("{text:?} is out of range; use {} to {}{off}", self.min, self.max))
                }
                Some(_) => None,
            },
            _ => Some(format!("expected a duration; write a number with its unit, such as \"30s\"{off}")),
        }
    }
}

impl<'i> Keyword<'i> for TimeRange {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        self.fault(value).map_or(Ok(()), |text| Err(ValidationError::custom(text)))
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        self.fault(value).is_none()
    }
}

/// The keyword `x-size`, compiled.
struct SizeRange {
    min: String,
    max: String,
}

impl SizeRange {
    fn fault(&self, value: &Value) -> Option<String> {
        let found = match value {
            Value::String(text) => size(text),
            Value::Number(number) => number.as_u64().and_then(|n| usize::try_from(n).ok()),
            _ => None,
        };
        match found {
            None => Some("not a size; write bytes or a number with its unit, such as \"64KiB\" or \"1MiB\"".to_owned()),
            Some(_) if found < size(&self.min) || found > size(&self.max) => {
                let shown = value.as_str().map_or_else(|| value.to_string(), |text| format!("{text:?}"));
                Some(format!("{shown} is out of range; use {} to {}", self.min, self.max))
            }
            Some(_) => None,
        }
    }
}

impl<'i> Keyword<'i> for SizeRange {
    fn validate(&self, value: &'i Value) -> Result<(), ValidationError<'i>> {
        self.fault(value).map_or(Ok(()), |text| Err(ValidationError::custom(text)))
    }

    fn is_valid(&self, value: &'i Value) -> bool {
        self.fault(value).is_none()
    }
}

type Compiled<'a> = Result<Box<dyn for<'i> Keyword<'i>>, ValidationError<'a>>;

fn text_of(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Compiles `x-duration`.
pub(super) fn duration_keyword<'a>(_: &'a Map<String, Value>, value: &'a Value, _: Location) -> Compiled<'a> {
    let off = value.get("off").and_then(Value::as_bool).unwrap_or(false);
    Ok(Box::new(TimeRange { min: text_of(value, "min"), max: text_of(value, "max"), off }))
}

/// Compiles `x-size`.
pub(super) fn size_keyword<'a>(_: &'a Map<String, Value>, value: &'a Value, _: Location) -> Compiled<'a> {
    Ok(Box::new(SizeRange { min: text_of(value, "min"), max: text_of(value, "max") }))
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(false) => Ok(Self(None)),
            Value::String(text) if text == "off" => Ok(Self(None)),
            Value::String(text) => duration(&text).map(|d| Self(Some(d))).ok_or_else(|| no("duration")),
            _ => Err(no("duration")),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => size(&text).map(Self).ok_or_else(|| no("size")),
            Value::Number(n) => n.as_u64().and_then(|n| usize::try_from(n).ok()).map(Self).ok_or_else(|| no("size")),
            _ => Err(no("size")),
        }
    }
}

fn no<E: serde::de::Error>(what: &str) -> E {
    E::custom(format!("not a {what}"))
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_duration(self.0))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&show_size(self.0))
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    // No `type`: the keyword says it better, and takes the `false` that some tools make of `off`.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({})
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let ms = |text| duration(text).map(|d| d.as_millis());
        assert_eq!(ms("30s"), Some(30_000));
        assert_eq!(ms("1m30s"), Some(90_000));
        assert_eq!(ms("500ms"), Some(500));
        assert_eq!(ms("1h 5m"), Some(3_900_000));
        for bad in ["", "30", "s", "1.5s", "-1s", "1s2", "5 parsecs", "99999999999999999999s", "999999999999999999h"] {
            assert_eq!(ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_have_units_or_are_bytes() {
        assert_eq!(size("1MiB"), Some(1 << 20));
        assert_eq!(size("64 KiB"), Some(65536));
        assert_eq!(size("1MB"), Some(1_000_000));
        assert_eq!(size("17"), Some(17));
        for bad in ["", "MiB", "1 MiBB", "-1", "1.5MiB", "99999999999GiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["0s", "1ms", "1m30s", "1h", "2d"] {
            assert_eq!(show_duration(duration(text)), text);
        }
        assert_eq!(show_duration(None), "off");
        for text in ["64KiB", "1MiB", "3GiB", "1000000", "0"] {
            assert_eq!(size(text).map(show_size).as_deref(), Some(text));
        }
    }
}
