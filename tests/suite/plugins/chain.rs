//! Mappers and enrichers between the ends of a route.

use mediation_tests::{Plugins, Spec, Sse, Ws, http, run};
use serde_json::{Value, json};

use super::world;

#[test]
fn an_enricher_and_a_mapper_change_what_a_client_gets() {
    run(async {
        let folder = Plugins::with(&["tag", "wrap"]);
        let spec = Spec { down: json!({ "plugins": ["tag", "wrap"] }), ..Spec::default() };
        let plugins = json!([
            { "name": "tag", "config": { "tag": "blue" } },
            { "name": "wrap", "config": { "before": "<", "after": ">" } },
        ]);
        let world = world(&folder, plugins, spec).await;
        let (mut v1, _) = Ws::open_v1(world.engine.addr("ws"), "v1", "").await;
        let mut plain = Ws::open(world.engine.addr("ws"), "plain").await;
        let (mut sse, _) = Sse::open(&world.engine, "sse", "").await;
        world.publish(["a", "b"]).await;
        for payload in ["<a>", "<b>"] {
            let frame = v1.json_of("event").await;
            assert_eq!(frame["payload"], payload, "{frame}");
            assert_eq!(frame["metadata"]["x-tag"], "blue", "{frame}");
            assert_eq!(frame["metadata"]["header.x-tag"], "blue", "{frame}");
            assert_eq!(plain.events(1).await, [payload]);
            assert_eq!(sse.event().await.data, payload);
            v1.ack(&[&frame["id"]]).await;
        }
        world.acknowledged_is("v1", 2).await;
    });
}

#[test]
fn one_event_that_became_three_is_acknowledged_when_all_three_are() {
    run(async {
        let folder = Plugins::with(&["split3"]);
        let spec = Spec { down: json!({ "plugins": ["split3"] }), ..Spec::default() };
        let world = world(&folder, json!([]), spec).await;
        world.engine.plugin_serves("split3").await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        world.publish(["abcd"]).await;
        let mut ids = Vec::new();
        for payload in ["ab", "cd", "abcd"] {
            let frame = ws.json_of("event").await;
            assert_eq!(frame["payload"], payload, "{frame}");
            ids.push(frame["id"].as_str().expect("an id").to_owned());
        }
        let base = ids[0].strip_suffix("#1").expect("the first of several").to_owned();
        assert_eq!(ids, [1, 2, 3].map(|n| format!("{base}#{n}")));
        ws.ack(&[&json!(ids[2]), &json!(ids[0])]).await;
        // A publish behind it shows that both acks have been looked at.
        world.publish(["ef"]).await;
        let second = [ws.json_of("event").await, ws.json_of("event").await, ws.json_of("event").await];
        ws.ack(&second.iter().map(|frame| &frame["id"]).collect::<Vec<_>>()).await;
        world.engine.session_when("c", "one event is settled", |s| s["settled"] == 1).await;
        assert_eq!(world.acknowledged("c").await, Some(0), "two of three acknowledge nothing");
        ws.ack(&[&json!(ids[1])]).await;
        world.acknowledged_is("c", 2).await;
    });
}

#[test]
fn a_nack_of_one_part_brings_all_parts_again() {
    run(async {
        let folder = Plugins::with(&["split3"]);
        let spec = Spec { down: json!({ "plugins": ["split3"], "redelivery_backoff": "50ms" }), ..Spec::default() };
        let world = world(&folder, json!([{ "name": "split3", "config": { "outputs": 2 } }]), spec).await;
        world.engine.plugin_serves("split3").await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        world.publish(["x"]).await;
        let (first, second) = (ws.json_of("event").await, ws.json_of("event").await);
        ws.ack(&[&first["id"]]).await;
        ws.send_json(json!({ "type": "nack", "ids": [second["id"]] })).await;
        for before in [&first, &second] {
            let again = ws.json_of("event").await;
            assert_eq!(again["id"], before["id"]);
            assert_eq!(again["metadata"]["mediation.redelivered"], "true", "{again}");
            ws.ack(&[&again["id"]]).await;
        }
        world.acknowledged_is("c", 1).await;
    });
}

#[test]
fn parts_that_are_rejected_are_one_dead_letter_and_nacked_parts_one_strike() {
    run(async {
        let folder = Plugins::with(&["split3"]);
        let down = json!({
            "plugins": ["split3"], "redelivery_backoff": "20ms", "max_redeliveries": 1,
            "dead_letter": { "endpoint": "broker", "address": "dead" },
        });
        let world = world(&folder, json!([]), Spec { down, ..Spec::default() }).await;
        world.engine.plugin_serves("split3").await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        let parts =
            async |ws: &mut Ws| [ws.json_of("event").await, ws.json_of("event").await, ws.json_of("event").await];
        let nack = |frame: &Value, requeue: bool| json!({ "type": "nack", "ids": [frame["id"]], "requeue": requeue });
        world.publish(["abcd"]).await;
        let [first, second, third] = parts(&mut ws).await;
        ws.send_json(nack(&first, false)).await;
        ws.send_json(nack(&second, false)).await;
        ws.ack(&[&third["id"]]).await;
        world.acknowledged_is("c", 1).await;
        let letters = async || world.engine.metric("mediation_dead_lettered_total", &["broker->ws"]).await;
        assert!((letters().await - 1.0).abs() < 0.1, "{}", letters().await);
        world.publish(["efgh"]).await;
        for _ in 0..2 {
            for frame in &parts(&mut ws).await {
                ws.send_json(nack(frame, true)).await;
            }
        }
        world.acknowledged_is("c", 2).await;
        assert!((letters().await - 2.0).abs() < 0.1, "{}", letters().await);
    });
}

#[test]
fn a_long_poll_gets_the_parts_one_after_the_other() {
    run(async {
        let folder = Plugins::with(&["split3"]);
        let spec = Spec { down: json!({ "plugins": ["split3"] }), ..Spec::default() };
        let world = world(&folder, json!([]), spec).await;
        world.engine.plugin_serves("split3").await;
        let answer = http().post(world.engine.url("poll", "/subscribe?client_id=p")).send().await.expect("an answer");
        assert_eq!(answer.status(), 201);
        world.publish(["abcd", "efgh"]).await;
        for payload in ["ab", "cd", "abcd", "ef", "gh", "efgh"] {
            let answer = http().get(world.engine.url("poll", "/poll?client_id=p&wait=30")).send().await.expect("one");
            assert_eq!(answer.text().await.expect("a body"), payload);
        }
        world.acknowledged_is("p", 2).await;
    });
}

#[test]
fn what_a_plugin_drops_is_acknowledged_and_nobody_gets_it() {
    run(async {
        let folder = Plugins::with(&["verdict"]);
        let up = json!({ "plugins": ["verdict"] });
        let listeners = json!({ "post": { "forward_headers": ["X-Verdict"] } });
        let world = world(&folder, json!([]), Spec { up, listeners, tap: true, ..Spec::default() }).await;
        world.engine.plugin_serves("verdict").await;
        for (verdict, body) in [("drop", "a"), ("none", "b"), ("double", "c"), ("absent", "d"), ("", "e")] {
            let request = http().post(world.engine.url("post", "/")).header("x-verdict", verdict).body(body);
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 200, "{verdict}: {:?}", answer.text().await);
        }
        let texts: Vec<String> = world.published(4).await.iter().map(mediation_tests::Record::text).collect();
        assert_eq!(texts, ["c", "c", "", "e"]);
        assert!(world.engine.metric("mediation_plugin_dropped_total", &["post"]).await >= 2.0);
    });
}

#[test]
fn a_client_is_told_why_a_plugin_rejects_its_event() {
    run(async {
        let folder = Plugins::with(&["verdict"]);
        let up = json!({ "plugins": ["verdict"] });
        let listeners = json!({ "post": { "forward_headers": ["X-Verdict"] } });
        for guarantee in ["auto", "at_least_once"] {
            let spec = Spec { up: up.clone(), listeners: listeners.clone(), guarantee, ..Spec::default() };
            let world = world(&folder, json!([]), spec).await;
            world.engine.plugin_serves("verdict").await;
            let request = http().post(world.engine.url("post", "/")).header("x-verdict", "reject").body("x");
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 422);
            let body: Value = answer.json().await.expect("JSON");
            assert_eq!(body["error"]["code"], "told-to", "{body}");
            let (mut v1, _) = Ws::open_v1(world.engine.addr("up"), "v1", "").await;
            let metadata = json!({ "header.x-verdict": "reject" });
            v1.send_json(json!({ "type": "publish", "ref": "1", "payload": "x", "metadata": metadata })).await;
            let error = v1.json().await;
            assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("told-to")), "{guarantee}: {error}");
            v1.send_json(json!({ "type": "publish", "ref": "2", "payload": "y" })).await;
            let fine = v1.json().await;
            assert_eq!(fine["type"], if guarantee == "auto" { "accepted" } else { "published" }, "{fine}");
        }
    });
}

#[test]
fn the_packet_log_names_the_generations() {
    run(async {
        let folder = Plugins::with(&["tag"]);
        let spec = Spec { down: json!({ "plugins": ["tag"] }), ..Spec::default() };
        let world = world(&folder, json!([{ "name": "tag", "config": { "tag": "x" } }]), spec).await;
        world.engine.plugin_serves("tag").await;
        let mut ws = Ws::open(world.engine.addr("ws"), "c").await;
        world.publish(["a"]).await;
        ws.events(1).await;
        mediation_tests::eventually("a line with generations", async || {
            let lines = world.engine.packets();
            let line = lines.iter().find(|line| line["target"] == "ws" && line["plugins"]["tag"].is_u64());
            line.map(|_| ()).ok_or_else(|| format!("{lines:?}"))
        })
        .await;
    });
}
