//! TLS and SASL towards a real Kafka: each way goes round, a wrong password is refused before any upgrade, and no
//! secret is ever shown.

use std::process::Command;

use mediation_tests::broker::Reachable as _;
use mediation_tests::kafka::certificate;
use mediation_tests::{
    Broker as _, Engine, Kafka, OnKafka, Spec, Sse, World, Ws, engine, eventually, http, run, unique,
};
use serde_json::{Value, json};

/// Of the user `app`; see brokers/kafka.sh.
const PASSWORD: &str = "app-secret";

fn sasl(mechanism: &str, password: &str) -> Value {
    json!({
        "brokers": Kafka::shared().sasl_ssl(),
        "tls": { "ca": certificate("ca.pem") },
        "sasl": { "mechanism": mechanism, "username": "app", "password": password },
    })
}

/// Posts, reads what was posted at the broker, and reads what the broker has on every kind of session.
async fn round_trip(endpoint: Value) -> World<OnKafka<'static>> {
    let world = World::<OnKafka>::start(Spec { endpoint, down: json!({ "durable": true }), ..Spec::default() }).await;
    let engine = &world.engine;
    let mut ws = Ws::open(engine.addr("ws"), "ws").await;
    let (mut sse, _) = Sse::open(engine, "sse", "").await;
    let post = http().post(engine.url("post", "/")).body("up").send().await.expect("an answer");
    assert_eq!(post.status(), 200, "confirmed");
    assert_eq!(world.published(1).await[0].text(), "up");
    world.publish(["down"]).await;
    assert_eq!(ws.event().await, b"down");
    assert_eq!(sse.event().await.data, "down");
    drop(tokio::spawn(async move { ws.closed().await })); // reads on, and so answers pings
    world.acknowledged_is("ws", 1).await; // the position of a durable session goes the same way
    world
}

/// Everything that an operator can read of an engine.
async fn everything_shown(engine: &Engine) -> String {
    let mut shown = engine.child.stderr.lines().join("\n") + &engine.child.stdout.lines().join("\n");
    for path in ["/sessions", "/routes", "/readyz", "/healthz", "/metrics"] {
        shown += &engine.admin_text(path).await;
    }
    shown
}

/// What `check` says about a configuration, and whether it passes.
fn check(config: &Value) -> (bool, String) {
    let file = std::env::temp_dir().join(unique("mediation-check"));
    std::fs::write(&file, serde_yaml::to_string(config).expect("plain data")).expect("written");
    let out = Command::new(engine::binary()).arg("check").arg(&file).output().expect("it runs");
    std::fs::remove_file(&file).expect("removed");
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    (out.status.success(), said)
}

#[test]
fn events_go_round_over_tls_with_plain() {
    run(async {
        let world = round_trip(sasl("PLAIN", PASSWORD)).await;
        let shown = everything_shown(&world.engine).await;
        assert!(!shown.contains(PASSWORD), "the password is shown");
    });
}

#[test]
fn events_go_round_over_tls_with_scram_sha_256() {
    run(async {
        let world = round_trip(sasl("SCRAM-SHA-256", PASSWORD)).await;
        let shown = everything_shown(&world.engine).await;
        assert!(!shown.contains(PASSWORD), "the password is shown");
    });
}

#[test]
fn events_go_round_over_tls_with_a_client_certificate() {
    run(async {
        let brokers = Kafka::shared().ssl();
        let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(certificate);
        let key_text = std::fs::read_to_string(&key).expect("a key");
        let world = round_trip(json!({ "brokers": brokers, "tls": { "ca": ca, "cert": cert, "key": key } })).await;
        let shown = everything_shown(&world.engine).await;
        let secret = key_text.lines().nth(1).expect("base64 behind the first line");
        assert!(!shown.contains(secret), "the key is shown");
    });
}

/// The clients of an endpoint that cannot be reached are refused, and the log says why in one line with these words.
async fn is_refused(endpoint: Value, why: &str) -> (Engine, Value) {
    let spec = Spec { endpoint, ..Spec::default() };
    let broker = OnKafka::prepare(&spec).await;
    let config = broker.config(&spec);
    let engine = Engine::start(&config).await;
    eventually("the endpoint is down", async || {
        let ready = engine.admin("/readyz").await;
        if ready["endpoints"]["broker"] == "down" { Ok(()) } else { Err(ready.to_string()) }
    })
    .await;
    let refused = Ws::try_open(engine.addr("ws"), "/", &[]).await.expect_err("refused before the upgrade");
    assert_eq!((refused.status, refused.code.as_str()), (503, "broker_unavailable"));
    assert!(refused.retry_after.is_some(), "{refused:?}");
    let post = http().post(engine.url("post", "/")).body("x").send().await.expect("an answer");
    assert_eq!(post.status(), 503);
    let answer = post.text().await.expect("a body");
    assert!(!answer.contains(PASSWORD), "{answer}");
    let loud = eventually("it was tried again and again", async || {
        let lines = engine.child.stderr.lines();
        let lines = lines.iter().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let lines: Vec<Value> = lines.filter(|l| l["target"] != "mediation_engine::cli").collect();
        let tries = lines.iter().filter(|l| l["message"].as_str().is_some_and(|m| m.contains(why))).count();
        let loud = |l: &&Value| matches!(l["level"].as_str(), Some("WARN" | "ERROR"));
        let loud: Vec<Value> = lines.iter().filter(loud).cloned().collect();
        if tries >= 3 && !loud.is_empty() { Ok(loud) } else { Err(format!("{lines:?}")) }
    })
    .await;
    assert_eq!(loud.len(), 1, "one line, however often it was tried: {loud:?}");
    let line = loud[0].to_string();
    assert!(line.contains("the broker is down") && line.contains("broker") && line.contains(why), "{line}");
    (engine, config)
}

#[test]
fn a_wrong_password_is_503_and_one_log_line_and_is_never_shown() {
    run(async {
        for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
            let wrong = "hunter2-is-wrong";
            let (engine, config) = is_refused(sasl(mechanism, wrong), "uthentication failed").await;
            let (passes, said) = check(&config);
            assert!(passes, "{said}");
            let shown = everything_shown(&engine).await + &said;
            assert!(!shown.contains(wrong), "the password is shown: {mechanism}");
        }
    });
}

#[test]
fn a_missing_client_certificate_is_503_and_said() {
    run(async {
        let brokers = Kafka::shared().ssl();
        is_refused(json!({ "brokers": brokers, "tls": { "ca": certificate("ca.pem") } }), "certificate").await;
    });
}

#[test]
fn errors_about_a_configuration_show_no_secrets() {
    run(async {
        let mut endpoint = sasl("PLAIN", "hunter2");
        let spec = |endpoint: &Value| Spec { endpoint: endpoint.clone(), ..Spec::default() };
        let broker = OnKafka::prepare(&Spec::default()).await;
        endpoint["sasl"]["mechanism"] = json!("PLANE");
        endpoint["sasl"]["pasword"] = json!("hunter2");
        endpoint["tls"]["key_password"] = json!(["hunter2"]);
        let (passes, said) = check(&broker.config(&spec(&endpoint)));
        assert!(!passes && said.contains("PLANE") && said.contains("pasword"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        let mut endpoint = sasl("PLAIN", "hunter2");
        endpoint["properties"] = json!({ "ssl.key.pem": "hunter2", "no.such.property": "hunter2" });
        let (passes, said) = check(&broker.config(&spec(&endpoint)));
        assert!(!passes && said.contains("no.such.property"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    });
}
