//! What goes out for an event to a plain client.

use crate::config::Frames;
use crate::event::Event;

/// Whether the payload goes as a text frame: as configured, else by content type, else when it is valid UTF-8. A text
/// frame must be UTF-8 whatever anybody says.
pub(super) fn is_text(frames: Frames, event: &Event) -> bool {
    let wanted = match frames {
        Frames::Binary => false,
        Frames::Text => true,
        Frames::Auto => event.content_type().is_none_or(says_text),
    };
    // A character may lie across two pieces: joined, then, which is rare.
    wanted && event.payload.as_ref().is_none_or(|payload| simdutf8::basic::from_utf8(&payload.contiguous()).is_ok())
}

fn says_text(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("json")
        || kind.ends_with("xml")
        || matches!(kind.as_str(), "application/x-www-form-urlencoded" | "application/javascript" | "application/yaml")
        // curl and others that do not think about it.
        || kind.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_decide_what_is_text() {
        for text in ["text/plain", "application/json; charset=utf-8", "application/cloudevents+json", "image/svg+xml"] {
            assert!(says_text(text), "{text}");
        }
        for binary in ["application/octet-stream", "image/png", "application/protobuf"] {
            assert!(!says_text(binary), "{binary}");
        }
    }
}
