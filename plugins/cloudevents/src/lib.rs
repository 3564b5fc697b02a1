//! CloudEvents 1.0: puts events into the format and takes them out of it, structured (one JSON document) or binary
//! (attributes as headers), either direction.
//!
//! The payload is not copied out: in a structured envelope JSON data stays a part of the input, and is taken as JSON
//! by its content type without a look. Batches are not handled. docs/plugins-bundled.md has the configuration.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use mediation_plugin::matching::Template;
use mediation_plugin::{Event, Mapper, Mapping, Output, Plugin, Rejection};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

const STRUCTURED: &str = "application/cloudevents+json";

/// The configuration, and the plugin.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudEvents {
    action: Action,
    #[serde(default)]
    mode: Mode,
    /// Attributes besides `id` and `time`, which are the event's.
    #[serde(default)]
    attributes: BTreeMap<String, Template>,
    /// Of the headers in binary mode: `ce_` as on Kafka, `ce-` as in HTTP.
    #[serde(default = "kafka")]
    prefix: String,
    /// What data without a content type is.
    #[serde(default = "json_type")]
    default_content_type: String,
}

#[derive(PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Wrap,
    Unwrap,
}

#[derive(Default, PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Structured,
    Binary,
}

fn kafka() -> String {
    "ce_".into()
}

fn json_type() -> String {
    "application/json".into()
}

/// What a structured event is read as; `data` stays where it is.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
    #[serde(flatten)]
    attributes: BTreeMap<String, Value>,
}

fn is_json(content_type: &str) -> bool {
    let bare = content_type.split(';').next().unwrap_or_default().trim();
    bare.ends_with("/json") || bare.ends_with("+json")
}

impl CloudEvents {
    fn attributes(&self, event: &Event) -> Result<BTreeMap<String, String>, Rejection> {
        let time = UNIX_EPOCH.checked_add(Duration::from_millis(event.timestamp_ms())).unwrap_or(UNIX_EPOCH);
        let mut all = BTreeMap::from([
            ("specversion".into(), "1.0".into()),
            ("id".into(), event.id()),
            ("source".into(), format!("/{}", event.source_id())),
            ("type".into(), "mediation.event".into()),
            ("time".into(), humantime::format_rfc3339_millis(time).to_string()),
        ]);
        for (name, template) in &self.attributes {
            let missing = |of: &str| {
                Rejection::new("cloudevents-incomplete", format!("attribute {name}: the event has no value for {of}"))
            };
            all.insert(name.clone(), template.fill(event, &[]).map_err(missing)?);
        }
        Ok(all)
    }

    fn wrap(&self, event: &Event) -> Result<Output, Rejection> {
        let mut attributes = self.attributes(event)?;
        let content_type = event.get("content_type").unwrap_or_else(|| self.default_content_type.clone());
        if self.mode == Mode::Binary {
            let headers = attributes.into_iter().map(|(name, value)| (format!("header.{}{name}", self.prefix), value));
            let mut output = Output::same().set("content_type", content_type);
            output.set.extend(headers);
            return Ok(output);
        }
        attributes.insert("datacontenttype".into(), content_type.clone());
        let head = json!(attributes).to_string();
        let head = head.trim_end_matches('}');
        let output = if event.payload_size() == 0 {
            Output::bytes(format!("{head}}}"))
        } else if is_json(&content_type) {
            Output::wrap(format!("{head},\"data\":"), event.payload_size(), "}")
        } else {
            match String::from_utf8(event.payload()) {
                Ok(text) if content_type.starts_with("text/") => {
                    Output::bytes(format!("{head},\"data\":{}}}", json!(text)))
                }
                Ok(text) => Output::bytes(format!("{head},\"data_base64\":\"{}\"}}", BASE64.encode(text))),
                Err(e) => Output::bytes(format!("{head},\"data_base64\":\"{}\"}}", BASE64.encode(e.as_bytes()))),
            }
        };
        Ok(output.set("content_type", STRUCTURED))
    }

    fn unwrap_structured(event: &Event) -> Result<Output, Rejection> {
        let invalid =
            |why: String| Rejection::new("cloudevents-invalid", format!("the payload is no CloudEvent: {why}"));
        let payload = event.payload();
        let envelope: Envelope = serde_json::from_slice(&payload).map_err(|e| invalid(e.to_string()))?;
        if envelope.attributes.get("specversion").is_none_or(|version| version != "1.0") {
            return Err(invalid("specversion is not 1.0".into()));
        }
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), Into::into);
        let content_type = envelope.attributes.get("datacontenttype").map_or_else(json_type, text);
        let output = match (envelope.data, envelope.data_base64) {
            (None, Some(data)) => Output::bytes(BASE64.decode(data).map_err(|e| invalid(e.to_string()))?),
            (None, None) => Output::bytes(""),
            (Some(data), _) if !is_json(&content_type) && data.get().starts_with('"') => {
                Output::bytes(serde_json::from_str::<String>(data.get()).map_err(|e| invalid(e.to_string()))?)
            }
            (Some(data), _) => {
                let offset = data.get().as_ptr() as usize - payload.as_ptr() as usize;
                Output::range(offset as u64, data.get().len() as u64)
            }
        };
        let mut output = output.set("content_type", content_type);
        let others = envelope.attributes.iter().filter(|(name, _)| *name != "datacontenttype");
        output.set.extend(others.map(|(name, value)| (format!("ce.{name}"), text(value))));
        Ok(output)
    }

    /// Headers become `ce.NAME`, as in structured mode.
    fn unwrap_binary(&self, event: &Event) -> Result<Output, Rejection> {
        let prefix = format!("header.{}", self.prefix);
        let mut output = Output::same();
        for (key, value) in event.metadata() {
            if let Some(name) = key.strip_prefix(&prefix) {
                output = output.set(format!("ce.{name}"), value).remove(key);
            }
        }
        match output.set.iter().any(|(key, _)| key == "ce.specversion") {
            true => Ok(output),
            false => {
                Err(Rejection::new("cloudevents-invalid", format!("there is no header {}specversion", self.prefix)))
            }
        }
    }
}

impl Plugin for CloudEvents {
    type Config = Self;

    fn new(config: Self) -> Result<Self, String> {
        for name in config.attributes.keys() {
            if !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) || name.is_empty() {
                return Err(format!("config.attributes: {name:?} may have lower-case letters and digits only"));
            }
            if ["specversion", "data", "datacontenttype"].contains(&name.as_str()) {
                return Err(format!("config.attributes.{name}: is set by the plugin; leave it out"));
            }
        }
        if config.action == Action::Unwrap && !config.attributes.is_empty() {
            return Err("config.attributes: is for `action: wrap` only; leave it out".into());
        }
        Ok(config)
    }
}

impl Mapper for CloudEvents {
    fn transform(&self, event: &Event) -> Mapping {
        match (&self.action, &self.mode) {
            (Action::Wrap, _) => self.wrap(event).into(),
            (Action::Unwrap, Mode::Structured) => Self::unwrap_structured(event).into(),
            (Action::Unwrap, Mode::Binary) => self.unwrap_binary(event).into(),
        }
    }
}

mediation_plugin::export!(mapper: CloudEvents);

#[cfg(test)]
mod tests;
