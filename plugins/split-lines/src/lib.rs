//! Turns a payload of lines (NDJSON) into one event a line, without copying: each is a part of the input.
//!
//! Empty lines are left out; a payload of one line passes as it is. docs/plugins-bundled.md has its configuration.

use mediation_plugin::{Event, Mapper, Mapping, Output, Plugin, Rejection};

/// How much is looked at in one go: what the plugin copies at once.
const CHUNK: u32 = 64 << 10;

/// The configuration, and the plugin.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitLines {
    /// More lines are rejected. The engine's own cap on outputs counts as well.
    #[serde(default = "most")]
    max_lines: usize,
    /// Metadata key for the line's number, from 1.
    number: Option<String>,
}

fn most() -> usize {
    64
}

/// Offset and size of each line that is not empty, without its line end; `None` where there are more than `most`.
fn lines(event: &Event, most: usize) -> Option<Vec<(u64, u64)>> {
    let (size, mut found, mut start, mut offset, mut last) = (event.payload_size(), Vec::new(), 0, 0, 0);
    let end = |start: u64, end: u64, last: u8, found: &mut Vec<(u64, u64)>| {
        let length = (end - start).saturating_sub(u64::from(last == b'\r' && end > start));
        if length > 0 {
            found.push((start, length));
        }
        found.len() <= most
    };
    while offset < size {
        for byte in event.payload_range(offset, CHUNK) {
            if byte == b'\n' {
                if !end(start, offset, last, &mut found) {
                    return None;
                }
                start = offset + 1;
            }
            (last, offset) = (byte, offset + 1);
        }
    }
    end(start, size, last, &mut found).then_some(found)
}

impl Plugin for SplitLines {
    type Config = Self;

    fn new(config: Self) -> Result<Self, String> {
        match config.max_lines {
            0 => Err("config.max_lines: is 0, which lets nothing pass; say 1 or more".into()),
            _ => Ok(config),
        }
    }
}

impl Mapper for SplitLines {
    fn transform(&self, event: &Event) -> Mapping {
        let Some(lines) = lines(event, self.max_lines) else {
            let message = format!("the payload has more than {} lines (max_lines)", self.max_lines);
            return Rejection::new("too-many-lines", message).into();
        };
        let output = |(number, (offset, size)): (usize, (u64, u64))| match &self.number {
            Some(key) => Output::range(offset, size).set(key, (number + 1).to_string()),
            None => Output::range(offset, size),
        };
        match lines.as_slice() {
            [] => Mapping::Drop,
            [(0, size)] if *size == event.payload_size() && self.number.is_none() => Mapping::Pass,
            _ => Mapping::Emit(lines.into_iter().enumerate().map(output).collect()),
        }
    }
}

mediation_plugin::export!(mapper: SplitLines);

#[cfg(test)]
mod tests {
    use super::*;
    use mediation_plugin::{config, testing};

    fn split(config: &str, payload: &[u8]) -> Mapping {
        let event = testing::Event::upstream().with_payload(payload);
        config::parse::<SplitLines>(config).unwrap().transform(&event.lend())
    }

    fn payloads(payload: &[u8]) -> Vec<String> {
        let Mapping::Emit(outputs) = split("{}", payload) else { panic!("nothing emitted") };
        let text = |output| String::from_utf8(testing::payload_of(output, payload).unwrap()).unwrap();
        outputs.iter().map(text).collect()
    }

    #[test]
    fn each_line_is_an_event() {
        assert_eq!(payloads(b"{\"a\":1}\n{\"b\":2}\n"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(payloads(b"\r\na\r\n\n\r\nb\r"), ["a", "b"]);
        let long = format!("{}\n{}\n", "x".repeat(100_000), "y".repeat(70_000));
        assert_eq!(payloads(long.as_bytes()), ["x".repeat(100_000), "y".repeat(70_000)]);
    }

    #[test]
    fn one_line_passes_and_none_is_dropped() {
        assert_eq!(split("{}", b"{\"a\":1}"), Mapping::Pass);
        assert_eq!(split("{}", b"\n\r\n"), Mapping::Drop);
        assert_eq!(split("{}", b""), Mapping::Drop);
    }

    #[test]
    fn lines_are_numbered_and_counted() {
        let numbered = vec![Output::range(0, 1).set("line", "1"), Output::range(2, 1).set("line", "2")];
        assert_eq!(split(r#"{"number": "line", "max_lines": 2}"#, b"a\nb"), numbered.into());
        assert!(
            matches!(split(r#"{"max_lines": 2}"#, b"a\nb\nc"), Mapping::Reject(why) if why.code == "too-many-lines")
        );
        let error = config::parse::<SplitLines>(r#"{"max_lines": 0}"#).err().unwrap();
        assert!(error.starts_with("config.max_lines"));
    }
}
