//! What clients may say of an event: its id, and the metadata that travels.

use crate::event::{EventId, Header, Properties};

/// An id that a client gives its event.
pub(super) fn event_id(given: &str) -> Result<EventId, String> {
    if given.is_empty() || given.len() > 256 || !given.bytes().all(|b| b.is_ascii_graphic() && b != b'~' && b != b'%') {
        return Err("an event id must be 1 to 256 printable ASCII characters without ~ and %".to_owned());
    }
    Ok(EventId::Text(given.into()))
}

/// The properties and headers that `metadata` of a `mediation.v1` publish may set.
pub(super) fn from_metadata(
    metadata: impl IntoIterator<Item = (String, String)>,
    headers: &mut Vec<Header>,
) -> Result<(Option<Box<Properties>>, Option<bytes::Bytes>), String> {
    let (mut properties, mut key) = (Properties::default(), None);
    for (name, value) in metadata {
        match name.as_str() {
            "content_type" => properties.content_type = Some(value),
            "correlation_id" => properties.correlation_id = Some(value),
            "reply_to" => properties.reply_to = Some(value),
            "traceparent" => properties.traceparent = Some(value),
            "key" => key = Some(value.into()),
            _ => match name.strip_prefix("header.") {
                Some(header) if !header.is_empty() && !crate::event::is_ours(header) => {
                    headers.push(Header { name: header.into(), value: Some(value.into()) });
                }
                _ => {
                    return Err(format!(
                        "metadata key {name:?} does not travel: set header.NAME, content_type, correlation_id, reply_to, traceparent or key"
                    ));
                }
            },
        }
    }
    Ok(((properties != Properties::default()).then(|| Box::new(properties)), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(key: &str) -> Result<Vec<Header>, String> {
        let mut headers = Vec::new();
        from_metadata([(key.to_owned(), "x".to_owned())], &mut headers).map(|_| headers)
    }

    #[test]
    fn headers_travel_and_the_engines_own_do_not() {
        assert_eq!(given("header.x-a").map(|headers| headers.len()), Ok(1));
        for key in ["header.mediation.id", "header.Mediation.ID", "header.", "topic", "mediation.id"] {
            assert!(given(key).is_err_and(|words| words.contains(key)), "{key}");
        }
    }

    #[test]
    fn ids_are_printable_and_leave_our_separators_alone() {
        assert!(event_id("order-7/b").is_ok());
        for id in ["", "a b", "a~b", "a%b", "\u{e4}", &"x".repeat(257)] {
            assert!(event_id(id).is_err(), "{id}");
        }
    }
}
