//! How a line of the packet log is written: by hand into a byte buffer, since it is written for every event.
//!
//! Called by the packet log's thread only. What is the same for many lines (time, source, client, session, target) is
//! rendered once; a line is then four copies, an id and two numbers.

use std::io::Write as _;

use super::queue::{Entry, Run};
use crate::config::Direction;
use crate::event::{EventId, printable};

/// Renders lines; keeps what the last one had in common with the next.
#[derive(Default)]
pub(super) struct Formatter {
    head: Vec<u8>,
    middle: Vec<u8>,
    tail: Vec<u8>,
    clock: Rfc3339,
}

impl Formatter {
    /// What begins each line of a batch.
    pub(super) fn begin(&mut self, now_ms: i64) {
        self.head.clear();
        self.head.extend_from_slice(b"{\"time\":\"");
        self.clock.write(&mut self.head, now_ms);
        self.head.extend_from_slice(b"\",\"level\":\"info\",\"msg\":\"packet\",\"event_id\":\"");
    }

    /// What follows the id in each line of one session and direction.
    pub(super) fn run(&mut self, run: &Run) {
        let out = &mut self.middle;
        out.clear();
        for (key, value) in [
            ("\",\"source_id\":\"", &run.source),
            ("\",\"client_id\":\"", &run.client_id),
            ("\",\"session_id\":\"", &run.session_id),
            ("\",\"target\":\"", &run.target),
        ] {
            out.extend_from_slice(key.as_bytes());
            escape(out, value);
        }
        out.extend_from_slice(match run.direction {
            Direction::Upstream => b"\",\"direction\":\"upstream\",\"payload_bytes\":",
            Direction::Downstream => b"\",\"direction\":\"downstream\",\"payload_bytes\":",
        });
        self.tail.clear();
        if let Some(plugins) = &run.plugins {
            self.tail.extend_from_slice(b",\"plugins\":");
            self.tail.extend_from_slice(plugins.as_bytes());
        }
    }

    /// One line.
    pub(super) fn line(&mut self, out: &mut Vec<u8>, entry: &Entry) {
        out.extend_from_slice(&self.head);
        id(out, &entry.event_id);
        out.extend_from_slice(&self.middle);
        number(out, i64::from(entry.payload_bytes));
        out.extend_from_slice(b",\"timestamp\":\"");
        self.clock.write(out, entry.timestamp_ms);
        out.push(b'"');
        out.extend_from_slice(&self.tail);
        out.extend_from_slice(b"}\n");
    }
}

fn id(out: &mut Vec<u8>, event_id: &EventId) {
    match event_id {
        EventId::Log { topic, partition, offset } => {
            escape(out, &printable(topic));
            out.push(b'-');
            number(out, i64::from(*partition));
            out.push(b'-');
            number(out, *offset);
        }
        EventId::Text(text) => escape(out, &printable(text)),
        EventId::Uuid(uuid) => {
            let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
            out.extend_from_slice(uuid.as_hyphenated().encode_lower(&mut text).as_bytes());
        }
        EventId::Part { of, part } => {
            id(out, of);
            out.push(b'#');
            number(out, i64::from(*part));
        }
    }
}

/// Appends the inside of a JSON string.
fn escape(out: &mut Vec<u8>, text: &str) {
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    if !text.bytes().any(special) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ if byte < 0x20 => {
                let low = HEX.get(usize::from(byte & 15)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), low]);
            }
            _ => out.push(byte),
        }
    }
}

fn number(out: &mut Vec<u8>, value: i64) {
    // From the back into a buffer that holds any i64: std's formatting costs five times as much.
    let mut digits = [0_u8; 20];
    let mut rest = value.unsigned_abs();
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

/// RFC 3339 in UTC with milliseconds. Remembers the last second: neighbours mostly share it.
#[derive(Default)]
struct Rfc3339 {
    second: Option<i64>,
    text: Vec<u8>,
}

impl Rfc3339 {
    fn write(&mut self, out: &mut Vec<u8>, ms: i64) {
        // Years 0000 to 9999: what a broker says about time is not trusted.
        let ms = ms.clamp(-62_167_219_200_000, 253_402_300_799_999);
        let second = ms.div_euclid(1000);
        if self.second != Some(second) {
            let (year, month, day) = civil(second.div_euclid(86_400));
            let clock = second.rem_euclid(86_400);
            let (hour, minute, second_of) = (clock / 3600, clock / 60 % 60, clock % 60);
            self.text.clear();
            let written = write!(self.text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second_of:02}.");
            debug_assert!(written.is_ok(), "a vector takes everything");
            self.second = Some(second);
        }
        out.extend_from_slice(&self.text);
        let milli = ms.rem_euclid(1000);
        let digit = |value: i64| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[digit(milli / 100), digit(milli / 10), digit(milli), b'Z']);
    }
}

/// Year, month and day of a count of days since 1970-01-01, in the proleptic Gregorian calendar (Howard Hinnant's
/// `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(ms: i64) -> String {
        let mut out = Vec::new();
        Rfc3339::default().write(&mut out, ms);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(951_782_399_999), "2000-02-28T23:59:59.999Z");
        assert_eq!(time(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(time(1_709_251_199_007), "2024-02-29T23:59:59.007Z");
        assert_eq!(time(1_735_689_600_050), "2025-01-01T00:00:00.050Z");
        assert_eq!(time(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(time(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(time(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_clock_that_remembers_says_the_same() {
        let mut clock = Rfc3339::default();
        for ms in [1_709_251_199_007, 1_709_251_199_999, 1_709_251_200_000, 1_709_251_199_007, -1, 0] {
            let mut out = Vec::new();
            clock.write(&mut out, ms);
            assert_eq!(String::from_utf8(out).unwrap(), time(ms));
        }
    }

    #[test]
    fn numbers_are_written_as_std_writes_them() {
        for value in [0, 7, 10, 99, 100, 1_234_567_890, i64::MAX, i64::MIN, -1, -10] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn every_character_survives_json() {
        let hostile: String = (0..0x250).chain([0x2028, 0xfeff, 0x1_f600]).filter_map(char::from_u32).collect();
        for text in hostile.chars().map(String::from).chain([hostile.clone()]) {
            let mut out = vec![b'"'];
            escape(&mut out, &text);
            out.push(b'"');
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
