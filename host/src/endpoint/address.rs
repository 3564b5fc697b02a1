//! Addresses that plugins name are literal: what a broker would take for a pattern could reach other clients' events.

/// Longest address in bytes: Kafka's limit for a topic.
const LONGEST: usize = 249;

/// What the brokers' pattern languages are made of: MQTT and AMQP wildcards, Solace, regular expressions.
const PATTERN: &str = "*#+>^?|[]{}()\\$";

/// Whether the address means one topic or queue and nothing else.
///
/// # Errors
/// What is wrong with it, in words that name it.
pub fn literal(address: &str) -> Result<(), String> {
    sound(address)?;
    match address.chars().find(|c| PATTERN.contains(*c)) {
        Some(c) => Err(format!("the address {address:?} is a pattern: {c:?} is not taken literally by every broker")),
        None => Ok(()),
    }
}

/// Whether it is an address at all; for endpoints that allow patterns.
///
/// # Errors
/// As [`literal`].
pub fn sound(address: &str) -> Result<(), String> {
    if address.is_empty() {
        return Err("the address is empty: leave it out for the endpoint's own".to_owned());
    }
    if address.len() > LONGEST {
        let start: String = address.chars().take(32).collect();
        return Err(format!("the address {start:?}.. is longer than {LONGEST} bytes"));
    }
    if address.chars().any(char::is_control) {
        return Err(format!("the address {address:?} has control characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_one_topic_and_nothing_else() {
        for fine in ["orders", "orders/eu-1/7", "a.b_c:d@e", "\u{e4} b", &"x".repeat(249)] {
            assert_eq!(literal(fine), Ok(()), "{fine}");
        }
        for pattern in
            ["*", "orders/#", "+/a", "a.>", "^a.*", "a?", "a|b", "a[bc]", "(a)", "a{2}", "a$", "$share/g/a", "\\w"]
        {
            let words = literal(pattern).expect_err(pattern);
            assert!(words.contains("pattern") && words.contains(&format!("{pattern:?}")), "{words}");
            assert_eq!(sound(pattern), Ok(()), "{pattern}");
        }
        for unsound in ["", "a\0b", "a\nb", "\u{85}", &"x".repeat(250), &"\u{e4}".repeat(125)] {
            assert!(literal(unsound).is_err() && sound(unsound).is_err(), "{unsound:?}");
        }
    }
}
