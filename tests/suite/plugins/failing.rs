//! Plugins that fail: what becomes of the event, and of everybody else.

use mediation_tests::{Plugins, Record, Spec, World, Ws, eventually, http, run};
use serde_json::{Value, json};

use super::world;

/// A route for dead letters: `dead` (v1) reads what the topic `dead` of the broker has.
fn with_dead(mut spec: Spec, more: &Value) -> Spec {
    let dead = json!({ "dead_letter": { "endpoint": "graveyard", "address": "dead" } });
    mediation_tests::spec::merge(&mut spec.down, &dead);
    mediation_tests::spec::merge(&mut spec.down, more);
    spec
}

/// The configuration of a world with a second endpoint, `graveyard`, that a client reads on `dead`.
async fn world_with_dead(folder: &Plugins, plugins: Value, spec: Spec) -> World<mediation_tests::Memory> {
    use mediation_tests::Broker as _;
    use mediation_tests::broker::Reachable as _;
    let broker = mediation_tests::Memory::prepare(&spec).await;
    let mut config = broker.config(&spec);
    let push = |config: &mut Value, key: &str, value: Value| config[key].as_array_mut().expect("a list").push(value);
    let endpoint = json!({ "topic_in": "dead", "topic_out": "dead", "start": "earliest" });
    push(&mut config, "endpoints", json!({ "name": "graveyard", "type": "memory", "config": endpoint }));
    push(&mut config, "entrypoints", mediation_tests::spec::entrypoint("dead", "websocket"));
    push(&mut config, "routes", mediation_tests::spec::route("graveyard", "dead", "downstream", "auto"));
    config["plugins_dir"] = json!(folder.path());
    config["plugins"] = plugins;
    let engine = mediation_tests::Engine::start(&config).await;
    World { engine, broker, spec }
}

#[test]
fn a_trap_redelivers_and_then_goes_to_the_dead_letters_as_it_was() {
    run(async {
        for guarantee in ["at_least_once", "auto"] {
            let folder = Plugins::with(&["trap"]);
            let more = json!({ "plugins": ["trap"], "max_redeliveries": 2, "redelivery_backoff": "20ms" });
            let spec = with_dead(Spec::with(guarantee), &more);
            let world = world_with_dead(&folder, json!([]), spec).await;
            world.engine.plugin_serves("trap").await;
            let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "victim", "").await;
            world.publish_records(&[Record::new("TRAP").header("X-One", "1"), Record::new("fine")]).await;
            let fine = ws.json_of("event").await;
            assert_eq!(fine["payload"], "fine", "{guarantee}: the event behind it is not held up: {fine}");
            ws.ack(&[&fine["id"]]).await;
            let (mut dead, _) = Ws::open_v1(world.engine.addr("dead"), "gravedigger", "").await;
            let letter = dead.json_of("event").await;
            let said = &letter["metadata"];
            assert_eq!(letter["payload"], "TRAP", "{letter}");
            assert_eq!(said["header.x-one"], "1", "{letter}");
            assert_eq!(said["header.mediation.reason"], "plugin_trap", "{letter}");
            assert_eq!(said["header.mediation.source"], "broker", "{letter}");
            assert_eq!(said["header.mediation.attempts"], "3", "{letter}");
            assert_eq!(said["header.mediation.client_id"], "victim", "{letter}");
            let id = said["header.mediation.event_id"].as_str().expect("an id");
            assert!(id.ends_with("-0-0"), "{letter}");
            world.acknowledged_is("victim", 2).await;
            assert!(world.engine.metric("mediation_dead_lettered_total", &["broker->ws"]).await >= 1.0);
        }
    });
}

#[test]
fn on_error_decides_what_becomes_of_the_event() {
    run(async {
        let folder = Plugins::with(&["trap"]);
        let uses = |on_error: &str| json!({ "plugins": [{ "name": "trap", "on_error": on_error }] });
        // Open: it goes on without the plugin.
        let spec = Spec { down: uses("open"), ..Spec::default() };
        let open = world(&folder, json!([]), spec).await;
        open.engine.plugin_serves("trap").await;
        let mut ws = Ws::open(open.engine.addr("ws"), "c").await;
        open.publish(["TRAP", "b"]).await;
        assert_eq!(ws.events(2).await, ["TRAP", "b"]);
        // To the dead letters at once.
        let spec = with_dead(Spec::default(), &uses("dead_letter"));
        let dead = world_with_dead(&folder, json!([]), spec).await;
        dead.engine.plugin_serves("trap").await;
        let (mut ws, _) = Ws::open_v1(dead.engine.addr("ws"), "c", "").await;
        dead.publish(["TRAP", "b"]).await;
        let event = ws.json_of("event").await;
        assert_eq!(event["payload"], "b");
        ws.ack(&[&event["id"]]).await;
        let (mut letters, _) = Ws::open_v1(dead.engine.addr("dead"), "gravedigger", "").await;
        let letter = letters.json_of("event").await;
        assert_eq!(letter["payload"], "TRAP");
        assert_eq!(letter["metadata"]["header.mediation.attempts"], "1");
        dead.acknowledged_is("c", 2).await;
    });
}

#[test]
fn a_plugin_that_is_left_alone_for_a_while_costs_no_innocent_event() {
    run(async {
        let folder = Plugins::with(&["trap"]);
        let uses = json!({ "plugins": [{ "name": "trap", "on_error": "dead_letter" }], "redelivery_backoff": "50ms" });
        let world = world_with_dead(&folder, json!([]), with_dead(Spec::default(), &uses)).await;
        world.engine.plugin_serves("trap").await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        world.publish((0..5).map(|n| format!("TRAP {n}"))).await;
        world.publish((0..20).map(|n| n.to_string())).await;
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 20 {
            let event = ws.json_of("event").await;
            seen.insert(event["payload"].as_str().expect("text").to_owned());
            ws.ack(&[&event["id"]]).await;
        }
        assert!(seen.iter().all(|payload| !payload.starts_with("TRAP")), "{seen:?}");
        world.acknowledged_is("c", 25).await;
        let letters = world.engine.metric("mediation_dead_lettered_total", &["broker->ws"]).await;
        assert!((letters - 5.0).abs() < 0.1, "the guilty ones and no other: {letters}");
    });
}

#[test]
fn under_at_most_once_nothing_passes_an_event_that_did_not_pass_its_plugin() {
    run(async {
        let folder = Plugins::with(&["trap"]);
        let down = json!({ "plugins": ["trap"], "redelivery_backoff": "300ms", "max_redeliveries": 2 });
        let world = world_with_dead(&folder, json!([]), with_dead(Spec::with("at_most_once"), &down)).await;
        world.engine.plugin_serves("trap").await;
        let mut ws = Ws::open(world.engine.addr("ws"), "c").await;
        world.publish(["a", "TRAP", "b"]).await;
        assert_eq!(ws.events(1).await, ["a"]);
        eventually("it was tried twice", async || {
            let tried = world.engine.metric("mediation_plugin_failed_total", &["broker->ws"]).await;
            if tried >= 2.0 { Ok(()) } else { Err(format!("{tried}")) }
        })
        .await;
        let held = world.engine.session("c").await.expect("it lives");
        assert_eq!(held["delivered"], 1, "{held}");
        assert_eq!(ws.events(1).await, ["b"], "once the dead letters have it");
        world.engine.session_when("c", "all is settled", |s| s["positions"][0]["settled"] == 3).await;
    });
}

#[test]
fn what_the_settings_say_of_failures_holds_while_the_component_is_missing() {
    run(async {
        let folder = Plugins::new();
        let spec = Spec { down: json!({ "plugins": ["absent"] }), ..Spec::default() };
        let world = world(&folder, json!([{ "name": "absent", "on_error": "open" }]), spec).await;
        let mut ws = Ws::open(world.engine.addr("ws"), "c").await;
        world.publish(["a"]).await;
        assert_eq!(ws.events(1).await, ["a"]);
    });
}

#[test]
fn an_upstream_event_that_a_plugin_fails_on_is_its_clients_to_know() {
    run(async {
        let folder = Plugins::with(&["trap"]);
        let up = json!({ "plugins": ["trap"] });
        let world = world(&folder, json!([]), Spec { up, tap: true, ..Spec::default() }).await;
        world.engine.plugin_serves("trap").await;
        let post = |body: &'static str| http().post(world.engine.url("post", "/")).body(body).send();
        let answer = post("TRAP").await.expect("an answer");
        assert_eq!(answer.status(), 500);
        assert_eq!(answer.json::<Value>().await.expect("JSON")["error"]["code"], "plugin_failed");
        assert_eq!(post("fine").await.expect("an answer").status(), 200);
        let mut plain = Ws::open(world.engine.addr("up"), "plain").await;
        plain.send(tokio_tungstenite::tungstenite::Message::text("TRAP")).await;
        assert_eq!(plain.closed().await.0, 1011);
        assert_eq!(world.published(1).await[0].text(), "fine");
    });
}

#[test]
fn a_client_that_nacks_too_often_sends_the_event_to_the_dead_letters() {
    run(async {
        let folder = Plugins::new();
        let spec = with_dead(Spec::default(), &json!({ "max_redeliveries": 1, "redelivery_backoff": "20ms" }));
        let world = world_with_dead(&folder, json!([]), spec).await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        world.publish(["poison", "unwanted"]).await;
        let (mut poisoned, mut rejected) = (0, 0);
        while poisoned < 2 || rejected < 1 {
            let event = ws.json_of("event").await;
            let again = event["payload"] == "poison";
            poisoned += usize::from(again);
            rejected += usize::from(!again);
            ws.send_json(json!({ "type": "nack", "ids": [event["id"]], "requeue": again })).await;
        }
        let (mut dead, _) = Ws::open_v1(world.engine.addr("dead"), "gravedigger", "").await;
        let mut reasons = Vec::new();
        for _ in 0..2 {
            let letter = dead.json_of("event").await;
            let reason = letter["metadata"]["header.mediation.reason"].as_str().expect("a reason").to_owned();
            reasons.push((letter["payload"].as_str().expect("text").to_owned(), reason));
        }
        reasons.sort();
        let expected = [("poison", "max_redeliveries"), ("unwanted", "rejected")];
        assert_eq!(reasons, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        world.acknowledged_is("c", 2).await;
    });
}

#[test]
fn a_failing_dead_letter_target_is_tried_again_until_it_is_there() {
    run(async {
        let folder = Plugins::with(&["trap"]);
        let down = json!({
            "plugins": [{ "name": "trap", "on_error": "dead_letter" }], "redelivery_backoff": "20ms",
            "dead_letter": { "endpoint": "broker", "address": "dead" },
        });
        // An endpoint with room for one topic, which is taken.
        let spec = Spec { down, endpoint: json!({ "topics": 1 }), ..Spec::default() };
        let world = world(&folder, json!([]), spec).await;
        world.engine.plugin_serves("trap").await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        world.publish(["TRAP", "b"]).await;
        let event = ws.json_of("event").await;
        assert_eq!(event["payload"], "b");
        ws.ack(&[&event["id"]]).await;
        eventually("it was tried more than once", async || {
            let tried = world.engine.metric("mediation_plugin_failed_total", &["broker->ws"]).await;
            if tried >= 3.0 { Ok(()) } else { Err(format!("{tried}")) }
        })
        .await;
        assert_eq!(world.acknowledged("c").await, Some(0), "it is still owed");
    });
}

#[test]
fn an_event_that_is_rejected_twice_is_not_acknowledged_before_the_dead_letters_have_it() {
    run(async {
        let folder = Plugins::new();
        let dead = json!({ "endpoint": "broker", "address": "dead" });
        let down = json!({ "redelivery_backoff": "20ms", "dead_letter": dead });
        // An endpoint with room for one topic, which is taken.
        let spec = Spec { down, endpoint: json!({ "topics": 1 }), ..Spec::default() };
        let world = world(&folder, json!([]), spec).await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        world.publish(["a"]).await;
        for _ in 0..3 {
            let event = ws.json_of("event").await;
            ws.send_json(json!({ "type": "nack", "ids": [event["id"], event["id"]], "requeue": false })).await;
        }
        assert_eq!(world.acknowledged("c").await, Some(0), "it is still owed");
    });
}

#[test]
fn nothing_of_a_spinning_plugin_reaches_another_session() {
    run(async {
        let folder = Plugins::with(&["spin"]);
        let config = json!([{ "name": "spin" }]);
        let down = json!({ "plugins": ["spin"], "redelivery_backoff": "1s" });
        let world = world(&folder, config, Spec { down, ..Spec::default() }).await;
        world.engine.plugin_serves("spin").await;
        let mut ws = Ws::open(world.engine.addr("ws"), "c").await;
        let (mut tap, _) = Ws::open_v1(world.engine.addr("tap"), "other", "").await;
        world.publish(["SPIN", "after"]).await;
        assert_eq!(ws.events(1).await, ["after"]);
        for payload in ["SPIN", "after"] {
            assert_eq!(tap.json_of("event").await["payload"], payload);
        }
        let faults = world.engine.plugin_when("spin", "a fault is counted", |p| p["faults"].as_u64() > Some(0)).await;
        assert!(faults["calls"].as_u64() > Some(0), "{faults}");
    });
}

/// Guests that misbehave on a payload: their event is theirs, the next one passes.
#[test]
fn a_misbehaving_plugin_costs_its_own_event_only() {
    run(async {
        for (name, payload) in
            [("hog", "HOG"), ("many-outputs", "MANY"), ("bad-range", "RANGE"), ("alias-bomb", "BOMB"), ("trap", "TRAP")]
        {
            let folder = Plugins::with(&[name]);
            let down = json!({ "plugins": [name], "redelivery_backoff": "30s" });
            let world = world(&folder, json!([]), Spec { down, ..Spec::default() }).await;
            world.engine.plugin_serves(name).await;
            let mut ws = Ws::open(world.engine.addr("ws"), "c").await;
            let before = world.engine.usage().resident;
            world.publish([payload.to_owned(), format!("after {name}")]).await;
            assert_eq!(ws.events(1).await, [format!("after {name}")]);
            world.engine.plugin_when(name, "a fault", |p| p["faults"].as_u64() > Some(0)).await;
            let after = world.engine.usage().resident;
            assert!(after < before + 128 * 1024, "{name}: {before} KiB before, {after} KiB after");
        }
    });
}
