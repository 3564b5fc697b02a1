//! Refusals: each status of the one table, before any upgrade, on every entrypoint that can give it.

use mediation_tests::spec::{entrypoint, route};
use mediation_tests::{Engine, Kafka, Memory, OnKafka, RawWs, Refusal, Spec, World, Ws, http, run, unique};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// An engine on `memory` with these entrypoints and routes.
async fn engine(entrypoints: &[Value], routes: &[Value]) -> Engine {
    let endpoint = json!({ "name": "broker", "type": "memory", "config": { "topic_in": "t", "topic_out": "t" } });
    let admin = json!({ "port": 0, "bind": "127.0.0.1" });
    Engine::start(&json!({ "admin": admin, "entrypoints": entrypoints, "endpoints": [endpoint], "routes": routes }))
        .await
}

pub(crate) async fn ask(
    engine: &Engine,
    name: &str,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> (u16, String) {
    let mut request = http().request(method, engine.url(name, path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request).await
}

/// Status and `error.code`.
pub(crate) async fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    if status == 503 {
        let retry: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!((1..=30).contains(&retry), "{retry}");
    }
    let body: Value = answer.json().await.unwrap_or_default();
    if status >= 400 {
        assert!(body["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
    }
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

pub(crate) fn refused(result: Result<Ws, Refusal>) -> (u16, String) {
    let refusal = result.expect_err("refused before the upgrade");
    (refusal.status, refusal.code)
}

pub(crate) fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[test]
fn no_route_that_matches_is_404_and_none_at_all_is_502() {
    run(async {
        let kinds = [("ws", "websocket"), ("sse", "sse"), ("post", "http_post"), ("poll", "http_get")];
        let entrypoints: Vec<Value> = kinds.iter().map(|(n, k)| entrypoint(n, k)).collect();
        let down = |to: &str| {
            let mut route = route("broker", to, "downstream", "auto");
            route["match"] = json!({ "path": "/prices/*", "header": { "x-channel": "prices" } });
            route
        };
        let mut up = route("post", "broker", "upstream", "auto");
        up["match"] = json!({ "path": "/prices/*" });
        let with = engine(&entrypoints, &[down("ws"), down("sse"), down("poll"), up]).await;
        assert_eq!(refused(Ws::try_open(with.addr("ws"), "/orders/1", &[]).await), is(404, "no_route"));
        assert_eq!(refused(Ws::try_open(with.addr("ws"), "/prices/1", &[]).await), is(404, "no_route"));
        Ws::try_open(with.addr("ws"), "/prices/1", &[("x-channel", "prices")]).await.expect("admitted");
        assert_eq!(ask(&with, "sse", Method::GET, "/orders", &[]).await, is(404, "no_route"));
        assert_eq!(ask(&with, "post", Method::POST, "/orders", &[]).await, is(404, "no_route"));
        assert_eq!(ask(&with, "poll", Method::POST, "/orders/subscribe", &[]).await, is(404, "no_route"));
        let channel = [("x-channel", "prices")];
        assert_eq!(ask(&with, "poll", Method::POST, "/prices/a/subscribe", &channel).await.0, 201);

        let without = engine(&entrypoints, &[]).await;
        assert_eq!(refused(Ws::try_open(without.addr("ws"), "/", &[]).await), is(502, "no_routes"));
        assert_eq!(ask(&without, "sse", Method::GET, "/", &[]).await, is(502, "no_routes"));
        assert_eq!(ask(&without, "post", Method::POST, "/", &[]).await, is(502, "no_routes"));
        assert_eq!(ask(&without, "poll", Method::POST, "/subscribe", &[]).await, is(502, "no_routes"));
    });
}

#[test]
fn wrong_methods_are_405_and_a_missing_upgrade_is_said() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        assert_eq!(ask(engine, "post", Method::GET, "/", &[]).await, is(405, "method_not_allowed"));
        assert_eq!(ask(engine, "sse", Method::PUT, "/", &[]).await, is(405, "method_not_allowed"));
        assert_eq!(ask(engine, "poll", Method::GET, "/subscribe", &[]).await, is(405, "method_not_allowed"));
        assert_eq!(ask(engine, "ws", Method::GET, "/", &[]).await, is(426, "upgrade_required"));
    });
}

#[test]
fn a_body_above_max_body_is_413() {
    run(async {
        let listeners = json!({ "post": { "max_body": "1KiB" } });
        let world = World::<Memory>::start(Spec { listeners, tap: true, ..Spec::default() }).await;
        let post = |body: Vec<u8>| http().post(world.engine.url("post", "/")).body(body);
        assert_eq!(answer(post(vec![b'x'; 1025])).await, is(413, "too_large"));
        assert_eq!(answer(post(vec![b'x'; 1024])).await.0, 200);
        assert_eq!(
            world.published(1).await[0].payload.as_ref().map(Vec::len),
            Some(1024),
            "only that one came through"
        );
    });
}

#[test]
fn bad_client_ids_and_bodies_are_400() {
    run(async {
        let world = World::<Memory>::start(Spec { down: json!({ "durable": true }), ..Spec::default() }).await;
        let engine = &world.engine;
        let bad = [("x-client-id", "not/allowed")];
        assert_eq!(refused(Ws::try_open(engine.addr("ws"), "/", &bad).await).0, 400);
        assert_eq!(ask(engine, "sse", Method::GET, "/", &bad).await.0, 400);
        let long = "c".repeat(129);
        assert_eq!(ask(engine, "poll", Method::POST, "/subscribe", &[("x-client-id", &long)]).await.0, 400);
        let subscribe = ask(engine, "poll", Method::POST, "/subscribe", &[("x-client-id", "c")]).await;
        assert_eq!(subscribe.0, 201);
        let ack = http().post(engine.url("poll", "/ack")).header("x-client-id", "c").body("{");
        assert_eq!(answer(ack).await, is(400, "bad_request"));
    });
}

#[test]
fn misspelt_choices_are_400() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        for query in ["/?ack=clinet", "/?ack=", "/?format=jsn"] {
            assert_eq!(ask(engine, "sse", Method::GET, query, &[]).await, is(400, "bad_request"), "{query}");
        }
        let subscribe = ask(engine, "poll", Method::POST, "/subscribe?ack=clinet", &[]).await;
        assert_eq!(subscribe, is(400, "bad_request"));
    });
}

#[test]
fn an_empty_resume_token_is_none_and_a_bare_damaged_one_is_400() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        assert_eq!(ask(engine, "poll", Method::POST, "/subscribe?last_event_id=", &[]).await.0, 201);
        assert_eq!(ask(engine, "poll", Method::POST, "/subscribe", &[("last-event-id", "")]).await.0, 201);
        Ws::try_open(engine.addr("ws"), "/?last_event_id=", &[]).await.expect("admitted");
        for bad in ["garbage", "AAAA"] {
            let query = format!("?last_event_id={bad}");
            assert_eq!(
                refused(Ws::try_open(engine.addr("ws"), &format!("/{query}"), &[]).await),
                is(400, "bad_request")
            );
            assert_eq!(ask(engine, "sse", Method::GET, &format!("/{query}"), &[]).await, is(400, "bad_request"));
            let subscribe = ask(engine, "poll", Method::POST, &format!("/subscribe{query}"), &[]).await;
            assert_eq!(subscribe, is(400, "bad_request"));
        }
    });
}

#[test]
fn a_post_to_a_broker_that_is_known_to_be_away_is_503_at_once() {
    run(async {
        for guarantee in ["auto", "at_least_once"] {
            let config = json!({ "brokers": "127.0.0.1:1", "topic_in": "t", "topic_out": "t" });
            let endpoint = json!({ "name": "broker", "type": "kafka", "config": config });
            // An answer that waits for it does not come within this test.
            let up = json!({ "publish_timeout": "300s" });
            let spec = Spec { up, ..Spec::with(guarantee) };
            let engine = Engine::start(&spec.config(&endpoint, Vec::new(), Vec::new())).await;
            mediation_tests::eventually("it is known to be down", async || {
                let ready = engine.admin("/readyz").await;
                if ready["endpoints"]["broker"] == "down" { Ok(()) } else { Err(ready.to_string()) }
            })
            .await;
            let post = http().post(engine.url("post", "/")).body("x");
            assert_eq!(answer(post).await, is(503, "broker_unavailable"), "{guarantee}");
        }
    });
}

#[test]
fn an_endpoint_that_takes_no_events_refuses_them_before_it_accepts() {
    run(async {
        let config = json!({ "brokers": "127.0.0.1:1", "topic_in": "t" });
        let endpoint = json!({ "name": "broker", "type": "kafka", "config": config });
        let engine = Engine::start(&Spec::with("auto").config(&endpoint, Vec::new(), Vec::new())).await;
        let post = http().post(engine.url("post", "/")).body("x");
        assert_eq!(answer(post).await, is(502, "address_not_found"));
    });
}

#[test]
fn unknown_sessions_are_404_and_closed_ones_410() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        let subscribe =
            http().post(engine.url("poll", "/subscribe")).header("x-client-id", "c").send().await.expect("an answer");
        let session: Value = subscribe.json().await.expect("JSON");
        let id = session["session_id"].as_str().expect("an id").to_owned();
        let by_session = [("x-session-id", id.as_str())];
        assert_eq!(ask(engine, "poll", Method::GET, "/poll?wait=0s", &by_session).await.0, 204);
        let unknown = [("x-session-id", "0123456789abcdef0123456789abcdef")];
        assert_eq!(ask(engine, "poll", Method::GET, "/poll", &unknown).await, is(404, "unknown_session"));
        assert_eq!(ask(engine, "poll", Method::GET, "/poll", &[("x-client-id", "nobody")]).await.0, 404);
        assert_eq!(ask(engine, "sse", Method::POST, "/ack", &unknown).await.0, 404);
        let bye = http()
            .delete(engine.url("poll", "/unsubscribe"))
            .header("x-session-id", &id)
            .send()
            .await
            .expect("an answer");
        assert_eq!(bye.status(), StatusCode::OK);
        assert_eq!(bye.json::<Value>().await.expect("JSON"), json!({ "status": "unsubscribed" }));
        assert_eq!(ask(engine, "poll", Method::GET, "/poll", &by_session).await, is(410, "session_closed"));
    });
}

#[test]
fn a_receipt_that_the_client_cannot_give_is_428() {
    run(async {
        let world = World::<Memory>::start(Spec { down: json!({ "receipt": "processed" }), ..Spec::default() }).await;
        let engine = &world.engine;
        assert_eq!(refused(Ws::try_open(engine.addr("ws"), "/", &[]).await), is(428, "receipt_required"));
        assert_eq!(ask(engine, "sse", Method::GET, "/", &[]).await, is(428, "receipt_required"));
        assert_eq!(ask(engine, "poll", Method::POST, "/subscribe", &[]).await, is(428, "receipt_required"));
        Ws::open_v1(engine.addr("ws"), "v1", "").await;
        assert_eq!(ask(engine, "poll", Method::POST, "/subscribe?ack=client", &[]).await.0, 201);
    });
}

#[test]
fn a_full_listener_is_503_and_on_sse_a_goaway() {
    run(async {
        let listeners = json!({ "ws": { "max_connections": 1 }, "sse": { "max_connections": 1 } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let engine = &world.engine;
        let first = RawWs::open(engine.addr("ws"), "first", None).await;
        assert_eq!(refused(Ws::try_open(engine.addr("ws"), "/", &[]).await), is(503, "client_limit"));
        let held = http().get(engine.url("sse", "/")).send().await.expect("an answer");
        let text = http().get(engine.url("sse", "/")).send().await.expect("an answer");
        assert_eq!(text.status(), 200, "an EventSource gives up for ever on any status but 200");
        let text = text.text().await.expect("a stream that ends");
        assert!(text.contains("event: mediation.goaway") && text.contains("retry:"), "{text}");
        drop(held);
        drop(first);
        world.engine.session_gone("first").await;
        mediation_tests::eventually("the place is free again", async || {
            Ws::try_open(engine.addr("ws"), "/", &[]).await.map(drop).map_err(|e| format!("{e:?}"))
        })
        .await;
    });
}

#[test]
fn a_topic_that_kafka_does_not_have_is_502_and_named() {
    run(async {
        let topic = unique("absent");
        let config = json!({ "brokers": Kafka::shared().bootstrap(), "topic_in": topic, "topic_out": topic });
        let endpoint = json!({ "name": "broker", "type": "kafka", "config": config });
        let engine = Engine::start(&Spec::default().config(&endpoint, Vec::new(), Vec::new())).await;
        mediation_tests::eventually("the endpoint is up", async || {
            let ready = engine.admin("/readyz").await;
            if ready["endpoints"]["broker"] == "up" { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
        assert_eq!(refused(Ws::try_open(engine.addr("ws"), "/", &[]).await), is(502, "address_not_found"));
        let subscribe = http().post(engine.url("poll", "/subscribe")).send().await.expect("an answer");
        assert_eq!(subscribe.status(), 502);
        let body: Value = subscribe.json().await.expect("JSON");
        let message = body["error"]["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(&topic) && message.contains("broker"), "topic and endpoint are named: {message}");
        let post = http().post(engine.url("post", "/")).body("x");
        assert_eq!(answer(post).await, is(502, "address_not_found"));
    });
}

#[test]
fn what_kafka_refuses_for_its_size_is_413() {
    run(async {
        let kafka = Kafka::shared();
        let topic = unique("small");
        kafka.create_topic(&topic, 1).await;
        // The producer's own limit; the broker's is as final.
        let properties = json!({ "message.max.bytes": "100000" });
        let config =
            json!({ "brokers": kafka.bootstrap(), "topic_in": topic, "topic_out": topic, "properties": properties });
        let endpoint = json!({ "name": "broker", "type": "kafka", "config": config });
        let engine = Engine::start(&Spec::default().config(&endpoint, Vec::new(), Vec::new())).await;
        let post = |body: Vec<u8>| http().post(engine.url("post", "/")).body(body);
        assert_eq!(answer(post(vec![b'x'; 200_000])).await, is(413, "too_large"));
        assert_eq!(answer(post(vec![b'x'; 50_000])).await.0, 200);
    });
}

#[test]
fn frames_above_max_frame_close_with_1009() {
    run(async {
        let listeners = json!({ "up": { "max_frame": "1KiB" } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let mut ws = Ws::open(world.engine.addr("up"), "big").await;
        ws.send(tokio_tungstenite::tungstenite::Message::text("x".repeat(1025))).await;
        assert_eq!(ws.closed().await.0, 1009);
    });
}

#[test]
fn frames_against_the_protocol_close_with_1002_and_bad_text_with_1007() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let close_code =
            |(opcode, payload): (u8, Vec<u8>)| (opcode, payload.first_chunk().map(|b| u16::from_be_bytes(*b)));
        let mut ws = RawWs::open(world.engine.addr("up"), "unmasked", None).await;
        ws.send_bytes(&[0x81, 1, b'x']).await; // clients must mask
        assert_eq!(close_code(ws.frame().await), (mediation_tests::raw_ws::CLOSE, Some(1002)));
        let mut ws = RawWs::open(world.engine.addr("up"), "bad-text", None).await;
        ws.send(mediation_tests::raw_ws::TEXT, &[0xff, 0xfe]).await;
        assert_eq!(close_code(ws.frame().await), (mediation_tests::raw_ws::CLOSE, Some(1007)));
    });
}

#[test]
fn a_binary_frame_of_v1_closes_with_1003() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let mut ws = RawWs::open_v1(world.engine.addr("up"), "binary-v1").await;
        ws.send(mediation_tests::raw_ws::BINARY, b"{}").await;
        loop {
            let (opcode, payload) = ws.frame().await;
            if opcode == mediation_tests::raw_ws::CLOSE {
                assert_eq!(payload.first_chunk().map(|b| u16::from_be_bytes(*b)), Some(1003));
                return;
            }
        }
    });
}

#[test]
fn foreign_origins_are_refused_and_allowed_ones_get_cors_headers() {
    run(async {
        let listeners = json!({ "sse": { "cors": true, "allowed_origins": ["https://app.example"] } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let engine = &world.engine;
        let foreign = [("origin", "https://evil.example")];
        assert_eq!(refused(Ws::try_open(engine.addr("ws"), "/", &foreign).await), is(403, "origin_not_allowed"));
        assert_eq!(ask(engine, "sse", Method::GET, "/", &foreign).await, is(403, "origin_not_allowed"));
        let own =
            http().get(engine.url("sse", "/")).header("origin", "https://app.example").send().await.expect("an answer");
        assert_eq!(own.status(), 200);
        assert_eq!(own.headers()["access-control-allow-origin"], "https://app.example");
    });
}

#[test]
fn sessions_above_the_consumers_are_503_and_on_sse_a_goaway() {
    run(async {
        let endpoint = json!({ "max_dedicated_consumers": 1 });
        let world = World::<OnKafka>::start(Spec { endpoint, ..Spec::default() }).await;
        let engine = &world.engine;
        let first = Ws::open(engine.addr("ws"), "first").await;
        assert_eq!(refused(Ws::try_open(engine.addr("ws"), "/", &[]).await), is(503, "client_limit"));
        assert_eq!(ask(engine, "poll", Method::POST, "/subscribe", &[]).await, is(503, "client_limit"));
        let stream = http().get(engine.url("sse", "/")).send().await.expect("an answer");
        assert_eq!(stream.status(), 200, "an EventSource gives up for ever on any status but 200");
        let text = stream.text().await.expect("a stream that ends");
        assert!(text.contains("event: mediation.goaway") && text.contains("client_limit"), "{text}");
        first.close().await;
        mediation_tests::eventually("the place is free again", async || {
            Ws::try_open(engine.addr("ws"), "/", &[]).await.map(drop).map_err(|e| format!("{e:?}"))
        })
        .await;
    });
}

#[test]
fn a_body_that_does_not_come_is_408() {
    run(async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listeners = json!({ "post": { "body_timeout": "3s" } });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let mut socket = tokio::net::TcpStream::connect(world.engine.addr("post")).await.expect("it accepts");
        socket.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab").await.expect("sent");
        let mut head = [0; 12];
        mediation_tests::run::within("an answer", socket.read_exact(&mut head)).await.expect("an answer");
        assert_eq!(&head, b"HTTP/1.1 408");
    });
}

#[test]
fn what_the_broker_refuses_for_good_is_422() {
    run(async {
        let config = json!({ "topic_in": "a", "topic_out": "b", "topics": 1 });
        let endpoint = json!({ "name": "broker", "type": "memory", "config": config });
        let engine = Engine::start(&Spec::default().config(&endpoint, Vec::new(), Vec::new())).await;
        Ws::try_open(engine.addr("ws"), "/", &[]).await.expect("admitted: it makes the one topic");
        let post = http().post(engine.url("post", "/")).body("x");
        assert_eq!(answer(post).await, is(422, "refused_by_broker"));
    });
}
