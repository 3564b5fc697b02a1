//! Refusals of a name that means two sessions, and of brokers that are not built in.

use mediation_tests::{Engine, Memory, Spec, World, Ws, http, run};
use reqwest::Method;
use serde_json::{Value, json};

use super::http_answers::{answer, ask, is, refused};

#[test]
fn a_client_id_that_means_two_sessions_is_409() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        let named = [("x-client-id", "twice")];
        let mut ids = Vec::new();
        for _ in 0..2 {
            let subscribe = http().post(engine.url("poll", "/subscribe?ack=client")).header("x-client-id", "twice");
            let body: Value = subscribe.send().await.expect("an answer").json().await.expect("JSON");
            ids.push(body["session_id"].as_str().expect("an id").to_owned());
        }
        assert_ne!(ids[0], ids[1]);
        let ack = || http().post(engine.url("poll", "/ack")).json(&json!({ "ids": [] }));
        assert_eq!(ask(engine, "poll", Method::GET, "/poll?wait=0s", &named).await, is(409, "conflict"));
        assert_eq!(answer(ack().header("x-client-id", "twice")).await, is(409, "conflict"));
        assert_eq!(ask(engine, "poll", Method::DELETE, "/unsubscribe", &named).await, is(409, "conflict"));
        for id in &ids {
            let one = [("x-session-id", id.as_str())];
            assert_eq!(ask(engine, "poll", Method::GET, "/poll?wait=0s", &one).await.0, 204, "it is named by its id");
        }
        let one = [("x-session-id", ids[0].as_str())];
        assert_eq!(ask(engine, "poll", Method::DELETE, "/unsubscribe", &one).await.0, 200);
        assert_eq!(ask(engine, "poll", Method::GET, "/poll?wait=0s", &named).await.0, 204, "one is left");
    });
}

#[test]
fn a_broker_that_is_not_built_in_is_501_on_every_entrypoint() {
    run(async {
        let config = json!({ "url": "amqp://guest:guest@localhost:5672/", "queue_in": "in", "queue_out": "out" });
        let endpoint = json!({ "name": "broker", "type": "rabbitmq", "config": config });
        let engine = Engine::start(&Spec::default().config(&endpoint, Vec::new(), Vec::new())).await;
        for name in ["ws", "up"] {
            assert_eq!(refused(Ws::try_open(engine.addr(name), "/", &[]).await), is(501, "not_built_in"), "{name}");
        }
        assert_eq!(ask(&engine, "sse", Method::GET, "/", &[]).await, is(501, "not_built_in"));
        assert_eq!(ask(&engine, "poll", Method::POST, "/subscribe", &[]).await, is(501, "not_built_in"));
        assert_eq!(ask(&engine, "post", Method::POST, "/", &[]).await, is(501, "not_built_in"));
    });
}
