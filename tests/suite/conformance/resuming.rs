//! Where a client starts and goes on: `latest`, resume tokens over interleaved partitions, gaps.

use std::collections::{BTreeMap, BTreeSet};

use mediation_tests::{Broker, Memory, OnKafka, Record, Spec, Sse, World, Ws, http, run, unique};
use serde_json::{Value, json};

on_every_broker!(
    latest_on_a_quiet_topic_misses_nothing_after_the_answer,
    an_sse_client_resumes_by_its_last_event_id,
    a_websocket_client_resumes_by_its_last_token,
    a_poll_client_resumes_by_its_last_token,
    a_client_that_left_before_any_event_loses_nothing,
    interleaved_partitions_resume_without_loss_or_double,
    a_position_older_than_retention_is_a_gap,
    a_damaged_token_is_refused,
    a_token_of_other_topics_is_refused,
    a_gap_is_told_on_a_stream_and_in_a_poll,
    an_older_token_counts_and_leaves_the_durable_position,
    a_newer_token_does_not_skip_what_a_durable_client_has_not_acknowledged,
);

async fn latest_on_a_quiet_topic_misses_nothing_after_the_answer<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    for n in 0..5 {
        let mut ws = Ws::open(world.engine.addr("ws"), &unique("ws")).await;
        world.publish([format!("w{n}")]).await;
        assert_eq!(ws.event().await, format!("w{n}").into_bytes());
        ws.close().await;
        let (mut sse, _) = Sse::open(&world.engine, &unique("sse"), "").await;
        world.publish([format!("s{n}")]).await;
        assert_eq!(sse.event().await.data, format!("s{n}"));
    }
}

async fn an_sse_client_resumes_by_its_last_event_id<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (mut sse, _) = Sse::open(&world.engine, "first", "").await;
    world.publish((0..10).map(|i| i.to_string())).await;
    let mut last = None;
    for n in 0..4 {
        let event = sse.event().await;
        assert_eq!(event.data, n.to_string());
        last = event.id;
    }
    drop(sse);
    let last = last.expect("an id");
    let (mut by_query, _) = Sse::open(&world.engine, "query", &format!("?last_event_id={last}")).await;
    let expected: Vec<String> = (4..10).map(|i| i.to_string()).collect();
    assert_eq!(by_query.events(6).await, expected);
    // The header beats the query: an EventSource repeats its URL.
    let first_id = by_query.raw.clone();
    assert!(!first_id.is_empty());
    let request =
        http().get(world.engine.url("sse", &format!("/?last_event_id={}", "bad"))).header("last-event-id", &last);
    let mut by_header = Sse::of(request.send().await.expect("an answer"));
    assert_eq!(by_header.events(6).await, expected);
}

async fn a_websocket_client_resumes_by_its_last_token<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "first", "").await;
    world.publish((0..10).map(|i| i.to_string())).await;
    let mut events = Vec::new();
    for _ in 0..10 {
        events.push(ws.json_of("event").await);
    }
    // v1 tokens name the first event that is not acknowledged: nothing was acknowledged.
    let token = events[9]["resume"].as_str().expect("a token").to_owned();
    ws.close().await;
    let (mut again, _) = Ws::open_v1(world.engine.addr("ws"), "again", &format!("?last_event_id={token}")).await;
    let frame = again.json_of("event").await;
    assert_eq!(frame["payload"], "0", "{frame}");
    again.ack(&[&frame["id"]]).await;
    world.engine.session_when("again", "the ack is seen", |s| s["settled"] == 1).await;
    world.publish(["10"]).await;
    let mut newest = frame;
    for _ in 1..11 {
        newest = again.json_of("event").await;
    }
    assert_eq!(newest["payload"], "10", "{newest}");
    let token = newest["resume"].as_str().expect("a token");
    let (mut third, _) = Ws::open_v1(world.engine.addr("ws"), "third", &format!("?last_event_id={token}")).await;
    assert_eq!(third.json_of("event").await["payload"], "1", "the first was acknowledged");
}

async fn a_poll_client_resumes_by_its_last_token<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (mut sse, _) = Sse::open(&world.engine, "first", "").await;
    world.publish((0..5).map(|i| i.to_string())).await;
    sse.event().await;
    let id = sse.event().await.id.expect("an id");
    let subscribe = http().post(world.engine.url("poll", &format!("/subscribe?last_event_id={id}")));
    assert_eq!(subscribe.header("x-client-id", "poll").send().await.expect("an answer").status(), 201);
    for n in 2..5 {
        let answer = http().get(world.engine.url("poll", "/poll")).header("x-client-id", "poll").send().await;
        assert_eq!(answer.expect("an answer").text().await.expect("a body"), n.to_string());
    }
}

async fn a_client_that_left_before_any_event_loses_nothing<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (sse, session) = Sse::open(&world.engine, "early", "").await;
    let (ws, v1) = Ws::open_v1(world.engine.addr("ws"), "early-v1", "").await;
    drop(sse);
    ws.close().await;
    world.publish(["while away"]).await;
    let id = session.id.expect("a token with the opening");
    let (mut sse, _) = Sse::open(&world.engine, "early", &format!("?last_event_id={id}")).await;
    assert_eq!(sse.event().await.data, "while away");
    let token = v1["resume"].as_str().expect("a token with the opening");
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "early-v1", &format!("?last_event_id={token}")).await;
    assert_eq!(ws.json_of("event").await["payload"], "while away");
}

async fn interleaved_partitions_resume_without_loss_or_double<B: Broker>() {
    let world = World::<B>::start(Spec { partitions: 3, ..Spec::default() }).await;
    let (mut sse, _) = Sse::open(&world.engine, "c", "").await;
    let partition = |i: i32| if B::KIND == "kafka" { Some(i % 3) } else { None };
    let records: Vec<Record> =
        (0..90).map(|i| Record { partition: partition(i), ..Record::new(format!("{} {i}", i % 3)) }).collect();
    world.publish_records(&records).await;
    let mut seen = Vec::new();
    let mut last = String::new();
    for leave_after in [1, 7, 20, 33, 60, 90] {
        while seen.len() < leave_after {
            let event = sse.event().await;
            last = event.id.expect("an id");
            seen.push(event.data);
        }
        drop(sse);
        sse = Sse::open(&world.engine, "c", &format!("?last_event_id={last}")).await.0;
    }
    let unique: BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), 90, "each once: {seen:?}");
    let mut newest = BTreeMap::new();
    for text in &seen {
        let (lane, n) = text.split_once(' ').expect("partition and number");
        let n: i32 = n.parse().expect("a number");
        assert!(
            newest.insert(lane.to_owned(), n).is_none_or(|before| before < n),
            "partition {lane} in order: {seen:?}"
        );
    }
    world.publish(["0 sentinel"]).await;
    assert_eq!(sse.event().await.data, "0 sentinel", "nothing comes twice");
}

async fn a_position_older_than_retention_is_a_gap<B: Broker>() {
    let endpoint = if B::KIND == "memory" { json!({ "retain": 20 }) } else { json!({}) };
    let world = World::<B>::start(Spec { endpoint, ..Spec::default() }).await;
    let (ws, session) = Ws::open_v1(world.engine.addr("ws"), "old", "").await;
    ws.close().await;
    world.publish((0..100).map(|i| i.to_string())).await;
    world.broker.forget(80).await;
    let token = session["resume"].as_str().expect("a token");
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "old", &format!("?last_event_id={token}")).await;
    let notice = ws.json().await;
    assert_eq!((&notice["type"], &notice["code"]), (&"notice".into(), &"gap".into()), "{notice}");
    let event = ws.json_of("event").await;
    assert_eq!(event["payload"], "80", "it goes on at the log's start: {event}");
}

async fn a_damaged_token_is_refused<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let (_, session) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
    let token = session["resume"].as_str().expect("a token");
    let cut = &token[..token.len() - 3];
    for bad in ["x~!!".to_owned(), format!("x~{cut}"), cut.to_owned(), "AAAA".to_owned()] {
        let refused = Ws::try_open(world.engine.addr("ws"), &format!("/?last_event_id={bad}"), &[]).await;
        assert_eq!(refused.expect_err("refused").status, 400, "{bad}");
    }
    let answer =
        http().get(world.engine.url("sse", "/")).header("last-event-id", "x~!!").send().await.expect("an answer");
    assert_eq!(answer.status(), 400);
    let body: Value = answer.json().await.expect("JSON");
    assert!(body["error"]["message"].is_string(), "{body}");
}

async fn a_token_of_other_topics_is_refused<B: Broker>() {
    let world = World::<B>::start(Spec::default()).await;
    let elsewhere = World::<B>::start(Spec::default()).await;
    let (_, session) = Ws::open_v1(elsewhere.engine.addr("ws"), "c", "").await;
    let token = session["resume"].as_str().expect("a token");
    let refused = Ws::try_open(world.engine.addr("ws"), &format!("/?last_event_id={token}"), &[]).await;
    assert_eq!(refused.expect_err("refused").status, 400);
}

async fn a_gap_is_told_on_a_stream_and_in_a_poll<B: Broker>() {
    let endpoint = if B::KIND == "memory" { json!({ "retain": 20 }) } else { json!({}) };
    let world = World::<B>::start(Spec { endpoint, ..Spec::default() }).await;
    let (old, session) = Sse::open(&world.engine, "old", "").await;
    drop(old);
    world.publish((0..100).map(|i| i.to_string())).await;
    world.broker.forget(80).await;
    let query = format!("?last_event_id={}", session.id.expect("a token"));
    let (mut sse, _) = Sse::open(&world.engine, "sse", &query).await;
    let notice = sse.next().await.expect("a notice");
    assert_eq!((notice.event.as_str(), notice.data.contains("gap")), ("mediation.notice", true), "{notice:?}");
    assert_eq!(sse.event().await.data, "80");
    let subscribe = http().post(world.engine.url("poll", &format!("/subscribe{query}"))).header("x-client-id", "poll");
    assert_eq!(subscribe.send().await.expect("an answer").status(), 201);
    let poll = async || {
        let poll = http().get(world.engine.url("poll", "/poll")).header("x-client-id", "poll").send().await;
        let answer = poll.expect("an answer");
        let told = answer.headers().get("x-notice").map(|v| v.to_str().expect("text").to_owned());
        (told, answer.text().await.expect("a body"))
    };
    assert_eq!(poll().await, (Some("gap".to_owned()), "80".to_owned()));
    assert_eq!(poll().await, (None, "81".to_owned()), "told once");
}

/// A durable client that acknowledged n of six events and left; the token of its opening.
async fn durable_after<B: Broker>(world: &World<B>, client_id: &str, n: usize) -> String {
    let (mut ws, session) = Ws::open_v1(world.engine.addr("ws"), client_id, "").await;
    world.acknowledged_is(client_id, 0).await;
    world.publish((0..6).map(|i| i.to_string())).await;
    for seen in 0..6 {
        let id = ws.json_of("event").await["id"].clone();
        if seen < n {
            ws.ack(&[&id]).await;
        }
    }
    world.acknowledged_is(client_id, n as i64).await;
    ws.close().await;
    world.engine.session_gone(client_id).await;
    session["resume"].as_str().expect("a token").to_owned()
}

async fn an_older_token_counts_and_leaves_the_durable_position<B: Broker>() {
    let world = World::<B>::start(Spec { down: json!({ "durable": true }), ..Spec::default() }).await;
    let token = durable_after(&world, "durable", 5).await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "durable", &format!("?last_event_id={token}")).await;
    let first = ws.json_of("event").await;
    assert_eq!(first["payload"], "0", "the earlier of the two: {first}");
    ws.ack(&[&first["id"]]).await;
    world.engine.session_when("durable", "the ack is seen", |s| s["settled"] == 1).await;
    ws.close().await;
    world.engine.session_gone("durable").await;
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "durable", "").await;
    assert_eq!(ws.json_of("event").await["payload"], "5", "never below the highest seen");
}

async fn a_newer_token_does_not_skip_what_a_durable_client_has_not_acknowledged<B: Broker>() {
    let world = World::<B>::start(Spec { down: json!({ "durable": true }), ..Spec::default() }).await;
    durable_after(&world, "durable", 2).await;
    let (_, at_the_end) = Ws::open_v1(world.engine.addr("ws"), "other", "").await;
    let token = at_the_end["resume"].as_str().expect("a token");
    let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "durable", &format!("?last_event_id={token}")).await;
    assert_eq!(ws.json_of("event").await["payload"], "2", "the earlier of the two");
}

#[test]
fn a_token_of_an_earlier_life_of_memory_is_a_gap() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let (_, session) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        let token = session["resume"].as_str().expect("a token");
        let second = world.second_engine().await;
        let (mut ws, _) = Ws::open_v1(second.addr("ws"), "c", &format!("?last_event_id={token}")).await;
        let notice = ws.json().await;
        assert_eq!((&notice["type"], &notice["code"]), (&"notice".into(), &"gap".into()), "{notice}");
    });
}

#[test]
fn above_32_partitions_there_are_ids_without_tokens() {
    run(async {
        for (partitions, parts) in [(32, 2), (33, 1)] {
            let world = World::<OnKafka>::start(Spec { partitions, ..Spec::default() }).await;
            mediation_tests::eventually("all partitions have a leader", async || {
                Ws::try_open(world.engine.addr("ws"), "/", &[]).await.map(drop).map_err(|e| format!("{e:?}"))
            })
            .await;
            let (mut sse, session) = Sse::open(&world.engine, "sse", "").await;
            assert_eq!(session.id.is_some(), parts == 2, "{partitions} partitions: {session:?}");
            world.publish(["x"]).await;
            let id = sse.event().await.id.expect("an id");
            assert_eq!(id.split('~').count(), parts, "{partitions} partitions: {id}");
            drop(sse);
            let (mut again, _) = Sse::open(&world.engine, "again", &format!("?last_event_id={id}")).await;
            world.publish(["y"]).await;
            assert_eq!(again.event().await.data, "y", "it goes on, or starts afresh where nothing else can be done");
        }
    });
}
