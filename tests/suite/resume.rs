//! Resume tokens at their edges: each names the place behind what its client provably has, and nothing further.

use mediation_tests::{Engine, Memory, RawHttp, Spec, Sse, World, Ws, eventually, http, run};
use serde_json::{Value, json};

const EVENTS: usize = 10;

/// Ten events that come as one batch: they were published while the client that has this token was away.
async fn missed(world: &World<Memory>) -> String {
    let (ws, session) = Ws::open_v1(world.engine.addr("ws"), "early", "").await;
    ws.close().await;
    world.publish((0..EVENTS).map(|n| n.to_string())).await;
    session["resume"].as_str().expect("a token with the opening").to_owned()
}

#[test]
fn v1_tokens_pass_one_event_each_where_nothing_waits_for_acks() {
    run(async {
        for guarantee in ["none", "auto", "at_most_once"] {
            let world = World::<Memory>::start(Spec::with(guarantee)).await;
            let query = |token: &str| format!("?last_event_id={token}");
            let start = missed(&world).await;
            let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "first", &query(&start)).await;
            let first = ws.json_of("event").await;
            assert_eq!(first["payload"], "0", "{guarantee}: {first}");
            let token = first["resume"].as_str().expect("a token");
            let (mut again, _) = Ws::open_v1(world.engine.addr("ws"), "again", &query(token)).await;
            for n in 1..EVENTS {
                assert_eq!(again.json_of("event").await["payload"], n.to_string(), "{guarantee}");
            }
        }
    });
}

#[test]
fn tokens_of_acknowledging_clients_pass_one_event_each_where_nothing_waits_for_acks() {
    run(async {
        let world = World::<Memory>::start(Spec::with("auto")).await;
        let query = |token: &str| format!("?ack=client&last_event_id={token}");
        let start = missed(&world).await;
        let rest: Vec<String> = (1..EVENTS).map(|n| n.to_string()).collect();

        let (mut sse, _) = Sse::open(&world.engine, "sse", &query(&start)).await;
        let first = sse.event().await;
        assert_eq!(first.data, "0");
        let (mut again, _) = Sse::open(&world.engine, "sse", &query(&first.id.expect("an id"))).await;
        assert_eq!(again.events(EVENTS - 1).await, rest);

        let items = polled(&world.engine, &query(&start)).await;
        assert_eq!(items[0]["payload"], "0");
        let items = polled(&world.engine, &query(items[0]["resume"].as_str().expect("a token"))).await;
        assert_eq!(items.iter().map(|i| i["payload"].as_str().expect("text")).collect::<Vec<_>>(), rest);
    });
}

/// Subscribes and returns the session's id.
async fn subscribe(engine: &Engine, query: &str) -> String {
    let answer = http().post(engine.url("poll", &format!("/subscribe{query}"))).send().await.expect("an answer");
    assert_eq!(answer.status(), 201);
    answer.json::<Value>().await.expect("JSON")["session_id"].as_str().expect("an id").to_owned()
}

async fn polled(engine: &Engine, query: &str) -> Vec<Value> {
    let session = subscribe(engine, query).await;
    let poll = http().get(engine.url("poll", "/poll")).header("accept", "application/json");
    let answer = poll.header("x-session-id", session).send().await.expect("an answer");
    answer.json::<Value>().await.expect("JSON")["items"].as_array().expect("items").clone()
}

async fn poll(engine: &Engine, session: &str) -> reqwest::Response {
    let poll = http().get(engine.url("poll", "/poll")).header("x-session-id", session);
    let answer = poll.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer
}

#[test]
fn no_token_passes_an_event_whose_answer_was_lost() {
    run(async {
        // It comes again long after the token was taken.
        let world =
            World::<Memory>::start(Spec { down: json!({ "redelivery_backoff": "30s" }), ..Spec::default() }).await;
        let engine = &world.engine;
        let session = subscribe(engine, "").await;
        world.publish(["A".repeat(900_000), "B".to_owned()]).await;
        let mut lost = RawHttp::connect(engine.addr("poll"), Some(4096)).await;
        lost.send(format!("GET /poll HTTP/1.1\r\nHost: x\r\nX-Session-ID: {session}\r\n\r\n")).await;
        assert!(lost.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        lost.reset();
        eventually("the lost event is given back", async || {
            let nacked = engine.metric("mediation_nacked_total", &["broker->poll"]).await;
            if nacked == 1.0 { Ok(()) } else { Err(format!("{nacked}")) }
        })
        .await;
        let next = poll(engine, &session).await;
        let token = next.headers()["x-resume-token"].to_str().expect("text").to_owned();
        assert_eq!(next.text().await.expect("a body"), "B");
        let resumed = subscribe(engine, &format!("?last_event_id={token}")).await;
        let first = poll(engine, &resumed).await.text().await.expect("a body");
        assert_eq!((first.len(), first.starts_with('A')), (900_000, true), "the lost event comes first");
    });
}

#[test]
fn no_token_passes_an_event_whose_answer_is_not_read() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        let session = subscribe(engine, "").await;
        world.publish(["A".repeat(900_000), "B".to_owned()]).await;
        let mut unread = RawHttp::connect(engine.addr("poll"), Some(4096)).await;
        unread.send(format!("GET /poll HTTP/1.1\r\nHost: x\r\nX-Session-ID: {session}\r\n\r\n")).await;
        assert!(unread.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        let next = poll(engine, &session).await;
        let token = next.headers()["x-resume-token"].to_str().expect("text").to_owned();
        assert_eq!(next.text().await.expect("a body"), "B");
        let resumed = subscribe(engine, &format!("?last_event_id={token}")).await;
        assert_eq!(poll(engine, &resumed).await.text().await.expect("a body").len(), 900_000);
    });
}
