//! From the engine's JSON text to a plugin's own type. Called by [`export!`](crate::export)'s `init`, and by tests.

use crate::Plugin;

/// A configured plugin, or why not: the key that is wrong, what is wrong with it. No text and `null` count as `{}`.
pub fn parse<P: Plugin>(text: &str) -> Result<P, String> {
    let text = match text.trim() {
        "" | "null" => "{}",
        text => text,
    };
    let config = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(|e| {
        let path = e.path().to_string();
        let at = if path == "." { String::new() } else { format!(".{path}") };
        format!("config{at}: {}", e.into_inner())
    })?;
    P::new(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rules {
        #[serde(default)]
        rules: Vec<Rule>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        #[allow(dead_code, reason = "only parsed")]
        endpoint: String,
    }

    impl Plugin for Rules {
        type Config = Self;
        fn new(config: Self) -> Result<Self, String> {
            Ok(config)
        }
    }

    #[test]
    fn an_error_names_the_key() {
        let error = parse::<Rules>(r#"{"rules": [{"endpoint": "a"}, {"endpont": "b"}]}"#).unwrap_err();
        assert!(error.starts_with("config.rules[1].endpont: unknown field `endpont`, expected `endpoint`"), "{error}");
    }

    #[test]
    fn no_config_is_an_empty_one() {
        for text in ["", " ", "null", "{}"] {
            assert!(parse::<Rules>(text).unwrap().rules.is_empty());
        }
    }
}
