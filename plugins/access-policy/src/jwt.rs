//! Whether a JSON Web Token is one of ours: signature, times, issuer, audience. Called by the policy at connect.
//!
//! A key is bound to its algorithm: a token's own `alg` only selects among the keys, so that neither `none` nor a public
//! key taken for a secret gets through. Keys come from the configuration only; nothing is fetched.

use jwt_compact::alg::{Ed25519, Es256, Hs256, Hs256Key, Rsa, StrongKey};
use jwt_compact::jwk::JsonWebKey;
use jwt_compact::{Algorithm, AlgorithmExt, Token, UntrustedToken};
use p256::pkcs8::DecodePublicKey;
use rsa::RsaPublicKey;

pub(crate) type Fields = serde_json::Map<String, serde_json::Value>;

/// The configuration's `jwt`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Jwt {
    keys: Vec<Key>,
    issuer: Option<String>,
    audience: Option<String>,
    #[serde(default = "half_a_minute")]
    leeway_seconds: u64,
    /// A token without `exp` is refused.
    #[serde(default = "yes")]
    require_expiry: bool,
    /// Which claim is the client's id.
    #[serde(default = "subject")]
    pub(crate) client_id_claim: String,
    /// Claims that become attributes of the session.
    #[serde(default)]
    pub(crate) claims: Vec<String>,
}

fn half_a_minute() -> u64 {
    30
}

fn yes() -> bool {
    true
}

fn subject() -> String {
    "sub".into()
}

#[derive(serde::Deserialize)]
#[serde(try_from = "KeyText")]
struct Key {
    id: Option<String>,
    key: Verifier,
}

enum Verifier {
    Hs256(Hs256Key),
    Rs256(Box<RsaPublicKey>),
    Es256(Box<p256::ecdsa::VerifyingKey>),
    EdDsa(Box<ed25519_dalek::VerifyingKey>),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    alg: String,
    kid: Option<String>,
    secret: Option<String>,
    pem: Option<String>,
    jwk: Option<JsonWebKey<'static>>,
}

impl TryFrom<KeyText> for Key {
    type Error = String;

    fn try_from(text: KeyText) -> Result<Self, String> {
        let KeyText { alg, kid, secret, pem, jwk } = text;
        let wrong = |e: &dyn std::fmt::Display| format!("the {alg} key cannot be read: {e}");
        let key = match (alg.as_str(), secret, pem, jwk) {
            ("HS256", Some(secret), None, None) if secret.len() >= 32 => Verifier::Hs256(Hs256Key::new(secret)),
            ("HS256", Some(_), None, None) => {
                return Err("the secret is shorter than 32 bytes, which can be guessed: make a longer one".into());
            }
            ("HS256", ..) => return Err("HS256 takes a `secret`, and neither `pem` nor `jwk`".into()),
            ("RS256", None, pem, jwk) => {
                let key = match (pem, jwk) {
                    (Some(pem), None) => RsaPublicKey::from_public_key_pem(&pem).map_err(|e| wrong(&e))?,
                    (None, Some(jwk)) => RsaPublicKey::try_from(&jwk).map_err(|e| wrong(&e))?,
                    _ => return Err("RS256 takes one of `pem` and `jwk`".into()),
                };
                StrongKey::try_from(key.clone()).map_err(|_| "the RS256 key has fewer than 2048 bits".to_owned())?;
                Verifier::Rs256(Box::new(key))
            }
            ("ES256", None, Some(pem), None) => {
                Verifier::Es256(Box::new(p256::ecdsa::VerifyingKey::from_public_key_pem(&pem).map_err(|e| wrong(&e))?))
            }
            ("ES256", None, None, Some(jwk)) => {
                Verifier::Es256(Box::new(p256::ecdsa::VerifyingKey::try_from(&jwk).map_err(|e| wrong(&e))?))
            }
            ("EdDSA", None, Some(pem), None) => Verifier::EdDsa(Box::new(
                ed25519_dalek::VerifyingKey::from_public_key_pem(&pem).map_err(|e| wrong(&e))?,
            )),
            ("EdDSA", None, None, Some(jwk)) => {
                Verifier::EdDsa(Box::new(ed25519_dalek::VerifyingKey::try_from(&jwk).map_err(|e| wrong(&e))?))
            }
            ("ES256" | "EdDSA" | "RS256", ..) => return Err(format!("{alg} takes one of `pem` and `jwk`")),
            _ => return Err(format!("no algorithm {alg:?}; there are HS256, RS256, ES256, EdDSA")),
        };
        Ok(Key { id: kid, key })
    }
}

impl Key {
    fn alg(&self) -> &'static str {
        match self.key {
            Verifier::Hs256(_) => "HS256",
            Verifier::Rs256(_) => "RS256",
            Verifier::Es256(_) => "ES256",
            Verifier::EdDsa(_) => "EdDSA",
        }
    }

    /// The claims, where the signature is this key's.
    fn claims(&self, token: &UntrustedToken) -> Option<Token<Fields>> {
        fn of<A: Algorithm>(alg: &A, key: &A::VerifyingKey, token: &UntrustedToken) -> Option<Token<Fields>> {
            alg.validator(key).validate(token).ok()
        }
        match &self.key {
            Verifier::Hs256(key) => of(&Hs256, key, token),
            Verifier::Rs256(key) => of(&Rsa::rs256(), key, token),
            Verifier::Es256(key) => of(&Es256, key, token),
            Verifier::EdDsa(key) => of(&Ed25519, key, token),
        }
    }
}

/// What a token proved.
pub(crate) struct Proven {
    pub(crate) fields: Fields,
    pub(crate) expires_at_ms: Option<u64>,
}

/// A claim's text, as attributes have it: a string as it is, else its JSON.
pub(crate) fn text(claim: &serde_json::Value) -> String {
    claim.as_str().map_or_else(|| claim.to_string(), Into::into)
}

impl Jwt {
    pub(crate) fn check_config(&self) -> Result<(), String> {
        if self.keys.is_empty() { Err("config.jwt.keys: is empty; say at least one".into()) } else { Ok(()) }
    }

    /// The claims of a good token, or what is wrong; never anything of the token itself.
    pub(crate) fn check(&self, token: &str, now_ms: u64) -> Result<Proven, &'static str> {
        let token = UntrustedToken::new(token).map_err(|_| "it is not a JSON Web Token")?;
        let key_id = token.header().key_id.as_deref();
        let named = |key: &&Key| key.id.is_none() || key_id.is_none() || key.id.as_deref() == key_id;
        let mut keys = self.keys.iter().filter(|key| key.alg() == token.algorithm()).filter(named).peekable();
        keys.peek().ok_or("there is no key for its algorithm and key id")?;
        let claims = keys.find_map(|key| key.claims(&token)).ok_or("its signature is wrong")?.into_parts().1;

        let leeway = i64::try_from(self.leeway_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let expiry = claims.expiration.map(|at| at.timestamp_millis().saturating_add(leeway));
        if expiry.is_some_and(|at| at <= now) {
            return Err("it has expired");
        }
        if expiry.is_none() && self.require_expiry {
            return Err("it has no expiry (exp)");
        }
        if claims.not_before.is_some_and(|at| at.timestamp_millis().saturating_sub(leeway) > now) {
            return Err("it is not valid yet (nbf)");
        }
        let fields = claims.custom;
        let says = |claim: &str, wanted: &str| match fields.get(claim) {
            Some(serde_json::Value::Array(all)) => all.iter().any(|one| one == wanted),
            other => other.is_some_and(|one| one == wanted),
        };
        if self.issuer.as_ref().is_some_and(|issuer| !says("iss", issuer)) {
            return Err("its issuer (iss) is another");
        }
        if self.audience.as_ref().is_some_and(|audience| !says("aud", audience)) {
            return Err("its audience (aud) is another");
        }
        Ok(Proven { fields, expires_at_ms: expiry.and_then(|at| u64::try_from(at).ok()) })
    }
}
