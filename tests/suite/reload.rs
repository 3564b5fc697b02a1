//! Reload of the configuration: only what changed is touched, and a broken file touches nothing.

use std::os::unix::fs::symlink;
use std::path::Path;

use mediation_tests::broker::Reachable;
use mediation_tests::{Engine, Memory, Spec, Sse, World, Ws, eventually, http, run, unique};
use serde_json::{Value, json};

fn yaml(config: &Value) -> String {
    serde_yaml::to_string(config).expect("plain data")
}

fn config(world: &World<Memory>) -> Value {
    world.broker.config(&world.spec)
}

/// The route towards that listener.
fn route<'a>(config: &'a mut Value, target: &str) -> &'a mut Value {
    let routes = config["routes"].as_array_mut().expect("a list");
    routes.iter_mut().find(|one| one["target"] == target).expect("a route")
}

fn listener<'a>(config: &'a mut Value, name: &str) -> &'a mut Value {
    let all = config["entrypoints"].as_array_mut().expect("a list");
    all.iter_mut().find(|one| one["name"] == name).expect("a listener")
}

async fn subscribe(engine: &Engine, client: &str) {
    let asked = http().post(engine.url("poll", "/subscribe")).header("x-client-id", client).send().await;
    assert_eq!(asked.expect("an answer").status(), 201);
}

async fn posted(engine: &Engine) -> u16 {
    http().post(engine.url("post", "/")).body("x").send().await.expect("an answer").status().as_u16()
}

#[test]
fn changing_one_route_neither_disconnects_nor_loses_on_another() {
    run(async {
        let world = World::<Memory>::start(Spec { top: json!({ "reload_spread": "1s" }), ..Spec::default() }).await;
        let mut b = Ws::open(world.engine.addr("ws"), "b").await;
        let (mut a, _) = Sse::open(&world.engine, "a", "").await;
        let mut config = config(&world);
        let mut expected = Vec::new();
        for round in 1..=3_u64 {
            world.publish((0..50).map(|i| format!("{round}-{i}"))).await;
            route(&mut config, "sse")["channel_size"] = json!(10 + round);
            world.engine.reconfigure(&yaml(&config));
            world.publish((50..100).map(|i| format!("{round}-{i}"))).await;
            world.engine.config_is(round, "serving").await;
            expected.extend((0..100).map(|i| format!("{round}-{i}")));
            loop {
                let event = a.next().await.expect("a goaway before the end");
                if event.event == "mediation.goaway" {
                    assert_eq!(event.data, r#"{"code":"route_changed"}"#);
                    break;
                }
            }
            assert!(a.next().await.is_none(), "the end of the stream");
            (a, _) = Sse::open(&world.engine, "a", "").await;
            let size = world.engine.session("a").await.expect("a session")["channel_size"].clone();
            assert_eq!(size, 10 + round, "the new one serves");
        }
        assert_eq!(b.events(300).await, expected);
        assert_eq!(world.engine.metric("mediation_sessions_opened_total", &["broker->ws"]).await, 1.0);
    });
}

#[test]
fn sessions_on_a_changed_route_are_told_so_in_their_own_way() {
    run(async {
        let world = World::<Memory>::start(Spec { top: json!({ "reload_spread": "1s" }), ..Spec::default() }).await;
        let engine = &world.engine;
        let mut ws = Ws::open(engine.addr("ws"), "w").await;
        subscribe(engine, "p").await;
        let poll = http().get(engine.url("poll", "/poll?wait=60s")).header("x-client-id", "p").send();
        let polled = tokio::spawn(poll);
        let mut config = config(&world);
        for name in ["ws", "poll"] {
            route(&mut config, name)["channel_size"] = json!(9);
        }
        engine.reconfigure(&yaml(&config));
        let (code, reason) = ws.closed().await;
        assert_eq!((code, reason.contains("route")), (1012, true), "{reason}");
        assert_eq!(polled.await.expect("no panic").expect("an answer").status(), 410);
        let reason = ["broker->ws", "reason=\"route_changed\""];
        eventually("it is counted", async || {
            let closed = engine.metric("mediation_sessions_closed_total", &reason).await;
            if closed == 1.0 { Ok(()) } else { Err(closed.to_string()) }
        })
        .await;
    });
}

#[test]
fn a_broken_file_changes_nothing_and_the_mended_one_is_picked_up() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        let mut ws = Ws::open(engine.addr("ws"), "w").await;
        let mut config = config(&world);
        let good = yaml(&config);
        engine.reconfigure(&good.replace("channel_size", "chanel_size"));
        let said = engine.config_is(0, "broken file").await;
        assert!(said["errors"].to_string().contains("did you mean \\\"channel_size\\\"?"), "{said}");
        let logged = engine.log_line("the changed configuration is refused").expect("a line in the log");
        assert!(logged.to_string().contains("chanel_size"), "{logged}");
        // One that loads, but cannot be done as a whole: nothing of it happens.
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        listener(&mut config, "sse")["port"] = json!(port);
        route(&mut config, "ws")["channel_size"] = json!(5);
        engine.reconfigure(&yaml(&config));
        eventually("it is refused", async || {
            let said = engine.admin("/routes").await["config"].clone();
            if said["errors"].to_string().contains("cannot listen on") { Ok(()) } else { Err(said.to_string()) }
        })
        .await;
        world.publish(["still here"]).await;
        assert_eq!(ws.event().await, b"still here");
        listener(&mut config, "sse")["port"] = json!(0);
        route(&mut config, "ws")["channel_size"] = json!(64);
        route(&mut config, "poll")["channel_size"] = json!(7);
        engine.reconfigure(&yaml(&config));
        engine.config_is(1, "serving").await;
        let routes = engine.admin("/routes").await["routes"].clone();
        let poll = routes.as_array().expect("a list").iter().find(|one| one["entrypoint"] == "poll").cloned();
        assert_eq!(poll.expect("a route")["channel_size"], 7);
        assert_eq!(engine.metric("mediation_config_reloads_total", &["refused"]).await, 2.0);
        world.publish(["and still"]).await;
        assert_eq!(ws.event().await, b"and still");
    });
}

/// A folder as Kubernetes mounts a ConfigMap: the file points through `..data`.
fn swap(dir: &Path, version: &str, text: &str) {
    let folder = dir.join(format!("..{version}"));
    std::fs::create_dir(&folder).expect("made");
    std::fs::write(folder.join("config.yaml"), text).expect("written");
    symlink(folder.file_name().expect("a name"), dir.join("..data_tmp")).expect("linked");
    std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).expect("swapped");
}

#[test]
fn a_config_map_that_is_swapped_is_picked_up() {
    run(async {
        let dir = std::env::temp_dir().join(unique("mediation-tests"));
        std::fs::create_dir_all(&dir).expect("a folder");
        let spec = Spec::default();
        let mut config = <Memory as mediation_tests::Broker>::prepare(&spec).await.config(&spec);
        swap(&dir, "one", &yaml(&config));
        symlink("..data/config.yaml", dir.join("config.yaml")).expect("linked");
        let engine = Engine::start_in(&dir.join("config.yaml"), dir.clone()).await;
        route(&mut config, "ws")["channel_size"] = json!(3);
        swap(&dir, "two", &yaml(&config));
        engine.config_is(1, "serving").await;
    });
}

#[test]
fn a_listener_moves_to_its_new_address_and_its_sessions_stay() {
    run(async {
        let mut world = World::<Memory>::start(Spec::default()).await;
        let mut ws = Ws::open(world.engine.addr("ws"), "w").await;
        let old = world.engine.addr("ws");
        let mut config = config(&world);
        listener(&mut config, "ws")["bind"] = json!("127.0.0.2");
        world.engine.reconfigure(&yaml(&config));
        world.engine.config_is(1, "serving").await;
        world.engine.find_listeners();
        let new = world.engine.addr("ws");
        assert_eq!(new.ip().to_string(), "127.0.0.2");
        let mut second = Ws::open(new, "x").await;
        eventually("nobody listens at the old address", async || match tokio::net::TcpStream::connect(old).await {
            Err(_) => Ok(()),
            Ok(_) => Err("connected".to_owned()),
        })
        .await;
        world.publish(["both"]).await;
        assert_eq!((ws.event().await, second.event().await), (b"both".to_vec(), b"both".to_vec()));
    });
}

#[test]
fn an_unchanged_endpoint_keeps_what_it_holds_and_a_changed_one_is_made_anew() {
    run(async {
        let world = World::<Memory>::start(Spec { top: json!({ "reload_spread": "0s" }), ..Spec::default() }).await;
        let (sse, session) = Sse::open(&world.engine, "s", "").await;
        let token = session.id.expect("a token").replace('~', "");
        drop(sse);
        world.publish(["one", "two"]).await;
        let mut config = config(&world);
        route(&mut config, "sse")["channel_size"] = json!(5);
        world.engine.reconfigure(&yaml(&config));
        world.engine.config_is(1, "serving").await;
        let (mut sse, _) = Sse::open(&world.engine, "s", &format!("?last_event_id={token}")).await;
        assert_eq!(sse.events(2).await, ["one", "two"]);
        config["endpoints"][0]["config"]["retain"] = json!(77);
        world.engine.reconfigure(&yaml(&config));
        world.engine.config_is(2, "serving").await;
        assert_eq!(sse.next().await.expect("a goaway").event, "mediation.goaway");
        eventually("the old one is closed", async || {
            let line = world.engine.log_line("an endpoint that the configuration dropped or changed is closed");
            line.ok_or_else(|| "not yet".to_owned())
        })
        .await;
        let (mut sse, _) = Sse::open(&world.engine, "s", "").await;
        world.publish(["three"]).await;
        assert_eq!(sse.event().await.data, "three");
    });
}

#[test]
fn options_of_a_listener_count_for_new_connections() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        let mut ws = Ws::open(engine.addr("ws"), "w").await;
        assert_eq!(posted(engine).await, 200);
        assert_eq!(ws.event().await, b"x");
        let mut config = config(&world);
        listener(&mut config, "post")["max_body"] = json!("1KiB");
        listener(&mut config, "ws")["max_connections"] = json!(1);
        engine.reconfigure(&yaml(&config));
        engine.config_is(1, "serving").await;
        let large = http().post(engine.url("post", "/")).body(vec![b'x'; 2048]).send().await.expect("an answer");
        assert_eq!(large.status(), 413);
        let refused = Ws::try_open(engine.addr("ws"), "/", &[]).await.expect_err("one is enough");
        assert_eq!(refused.status, 503);
        world.publish(["untouched"]).await;
        assert_eq!(ws.event().await, b"untouched");
    });
}
