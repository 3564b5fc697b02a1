//! One event of a client to several targets.

use mediation_tests::broker::Reachable as _;
use mediation_tests::{Broker as _, Engine, Memory, Plugins, Spec, Ws, http, run, spec};
use serde_json::{Value, json};

/// Endpoints `one` and `two` beside `broker`, each read by clients of the same name; `lost` is a Kafka that is not there.
async fn engine(folder: &Plugins, guarantee: &'static str) -> Engine {
    let asked = Spec {
        guarantee,
        up: json!({ "resolver": "resolver-demo", "publish_timeout": "1s" }),
        listeners: json!({ "post": { "forward_headers": ["X-Fan"] } }),
        ..Spec::default()
    };
    let broker = Memory::prepare(&asked).await;
    let mut config = broker.config(&asked);
    let push = |config: &mut Value, key: &str, value: Value| config[key].as_array_mut().expect("a list").push(value);
    for name in ["one", "two"] {
        let topics = json!({ "topic_in": "t", "topic_out": "t", "start": "earliest" });
        push(&mut config, "endpoints", json!({ "name": name, "type": "memory", "config": topics }));
        let entrypoint = format!("from-{name}");
        push(&mut config, "entrypoints", spec::entrypoint(&entrypoint, "websocket"));
        push(&mut config, "routes", spec::route(name, &entrypoint, "downstream", "auto"));
    }
    let nowhere = json!({ "brokers": "127.0.0.1:1", "topic_out": "t" });
    push(&mut config, "endpoints", json!({ "name": "lost", "type": "kafka", "config": nowhere }));
    config["plugins_dir"] = json!(folder.path());
    let engine = Engine::start(&config).await;
    engine.plugin_serves("resolver-demo").await;
    engine
}

async fn post(engine: &Engine, fan: &str, body: &str) -> (u16, Value) {
    let request = http().post(engine.url("post", "/")).header("x-fan", fan).body(body.to_owned());
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

#[test]
fn a_client_is_confirmed_when_all_targets_have_the_event() {
    run(async {
        let folder = Plugins::with(&["resolver-demo"]);
        let engine = engine(&folder, "at_least_once").await;
        assert_eq!(post(&engine, "one,two", "both").await.0, 200);
        assert_eq!(post(&engine, "two", "second").await.0, 200);
        for (name, expected) in [("from-one", &["both"][..]), ("from-two", &["both", "second"])] {
            let mut ws = Ws::open(engine.addr(name), "c").await;
            assert_eq!(ws.events(expected.len()).await, expected, "{name}");
        }
    });
}

#[test]
fn a_target_that_fails_is_named_with_those_that_confirmed() {
    run(async {
        let folder = Plugins::with(&["resolver-demo"]);
        let engine = engine(&folder, "at_least_once").await;
        let (status, answer) = post(&engine, "one,lost", "x").await;
        assert!(matches!(status, 503 | 504), "{status} {answer}");
        let message = answer["error"]["message"].as_str().expect("words");
        assert!(message.contains("lost") && message.ends_with("confirmed by one"), "{message}");
        // The one that has it, has it once.
        assert_eq!(post(&engine, "one", "sentinel").await.0, 200);
        let mut ws = Ws::open(engine.addr("from-one"), "c").await;
        assert_eq!(ws.events(2).await, ["x", "sentinel"]);
        // The same through a WebSocket, in the client's order.
        let (mut v1, _) = Ws::open_v1(engine.addr("up"), "v1", "").await;
        for (reference, fan) in [("1", "two,lost"), ("2", "two")] {
            let metadata = json!({ "header.x-fan": fan });
            v1.send_json(json!({ "type": "publish", "ref": reference, "payload": reference, "metadata": metadata }))
                .await;
        }
        let (first, second) = (v1.json().await, v1.json().await);
        assert_eq!((&first["type"], &first["ref"]), (&json!("error"), &json!("1")), "{first}");
        assert!(first["message"].as_str().is_some_and(|words| words.contains("confirmed by two")), "{first}");
        assert_eq!((&second["type"], &second["ref"]), (&json!("published"), &json!("2")), "{second}");
    });
}

#[test]
fn endpoints_and_addresses_that_are_none_are_refused() {
    run(async {
        let folder = Plugins::with(&["resolver-demo"]);
        let engine = engine(&folder, "at_least_once").await;
        for (fan, status, code) in
            [("nobody", 502, "target_not_found"), ("one:orders/#", 400, "bad_request"), ("one:a*", 400, "bad_request")]
        {
            let (got, answer) = post(&engine, fan, "x").await;
            assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)), "{fan}: {answer}");
        }
        // Dropped by its resolver: done.
        assert_eq!(post(&engine, "none", "x").await.0, 200);
    });
}
