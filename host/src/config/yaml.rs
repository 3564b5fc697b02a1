//! YAML text to a value tree that knows its lines; `${ENV}` expanded on the way. The first stage of loading.
//!
//! One pass over the parser's marked events, so that lines and values cannot disagree. Duplicate keys are refused; aliases
//! are followed, merge keys are not known.

use std::collections::{BTreeMap, HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};

use super::env::{self, Env};
use super::problem::Finding;

/// Nesting and nodes at most: a file of aliases to aliases must not fill memory.
const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;

/// Line by path (`routes[2].target`).
#[derive(Debug, Default)]
pub(super) struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// The line of the path, or of the nearest thing around it.
    pub(super) fn of(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = path.get(..path.rfind(['.', '['])?)?;
        }
    }
}

/// A scalar that held variables.
#[derive(Debug, Clone)]
pub(super) struct Expanded {
    /// As the file has it: what messages show instead of the value.
    pub(super) source: String,
    /// The other way to type it (text or number), for when the schema wants that one.
    pub(super) other: Value,
}

/// A file's content.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) value: Value,
    pub(super) lines: Lines,
    /// By JSON pointer.
    pub(super) expanded: HashMap<String, Expanded>,
    pub(super) faults: Vec<Finding>,
    /// The line of a fault of syntax: nothing after it was read.
    pub(super) broken: Option<(usize, String)>,
}

/// Where the reader is: the path for people, the pointer for machines.
#[derive(Clone, Default)]
struct Place {
    path: String,
    pointer: String,
    depth: usize,
}

impl Place {
    fn key(&self, key: &str) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        let escaped = key.replace('~', "~0").replace('/', "~1");
        Self {
            path: format!("{}{dot}{key}", self.path),
            pointer: format!("{}/{escaped}", self.pointer),
            depth: self.depth + 1,
        }
    }

    fn item(&self, index: usize) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            pointer: format!("{}/{index}", self.pointer),
            depth: self.depth + 1,
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    env: Env<'a>,
    tree: Tree,
    anchors: HashMap<usize, Value>,
    nodes: usize,
}

/// The end of reading: line and reason.
type Stop = (usize, String);

/// Reads a file.
pub(super) fn read(text: &str, env: Env<'_>) -> Tree {
    let mut reader =
        Reader { parser: Parser::new_from_str(text), env, tree: Tree::default(), anchors: HashMap::new(), nodes: 0 };
    match reader.document() {
        Ok(value) => reader.tree.value = value,
        Err(stop) => reader.tree.broken = Some(stop),
    }
    reader.tree
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok(found)) => Ok(found),
            Some(Err(error)) => Err((error.marker().line(), format!("not valid YAML: {}", error.info()))),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Value, Stop> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root.unwrap_or(Value::Object(Map::new()))),
                (Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd, _) => {}
                (_, span) if root.is_some() => {
                    return Err((span.start.line(), "a second YAML document; keep one".to_owned()));
                }
                (event, span) => root = Some(self.node(event, span, &Place::default())?),
            }
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, place: &Place) -> Result<Value, Stop> {
        let line = span.start.line();
        self.nodes += 1;
        if place.depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err((
                line,
                format!("more than {MAX_DEPTH} levels or {MAX_NODES} values; no configuration needs that"),
            ));
        }
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (self.scalar(&text, style, tag.as_deref(), place), anchor),
            Event::SequenceStart(anchor, _) => (self.sequence(place)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(place)?, anchor),
            Event::Alias(id) => {
                let value = self.anchors.get(&id).cloned().unwrap_or_default();
                self.nodes += count(&value);
                (value, 0)
            }
            _ => return Err((line, "not valid YAML: a value was expected".to_owned())),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    fn sequence(&mut self, place: &Place) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Array(items)),
                (event, span) => {
                    let place = place.item(items.len());
                    self.tree.lines.0.insert(place.path.clone(), span.start.line());
                    items.push(self.node(event, span, &place)?);
                }
            }
        }
    }

    fn mapping(&mut self, place: &Place) -> Result<Value, Stop> {
        let mut map = Map::new();
        loop {
            let (key, line) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Object(map)),
                (Event::Scalar(text, ..), span) => (text.into_owned(), span.start.line()),
                (_, span) => return Err((span.start.line(), "a key that is not plain text; write one".to_owned())),
            };
            let place = place.key(&key);
            let first = if map.contains_key(&key) { self.tree.lines.of(&place.path) } else { None };
            self.tree.lines.0.insert(place.path.clone(), line);
            let (event, span) = self.next()?;
            let value = self.node(event, span, &place)?;
            if let Some(first) = first {
                let text = format!("duplicate key, first on line {first}; keep one");
                self.tree.faults.push(Finding::new(&place.path, text));
            } else {
                map.insert(key, value);
            }
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, place: &Place) -> Value {
        let plain = style == ScalarStyle::Plain && tag.is_none();
        match env::expand(text, self.env) {
            Ok(None) if plain => typed(text),
            Ok(None) => Value::String(text.to_owned()),
            Ok(Some(new)) => {
                let as_text = Value::String(new.clone());
                let as_typed = match typed(&new) {
                    // Only numbers and booleans: a variable that is empty or says `null` is text.
                    Value::Null => as_text.clone(),
                    typed => typed,
                };
                let (value, other) = if plain { (as_typed, as_text) } else { (as_text, as_typed) };
                let source = text.to_owned();
                self.tree.expanded.insert(place.pointer.clone(), Expanded { source, other });
                value
            }
            Err(fault) => {
                self.tree.faults.push(Finding::new(&place.path, fault));
                Value::Null
            }
        }
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// A plain scalar by YAML's core schema. Digits with a leading zero stay text: they are codes, not numbers.
fn typed(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let number = if let Some(hex) = text.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok().map(Number::from)
    } else if let Some(octal) = text.strip_prefix("0o") {
        u64::from_str_radix(octal, 8).ok().map(Number::from)
    } else if digits.starts_with('0') && digits.len() > 1 && !digits.starts_with("0.") {
        None
    } else if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        let text = text.strip_prefix('+').unwrap_or(text);
        let whole = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
        whole.ok().or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64))
    } else {
        None
    };
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> Value {
        let tree = read(text, &|name| (name == "PORT").then(|| "8066".to_owned()));
        assert!(tree.broken.is_none() && tree.faults.is_empty(), "{tree:?}");
        tree.value
    }

    #[test]
    fn scalars_are_typed_as_yaml_says() {
        assert_eq!(
            value("[1, -2, 0x10, 1.5, true, off, ~, '1', \"true\", 007, 1s, !!str 5, -x, 1e3]"),
            json!([1, -2, 16, 1.5, true, "off", null, "1", "true", "007", "1s", "5", "-x", 1000.0])
        );
        assert_eq!(value(""), json!({}));
        assert_eq!(value("a: ${PORT}\nb: \"${PORT}\"\nc: x${PORT}"), json!({"a": 8066, "b": "8066", "c": "x8066"}));
        assert_eq!(value("a: &x {b: 1}\nc: *x"), json!({"a": {"b": 1}, "c": {"b": 1}}));
    }

    #[test]
    fn lines_are_those_of_the_keys() {
        let tree = read("# first\nroutes:\n  - source: a\n    target:\n      b\n  - {source: c}\n", &|_| None);
        let at = |path: &str| tree.lines.of(path);
        assert_eq!((at("routes"), at("routes[0].target"), at("routes[1].source")), (Some(2), Some(4), Some(6)));
        assert_eq!((at("routes[0].match.path"), at("nothing")), (Some(3), None));
    }

    #[test]
    fn what_cannot_be_read_names_its_line() {
        let broken = |text: &str| read(text, &|_| None).broken.map(|(line, _)| line);
        assert_eq!(broken("a: 1\nb: [1, 2\nc: 3\n"), Some(3));
        assert_eq!(broken("a: 1\n---\nb: 2\n"), Some(3));
        assert!(broken(&"[".repeat(200)).is_some());
        let bomb =
            (1..30).fold("a0: &a0 [1, 1]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1));
        assert!(broken(&bomb).is_some());
    }
}
