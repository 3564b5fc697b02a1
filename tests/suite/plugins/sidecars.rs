//! Dropping is enough: a component with a sidecar joins routes by itself, and leaves as easily.

use mediation_tests::guests::guest;
use mediation_tests::{Plugins, Spec, Ws, eventually, run};
use serde_json::json;

use super::world;

#[test]
fn a_plugin_with_a_sidecar_joins_and_leaves_while_traffic_flows() {
    run(async {
        let folder = Plugins::new();
        let world = world(&folder, json!([]), Spec::default()).await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        let mut n = 0;
        let mut tag = async || {
            n += 1;
            world.publish([n.to_string()]).await;
            let event = ws.json_of("event").await;
            assert_eq!(event["payload"], n.to_string());
            ws.ack(&[&event["id"]]).await;
            event["metadata"]["x-tag"].as_str().map(str::to_owned)
        };
        assert_eq!(tag().await, None);
        // The sidecar first: in any order of arrival.
        folder.put_sidecar("tag", &json!({ "config": { "tag": "red" }, "attach": [{ "route": "broker->*" }] }));
        folder.put("tag.wasm", &guest("tag"));
        eventually(
            "it has joined",
            async || if tag().await.as_deref() == Some("red") { Ok(()) } else { Err("no".into()) },
        )
        .await;
        folder.put_sidecar("tag", &json!({ "config": { "tag": "blue" }, "attach": [{ "route": "broker->*" }] }));
        eventually(
            "it changed",
            async || if tag().await.as_deref() == Some("blue") { Ok(()) } else { Err("no".into()) },
        )
        .await;
        folder.remove("tag.wasm");
        eventually("it has left", async || if tag().await.is_none() { Ok(()) } else { Err("no".into()) }).await;
    });
}

#[test]
fn a_component_that_nobody_names_is_ready() {
    run(async {
        let folder = Plugins::with(&["mapper-pass"]);
        let world = world(&folder, json!([]), Spec::default()).await;
        let plugin = world.engine.plugin_serves("mapper-pass").await;
        assert_eq!(plugin["calls"], 0, "{plugin}");
    });
}

#[test]
fn the_engines_configuration_beats_a_sidecar() {
    run(async {
        let folder = Plugins::with(&["tag"]);
        folder.put_sidecar("tag", &json!({ "config": { "tag": "sidecar" } }));
        let spec = Spec { down: json!({ "plugins": ["tag"] }), ..Spec::default() };
        let world = world(&folder, json!([{ "name": "tag", "config": { "tag": "engine" } }]), spec).await;
        world.engine.plugin_serves("tag").await;
        let (mut ws, _) = Ws::open_v1(world.engine.addr("ws"), "c", "").await;
        world.publish(["a"]).await;
        assert_eq!(ws.json_of("event").await["metadata"]["x-tag"], "engine");
    });
}

#[test]
fn two_names_of_one_file_are_two_plugins() {
    run(async {
        let folder = Plugins::with(&["wrap"]);
        let spec = Spec { down: json!({ "plugins": ["inner", "outer"] }), ..Spec::default() };
        let plugins = json!([
            { "name": "inner", "file": "wrap.wasm", "config": { "before": "(", "after": ")" } },
            { "name": "outer", "file": "wrap.wasm", "config": { "before": "[", "after": "]" } },
        ]);
        let world = world(&folder, plugins, spec).await;
        world.engine.plugin_serves("inner").await;
        world.engine.plugin_serves("outer").await;
        let mut ws = Ws::open(world.engine.addr("ws"), "c").await;
        world.publish(["x"]).await;
        assert_eq!(ws.events(1).await, ["[(x)]"]);
    });
}
