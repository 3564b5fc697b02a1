//! Who may connect: by token or API key, then by rules on path, header, query and client id.
//!
//! Asked at connect, before any upgrade. A credential that is there has to be good, also where none is needed.
//! docs/plugins-bundled.md has its configuration. It fetches no keys and knows no revocation.

mod jwt;

use mediation_plugin::matching::Conditions;
use mediation_plugin::{Admission, Decision, Event, Plugin, Rejection, Resolver, now_ms};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

/// The configuration, and the plugin.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessPolicy {
    jwt: Option<jwt::Jwt>,
    #[serde(default)]
    api_keys: Vec<ApiKey>,
    /// Header of a token; `authorization` has `Bearer` before it.
    #[serde(default = "authorization")]
    token_header: String,
    #[serde(default = "access_token")]
    token_query: String,
    #[serde(default = "x_api_key")]
    api_key_header: String,
    /// Lets in who shows no credential.
    #[serde(default)]
    anonymous: bool,
    #[serde(default)]
    rules: Vec<Rule>,
    /// Where no rule holds; without rules `allow`, else `deny`.
    otherwise: Option<Verdict>,
}

fn authorization() -> String {
    "authorization".into()
}

fn access_token() -> String {
    "access_token".into()
}

fn x_api_key() -> String {
    "x-api-key".into()
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiKey {
    key: String,
    client_id: String,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Allow(Conditions),
    Deny(Conditions),
}

#[derive(Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Allow,
    Deny,
}

impl AccessPolicy {
    fn token(&self, event: &Event) -> Option<String> {
        let header = event.get(&format!("header.{}", self.token_header.to_lowercase()));
        let token = header.and_then(|value| match value.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim().into()),
            _ if self.token_header.eq_ignore_ascii_case("authorization") => None,
            _ => Some(value),
        });
        token.or_else(|| event.get(&format!("query.{}", self.token_query)))
    }

    /// Every key is looked at, so that the time tells nothing.
    fn api_key(&self, given: &str) -> Option<&ApiKey> {
        let digest = |text: &str| <[u8; 32]>::from(Sha256::digest(text));
        let given = digest(given);
        let mut found = u32::MAX;
        for (n, key) in (0_u32..).zip(&self.api_keys) {
            let same: Choice = digest(&key.key).ct_eq(&given);
            found.conditional_assign(&n, same);
        }
        self.api_keys.get(found as usize)
    }

    fn identify(&self, event: &Event) -> Result<Option<Admission>, Rejection> {
        let unauthorized = |message: String| Rejection::new("unauthorized", message);
        if let (Some(jwt), Some(token)) = (&self.jwt, self.token(event)) {
            let proven =
                jwt.check(&token, now_ms()).map_err(|why| unauthorized(format!("the token is refused: {why}")))?;
            let mut admission = Admission::new();
            admission.client_id = proven.fields.get(&jwt.client_id_claim).map(jwt::text);
            admission.expires_at_ms = proven.expires_at_ms;
            for name in &jwt.claims {
                if let Some(claim) = proven.fields.get(name) {
                    admission = admission.attribute(name, jwt::text(claim));
                }
            }
            return Ok(Some(admission));
        }
        let header = format!("header.{}", self.api_key_header.to_lowercase());
        if let Some(given) = event.get(&header).filter(|_| !self.api_keys.is_empty()) {
            let key = self.api_key(&given).ok_or_else(|| unauthorized("the API key is unknown".into()))?;
            let mut admission = Admission::new().client_id(&key.client_id);
            admission.attributes = key.attributes.clone().into_iter().collect();
            return Ok(Some(admission));
        }
        match self.anonymous || (self.jwt.is_none() && self.api_keys.is_empty()) {
            true => Ok(None),
            false => Err(unauthorized("the request has no token and no API key".into())),
        }
    }

    fn decide(&self, event: &Event) -> Result<Decision, Rejection> {
        let admission = self.identify(event)?;
        let id = admission.as_ref().and_then(|admission| admission.client_id.as_deref());
        let verdict = self.rules.iter().find_map(|rule| match rule {
            Rule::Allow(when) => when.hold(event, id).map(|_| Verdict::Allow),
            Rule::Deny(when) => when.hold(event, id).map(|_| Verdict::Deny),
        });
        let default = self.otherwise.unwrap_or(if self.rules.is_empty() { Verdict::Allow } else { Verdict::Deny });
        match verdict.unwrap_or(default) {
            Verdict::Allow => Ok(admission.map_or(Decision::Pass, Decision::Accept)),
            Verdict::Deny => Err(Rejection::new("forbidden", "the policy does not allow this request")),
        }
    }
}

impl Plugin for AccessPolicy {
    type Config = Self;

    fn new(config: Self) -> Result<Self, String> {
        if let Some(jwt) = &config.jwt {
            jwt.check_config()?;
        }
        if let Some(n) = config.api_keys.iter().position(|key| key.key.len() < 16) {
            return Err(format!("config.api_keys[{n}].key: is shorter than 16 bytes; make a longer one"));
        }
        if config.jwt.is_none() && config.api_keys.is_empty() && config.rules.is_empty() && config.otherwise.is_none() {
            return Err(
                "config: has none of `jwt`, `api_keys`, `rules`, `otherwise`, so it would let in everybody".into()
            );
        }
        Ok(config)
    }
}

impl Resolver for AccessPolicy {
    fn connect(&self, event: &Event) -> Decision {
        self.decide(event).unwrap_or_else(Decision::Reject)
    }
}

#[cfg(target_arch = "wasm32")]
mod no_randomness {
    //! Checking a signature needs none; whatever asks gets an error instead of an import of the component.
    fn refuse(_: &mut [u8]) -> Result<(), getrandom::Error> {
        Err(getrandom::Error::UNSUPPORTED)
    }
    getrandom::register_custom_getrandom!(refuse);
}

mediation_plugin::export!(resolver: AccessPolicy);

#[cfg(test)]
mod tests;
