//! Tokens are made here with keys of the tests' own.

use super::*;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as B64};
use mediation_plugin::{config, testing};
use p256::ecdsa::signature::Signer;
use serde_json::{Value, json};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_700_000_000;

fn signed(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims.to_string()));
    format!("{text}.{}", B64.encode(sign(text.as_bytes())))
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |byte: u8| -> Vec<u8> {
        let mut block = key.to_vec();
        block.resize(64, 0);
        block.iter().map(|b| b ^ byte).collect()
    };
    let inner = Sha256::digest([pad(0x36), text.to_vec()].concat());
    Sha256::digest([pad(0x5c), inner.to_vec()].concat()).to_vec()
}

fn hs256(claims: &Value) -> String {
    signed(&json!({"alg": "HS256"}), claims, |text| hmac(SECRET.as_bytes(), text))
}

fn es256_key() -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap()
}

fn es256_jwk() -> Value {
    let point = es256_key().verifying_key().to_encoded_point(false);
    json!({"kty": "EC", "crv": "P-256", "x": B64.encode(point.x().unwrap()), "y": B64.encode(point.y().unwrap())})
}

fn connect(config: &Value, event: testing::Event) -> Decision {
    config::parse::<AccessPolicy>(&config.to_string()).unwrap().connect(&event.lend())
}

fn with_token(config: &Value, token: &str) -> Decision {
    connect(config, testing::Event::upstream().with("header.authorization", &format!("Bearer {token}")))
}

fn refusal(decision: Decision) -> (String, String) {
    match decision {
        Decision::Reject(why) => (why.code, why.message),
        other => panic!("{other:?}"),
    }
}

fn policy() -> Value {
    json!({"jwt": {"keys": [{"alg": "HS256", "secret": SECRET}], "issuer": "me", "audience": "gateway", "claims": ["tenant", "roles"]}})
}

fn claims() -> Value {
    json!({"sub": "alice", "iss": "me", "aud": ["gateway", "x"], "exp": NOW + 60, "nbf": NOW, "tenant": "acme", "roles": ["a"]})
}

#[test]
fn a_token_gives_client_id_attributes_and_expiry() {
    let expected = Admission::new()
        .client_id("alice")
        .attribute("tenant", "acme")
        .attribute("roles", r#"["a"]"#)
        .expires_at_ms((NOW + 60 + 30) * 1000);
    assert_eq!(with_token(&policy(), &hs256(&claims())), expected.clone().into());
    let query = testing::Event::upstream().with("query.access_token", &hs256(&claims()));
    assert_eq!(connect(&policy(), query), expected.into());
}

#[test]
fn claims_are_checked() {
    for (claim, value, says) in [
        ("exp", json!(NOW - 31), "expired"),
        ("exp", Value::Null, "no expiry"),
        ("nbf", json!(NOW + 31), "not valid yet"),
        ("iss", json!("you"), "issuer"),
        ("aud", json!("other"), "audience"),
        ("aud", Value::Null, "audience"),
    ] {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(claim)),
            value => claims[claim] = value,
        }
        let (code, message) = refusal(with_token(&policy(), &hs256(&claims)));
        assert_eq!(code, "unauthorized");
        assert!(message.contains(says), "{claim}: {message}");
    }
}

#[test]
fn the_other_algorithms_are_checked_too() {
    let es = json!({"jwt": {"keys": [{"alg": "ES256", "kid": "k1", "jwk": es256_jwk()}]}});
    let sign_es = |text: &[u8]| -> Vec<u8> {
        let signature: p256::ecdsa::Signature = es256_key().sign(text);
        signature.to_bytes().to_vec()
    };
    let token = signed(&json!({"alg": "ES256", "kid": "k1"}), &claims(), sign_es);
    assert!(matches!(with_token(&es, &token), Decision::Accept(_)));
    let other = signed(&json!({"alg": "ES256", "kid": "k2"}), &claims(), sign_es);
    assert!(refusal(with_token(&es, &other)).1.contains("no key"));

    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let x = B64.encode(key.verifying_key().to_bytes());
    let ed = json!({"jwt": {"keys": [{"alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x}}]}});
    let token = signed(&json!({"alg": "EdDSA"}), &claims(), |text| key.sign(text).to_bytes().to_vec());
    assert!(matches!(with_token(&ed, &token), Decision::Accept(_)));
    let forged = signed(&json!({"alg": "EdDSA"}), &claims(), |_| key.sign(b"else").to_bytes().to_vec());
    assert!(refusal(with_token(&ed, &forged)).1.contains("signature"));

    // A token that another library made, with its public key.
    let rs = json!({"jwt": {"require_expiry": false, "keys": [{"alg": "RS256", "pem": include_str!("../tests/rs256.pem")}]}});
    let token = include_str!("../tests/rs256.jwt").trim();
    assert!(
        matches!(with_token(&rs, token), Decision::Accept(admission) if admission.client_id.as_deref() == Some("alice"))
    );
    let (head, _) = token.rsplit_once('.').unwrap();
    assert!(refusal(with_token(&rs, &format!("{head}.{}", B64.encode([1; 256])))).1.contains("signature"));
}

#[test]
fn neither_none_nor_a_public_key_as_a_secret_gets_through() {
    for alg in ["none", "None", "NONE"] {
        let none = signed(&json!({"alg": alg}), &claims(), |_| Vec::new());
        assert!(refusal(with_token(&policy(), &none)).1.contains("no key for its algorithm"));
    }
    let pem = include_str!("../tests/rs256.pem");
    let rs = json!({"jwt": {"keys": [{"alg": "RS256", "pem": pem}]}});
    let confused = signed(&json!({"alg": "HS256"}), &claims(), |text| hmac(&Sha256::digest(pem), text));
    assert!(refusal(with_token(&rs, &confused)).1.contains("no key for its algorithm"));
    assert!(refusal(with_token(&policy(), "x.y")).1.contains("not a JSON Web Token"));
}

#[test]
fn an_api_key_names_its_client() {
    let policy = json!({"api_keys": [
        {"key": "0123456789abcdef", "client_id": "a"},
        {"key": "fedcba9876543210", "client_id": "b", "attributes": {"tenant": "t"}}]});
    let given = |key: &str| connect(&policy, testing::Event::upstream().with("header.x-api-key", key));
    assert_eq!(given("fedcba9876543210"), Admission::new().client_id("b").attribute("tenant", "t").into());
    let (code, message) = refusal(given("fedcba987654321"));
    assert_eq!(code, "unauthorized");
    assert!(!message.contains("fedcba"));
    assert_eq!(refusal(connect(&policy, testing::Event::upstream())).0, "unauthorized");
}

#[test]
fn rules_go_by_who_the_credential_says_it_is() {
    let mut policy = policy();
    policy["rules"] = json!([{"deny": {"path": "/admin/*"}}, {"allow": {"client_id": "ali*"}}]);
    let on = |path: &str, sub: &str| {
        let mut claims = claims();
        claims["sub"] = json!(sub);
        let event = testing::Event::upstream().with("path", path).with("query.access_token", &hs256(&claims));
        connect(&policy, event)
    };
    assert!(matches!(on("/orders", "alice"), Decision::Accept(_)));
    assert_eq!(refusal(on("/orders", "bob")).0, "forbidden");
    assert_eq!(refusal(on("/admin/x", "alice")).0, "forbidden");
    let open = json!({"rules": [{"deny": {"path": "/admin/*"}}], "otherwise": "allow"});
    assert_eq!(connect(&open, testing::Event::upstream().with("path", "/")), Decision::Pass);
}

#[test]
fn a_wrong_configuration_names_the_key_and_no_secret() {
    for (config, says) in [
        (json!({}), "config: has none of `jwt`"),
        (json!({"jwt": {"keys": []}}), "config.jwt.keys: is empty"),
        (json!({"jwt": {"keys": [{"alg": "HS256", "secret": "hush"}]}}), "config.jwt.keys[0]: the secret is shorter"),
        (json!({"jwt": {"keys": [{"alg": "none"}]}}), "no algorithm \"none\""),
        (json!({"jwt": {"keys": [{"alg": "RS256", "pem": "hush"}]}}), "the RS256 key cannot be read"),
        (json!({"api_keys": [{"key": "hush", "client_id": "a"}]}), "config.api_keys[0].key: is shorter"),
    ] {
        let error = config::parse::<AccessPolicy>(&config.to_string()).err().unwrap();
        assert!(error.contains(says) && !error.contains("hush"), "{error}");
    }
}
