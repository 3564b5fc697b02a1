//! The configuration names plugins anew while events pass: nobody meets one that is not there yet.

use mediation_tests::broker::Reachable as _;
use mediation_tests::{Plugins, Spec, Ws, eventually, http, run};
use serde_json::{Value, json};

use super::world;

/// The configuration of a world with its plugins folder.
fn config(world: &mediation_tests::World<mediation_tests::Memory>) -> Value {
    world.broker.config(&world.spec)
}

#[test]
fn a_plugin_that_a_reload_adds_fails_no_event() {
    run(async {
        let folder = Plugins::with(&["tag"]);
        let world = world(&folder, json!([]), Spec { tap: true, ..Spec::default() }).await;
        let (mut ws, session) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        for round in 1..=3_u64 {
            let mut next = config(&world);
            let name = format!("tag{round}");
            next["plugins"] = json!([{ "name": name, "file": "tag.wasm", "config": { "tag": name } }]);
            for route in next["routes"].as_array_mut().expect("a list") {
                if ["ws", "sse", "poll"].contains(&route["target"].as_str().unwrap_or_default())
                    || route["source"] == "post"
                {
                    route["plugins"] = json!([name]);
                }
            }
            world.engine.reconfigure(&serde_yaml::to_string(&next).expect("plain data"));
            // Events before, while and after it happens; each is published, and comes once and in order.
            let mut tags = Vec::new();
            for _ in 0..2000 {
                let answer = http().post(world.engine.url("post", "/")).body(round.to_string()).send().await;
                assert_eq!(answer.expect("an answer").status(), 200);
                let event = ws.json_of("event").await;
                assert_eq!(event["payload"], round.to_string());
                ws.ack(&[&event["id"]]).await;
                tags.push(event["metadata"]["x-tag"].as_str().unwrap_or_default().to_owned());
                if tags.last() == Some(&name) {
                    break;
                }
            }
            assert_eq!(tags.last(), Some(&name), "the plugin joined");
            world.engine.config_is(round, "serving").await;
        }
        let now = world.engine.session("c").await.expect("it is still there");
        assert_eq!(now["session_id"], session["session_id"], "chains change in place");
        // What the configuration names no more leaves with its settings.
        eventually("the older ones are gone", async || {
            let known = (world.engine.plugin("tag1").await, world.engine.plugin("tag3").await);
            if known.0.is_none() && known.1.is_some() { Ok(()) } else { Err(format!("{known:?}")) }
        })
        .await;
    });
}
