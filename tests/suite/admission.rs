//! What a resolver decides at connect: who may come in, as whom, where to and until when. The guest `resolver-demo` goes
//! by rules of its configuration.

use mediation_tests::broker::Reachable;
use mediation_tests::guests::Plugins;
use mediation_tests::{Memory, Spec, Sse, World, Ws, eventually, http, run};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http_answers::{answer, ask, is, refused};

/// An engine whose clients pass the resolver; it is there when this returns.
async fn world(rules: Value, mut spec: Spec) -> (World<Memory>, Plugins) {
    let folder = Plugins::with(&["resolver-demo"]);
    for routes in [&mut spec.down, &mut spec.up] {
        routes["resolver"] = "resolver-demo".into();
    }
    spec.top = json!({
        "plugins_dir": folder.path(),
        "plugins": [{ "name": "resolver-demo", "config": { "rules": rules } }],
    });
    let world = World::<Memory>::start(spec).await;
    world.engine.plugin_serves("resolver-demo").await;
    (world, folder)
}

async fn post(world: &World<Memory>, path: &str, body: &'static str) {
    let sent = http().post(world.engine.url("post", path)).body(body).send().await.expect("an answer");
    assert_eq!(sent.status(), 200);
}

#[test]
fn a_client_is_refused_before_it_is_answered_on_every_entrypoint() {
    run(async {
        let codes = [
            ("bad-request", 400),
            ("unauthorized", 401),
            ("forbidden", 403),
            ("not-found", 404),
            ("rate-limited", 429),
            ("no-such-tenant", 403),
        ];
        let rules = codes.iter().map(|(code, _)| json!({ "path": format!("/{code}"), "reject": code }));
        let rules = rules.chain([json!({ "path": "/unavailable", "reject": "unavailable" })]).collect();
        let (world, _folder) = world(rules, Spec::default()).await;
        let engine = &world.engine;
        for (code, status) in codes {
            let path = format!("/{code}");
            for name in ["ws", "up"] {
                assert_eq!(refused(Ws::try_open(engine.addr(name), &path, &[]).await), is(status, code), "{name}");
            }
            assert_eq!(ask(engine, "sse", Method::GET, &path, &[]).await, is(status, code));
            assert_eq!(ask(engine, "post", Method::POST, &path, &[]).await, is(status, code));
            assert_eq!(ask(engine, "poll", Method::POST, &format!("{path}/subscribe"), &[]).await, is(status, code));
        }
        let unauthorized = http().get(engine.url("sse", "/unauthorized")).send().await.expect("an answer");
        assert_eq!(unauthorized.headers()["www-authenticate"], "Bearer");
        // What passes is a 200 to an EventSource, which would else give up for ever.
        assert_eq!(refused(Ws::try_open(engine.addr("ws"), "/unavailable", &[]).await), is(503, "unavailable"));
        let passes = http().get(engine.url("sse", "/unavailable")).send().await.expect("an answer");
        assert_eq!(passes.status(), StatusCode::OK);
        let goaway = Sse::of(passes).next().await.expect("a message");
        assert_eq!(goaway.event, "mediation.goaway");
        assert!(engine.sessions().await.iter().all(|session| session["client_id"] == "tap"), "no session began");
    });
}

#[test]
fn a_client_goes_where_it_is_led_as_whom_it_is_admitted() {
    run(async {
        let rule = json!({
            "path": "/led", "endpoint": "broker", "address": "elsewhere", "client_id": "somebody",
            "attributes": { "tenant": "secret" },
        });
        let (world, _folder) = world(json!([rule]), Spec::default()).await;
        let engine = &world.engine;
        let mut ws = Ws::try_open(engine.addr("ws"), "/led", &[("x-client-id", "claimed")]).await.expect("admitted");
        let session = engine.session_when("somebody", "it is there", |_| true).await;
        assert_eq!((&session["address"], &session["attributes"]), (&json!("elsewhere"), &json!(["tenant"])));
        assert!(!session.to_string().contains("secret"));
        let mut own = Ws::open(engine.addr("ws"), "own").await;
        world.publish(["own"]).await;
        post(&world, "/led", "led").await;
        assert_eq!(ws.events(1).await, ["led"], "nothing of the endpoint's own topic before it");
        assert_eq!(own.events(1).await, ["own"]);
    });
}

#[test]
fn a_target_that_cannot_be_is_refused() {
    run(async {
        let rules = json!([
            { "path": "/pattern", "endpoint": "broker", "address": "orders/#" },
            { "path": "/nowhere", "endpoint": "nowhere" },
            { "path": "/nobody", "client_id": "a b" },
            { "path": "/over", "expires_at_ms": 1 },
        ]);
        let (world, _folder) = world(rules, Spec::default()).await;
        let engine = &world.engine;
        for (path, status, code) in [
            ("/pattern", 400, "bad_request"),
            ("/nowhere", 502, "target_not_found"),
            ("/nobody", 502, "bad_admission"),
            ("/over", 401, "unauthorized"),
        ] {
            assert_eq!(refused(Ws::try_open(engine.addr("ws"), path, &[]).await), is(status, code));
            assert_eq!(refused(Ws::try_open(engine.addr("up"), path, &[]).await), is(status, code));
            assert_eq!(ask(engine, "sse", Method::GET, path, &[]).await, is(status, code));
            assert_eq!(ask(engine, "post", Method::POST, path, &[]).await, is(status, code));
            assert_eq!(ask(engine, "poll", Method::POST, &format!("{path}/subscribe"), &[]).await, is(status, code));
        }
        let body: Value = http().get(engine.url("sse", "/pattern")).send().await.unwrap().json().await.unwrap();
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert!(["orders/#", "broker", "allow_patterns"].iter().all(|word| message.contains(word)), "{message}");
    });
}

#[test]
fn an_admission_ends_and_the_client_goes_on_with_a_new_one() {
    run(async {
        let rule = json!({ "path": "/brief*", "expires_in_ms": 3000 });
        let spec = Spec { down: json!({ "durable": true }), ..Spec::default() };
        let (world, _folder) = world(json!([rule]), spec).await;
        let engine = &world.engine;
        let open = async |client: &str| {
            let headers = [("x-client-id", client), ("sec-websocket-protocol", "mediation.v1")];
            let mut ws = Ws::try_open(engine.addr("ws"), "/brief", &headers).await.expect("admitted");
            assert_eq!(ws.json().await["type"], "session");
            ws
        };
        let mut ws = open("brief").await;
        let stream = http().get(engine.url("sse", "/brief")).send().await.expect("an answer");
        let mut stream = Sse::of(stream);
        let subscribed = http().post(engine.url("poll", "/brief/subscribe")).send().await.expect("an answer");
        let polled: Value = subscribed.json().await.expect("JSON");
        world.publish(["acked", "open"]).await;
        let (acked, unacked) = (ws.json_of("event").await, ws.json_of("event").await);
        assert_eq!((&acked["payload"], &unacked["payload"]), (&json!("acked"), &json!("open")));
        ws.ack(&[&acked["id"]]).await;
        assert_eq!(ws.closed().await, (4401, "expired".to_owned()));
        world.publish(["later"]).await;
        engine.session_gone("brief").await;
        let mut again = open("brief").await;
        for payload in ["open", "later"] {
            assert_eq!(again.json_of("event").await["payload"], payload);
        }
        let error = loop {
            let message = stream.next().await.expect("a message before the end");
            if message.event == "mediation.error" {
                break message.data;
            }
        };
        assert!(error.contains("\"expired\""), "{error}");
        assert!(stream.next().await.is_none(), "it ended");
        let poll = http().get(engine.url("poll", "/brief/poll")).header("accept", "application/json");
        let session = polled["session_id"].as_str().expect("an id").to_owned();
        let gone = eventually("the polled session is over", async || {
            let poll = poll.try_clone().expect("no body").header("x-session-id", &session);
            match answer(poll).await {
                (410, code) => Ok(code),
                other => Err(format!("{other:?}")),
            }
        });
        assert_eq!(gone.await, "session_closed");
        let closed = engine.metric("mediation_sessions_closed_total", &["reason=\"expired\""]).await;
        assert!(closed >= 3.0, "{closed}");
    });
}

#[test]
fn a_resolver_that_is_not_there_lets_nobody_in() {
    run(async {
        let resolver = json!({ "resolver": "absent" });
        let world = World::<Memory>::start(Spec { down: resolver.clone(), up: resolver, ..Spec::default() }).await;
        let engine = &world.engine;
        let is = is(503, "plugin_unavailable");
        for name in ["ws", "up"] {
            assert_eq!(refused(Ws::try_open(engine.addr(name), "/", &[]).await), is);
        }
        assert_eq!(ask(engine, "post", Method::POST, "/", &[]).await, is);
        assert_eq!(ask(engine, "poll", Method::POST, "/subscribe", &[]).await, is);
        let passes = http().get(engine.url("sse", "/")).send().await.expect("an answer");
        let goaway = Sse::of(passes).next().await.expect("a message");
        assert_eq!(goaway.event, "mediation.goaway");
        assert!(goaway.data.contains("plugin_unavailable"), "{}", goaway.data);
    });
}

#[test]
fn connects_and_disconnects_are_published_where_the_route_says_so() {
    run(async {
        let spec = Spec { up: json!({ "lifecycle_events": true }), tap: true, ..Spec::default() };
        let world = World::<Memory>::start(spec).await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("up"), "known", "").await;
        ws.send_json(json!({ "type": "publish", "payload": "between" })).await;
        ws.json_of("published").await;
        ws.close().await;
        let records = world.broker.published(&world.engine, 3).await;
        let body = |at: usize| serde_json::from_str::<Value>(&records[at].text()).expect("JSON");
        let (connect, disconnect) = (body(0), body(2));
        assert_eq!(records[1].text(), "between");
        assert_eq!(records[0].text_header("mediation.lifecycle").as_deref(), Some("connect"));
        assert_eq!(records[2].text_header("mediation.lifecycle").as_deref(), Some("disconnect"));
        for (event, kind) in [(&connect, "connect"), (&disconnect, "disconnect")] {
            assert_eq!((&event["type"], &event["client_id"]), (&json!(kind), &json!("known")), "{event}");
            assert_eq!((&event["entrypoint"], &event["path"]), (&json!("up"), &json!("/")), "{event}");
            assert!(event["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{event}");
            assert!(event["at_ms"].as_i64().is_some_and(|at| at > 0), "{event}");
        }
        assert_eq!(connect["session_id"], disconnect["session_id"]);
        assert_eq!((&connect["reason"], &disconnect["reason"]), (&Value::Null, &json!("client")));
    });
}
