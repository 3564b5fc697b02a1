//! A durable session that was replaced: what its client still sends or reads says nothing any more.

use mediation_tests::{Memory, RawHttp, Spec, Sse, World, eventually, http, run};
use serde_json::{Value, json};

fn durable() -> Spec {
    Spec { down: json!({ "durable": true }), ..Spec::default() }
}

#[test]
fn acks_that_end_after_a_takeover_are_410_and_move_nothing() {
    run(async {
        let world = World::<Memory>::start(durable()).await;
        let engine = &world.engine;
        let (mut older, opening) = Sse::open(engine, "one", "?ack=client").await;
        let session: Value = serde_json::from_str(&opening.data).expect("the session as JSON");
        world.publish(["a", "b"]).await;
        let ids = [older.event().await.id.expect("an id"), older.event().await.id.expect("an id")];
        let body = json!({ "ids": ids }).to_string();
        let (begun, rest) = body.split_at(body.len() / 2);
        let mut slow = RawHttp::connect(engine.addr("sse"), None).await;
        slow.send(format!(
            "POST /ack HTTP/1.1\r\nHost: x\r\nX-Session-ID: {}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            session["session_id"].as_str().expect("an id"),
            body.len()
        ))
        .await;
        let asked = slow.read_until("\r\n\r\n").await;
        assert!(asked.starts_with("HTTP/1.1 100"), "the body is awaited: {asked}");
        slow.send(begun).await;
        let (mut newer, _) = Sse::open(engine, "one", "?ack=client").await;
        assert_eq!(newer.events(2).await, ["a", "b"]);
        slow.send(rest).await;
        let answer = slow.read_until("\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 410"), "{answer}");
        let (mut third, _) = Sse::open(engine, "one", "?ack=client").await;
        assert_eq!(third.events(2).await, ["a", "b"], "nothing was acknowledged");
    });
}

#[test]
fn an_answer_that_is_read_after_a_takeover_moves_nothing() {
    run(async {
        const SIZE: usize = 900_000;
        let world = World::<Memory>::start(durable()).await;
        let engine = &world.engine;
        let subscribe = async || {
            let request = http().post(engine.url("poll", "/subscribe")).header("x-client-id", "one");
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 201);
            answer.json::<Value>().await.expect("JSON")["session_id"].as_str().expect("an id").to_owned()
        };
        let older = subscribe().await;
        world.publish(["A".repeat(SIZE)]).await;
        let mut unread = RawHttp::connect(engine.addr("poll"), Some(4096)).await;
        unread.send(format!("GET /poll HTTP/1.1\r\nHost: x\r\nX-Session-ID: {older}\r\n\r\n")).await;
        assert!(unread.read_until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        subscribe().await;
        eventually("the replaced session has let its event go", async || {
            let nacked = engine.metric("mediation_nacked_total", &["broker->poll"]).await;
            if nacked == 1.0 { Ok(()) } else { Err(format!("{nacked}")) }
        })
        .await;
        unread.read(SIZE).await;
        let third = subscribe().await;
        let poll = http().get(engine.url("poll", "/poll")).header("x-session-id", third).send();
        assert_eq!(poll.await.expect("an answer").text().await.expect("a body").len(), SIZE, "it comes again");
    });
}
