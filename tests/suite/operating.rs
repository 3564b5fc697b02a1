//! What operators see: the built-in demo, the sample configuration, logs, the admin listener, the end.

use std::path::{Path, PathBuf};
use std::process::Command;

use mediation_tests::{Engine, Memory, Plugins, RawWs, Spec, Sse, World, Ws, engine, eventually, http, run};
use serde_json::{Value, json};

fn config_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

/// A configuration of config/, with every port free and on loopback.
fn shipped(name: &str) -> Value {
    let text = std::fs::read_to_string(config_dir().join(name)).unwrap_or_else(|e| panic!("config/{name}: {e}"));
    let mut config: Value = serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("config/{name}: {e}"));
    config["admin"] = json!({ "port": 0, "bind": "127.0.0.1" });
    for entrypoint in config["entrypoints"].as_array_mut().expect("a list") {
        entrypoint["port"] = json!(0);
        entrypoint["bind"] = json!("127.0.0.1");
    }
    config
}

/// The listener of that type.
fn named(config: &Value, kind: &str) -> String {
    let all = config["entrypoints"].as_array().expect("a list");
    all.iter().find(|e| e["type"] == kind).and_then(|e| e["name"].as_str()).expect("every kind is there").to_owned()
}

/// Runs curl, and returns what it printed.
fn curl(args: &[&str]) -> String {
    let out = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args(args)
        .output()
        .expect("curl is here");
    assert!(out.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn every_shipped_configuration_passes_check() {
    run(async {
        let mut seen = 0;
        for entry in std::fs::read_dir(config_dir()).expect("config/ is there").flatten() {
            let path = entry.path();
            if path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            let out = Command::new(engine::binary()).arg("check").arg(&path).output().expect("it runs");
            let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            assert!(out.status.success(), "{}: {stdout}{stderr}", path.display());
            seen += 1;
        }
        assert!(seen >= 3, "default, kafka and full: {seen}");
    });
}

#[test]
fn what_is_posted_to_the_demo_shows_up_everywhere() {
    run(async {
        let config = shipped("default.yaml");
        let engine = Engine::start(&config).await;
        let url = |kind: &str, path: &str| engine.url(&named(&config, kind), path);
        let mut ws = Ws::try_open(engine.addr(&named(&config, "websocket")), "/", &[]).await.expect("admitted");
        let mut sse = Sse::of(http().get(url("sse", "/")).send().await.expect("an answer"));
        assert_eq!(sse.next().await.expect("an event").event, "mediation.session");
        curl(&["--request", "POST", "--header", "X-Client-ID: me", &url("http_get", "/subscribe")]);
        let posted = curl(&["--data", "hello", &url("http_post", "/")]);
        assert!(posted.contains("\"id\""), "{posted}");
        assert_eq!(ws.event().await, b"hello");
        assert_eq!(sse.event().await.data, "hello");
        assert_eq!(curl(&["--header", "X-Client-ID: me", &url("http_get", "/poll")]), "hello");
    });
}

/// A folder with bundled plugins, as `make plugins` built them.
fn bundled(names: &[&str]) -> Plugins {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let folder = Plugins::new();
    for name in names {
        let path = built.join(format!("{name}.wasm"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run `make plugins`", path.display()));
        folder.put(&format!("{name}.wasm"), &bytes);
    }
    folder
}

#[test]
fn the_demo_shows_what_bundled_plugins_do() {
    run(async {
        let names = ["set-metadata", "split-lines", "cloudevents"];
        let folder = bundled(&names);
        let mut config = shipped("default.yaml");
        config["plugins_dir"] = json!(folder.path());
        let engine = Engine::start(&config).await;
        for name in names {
            engine.plugin_serves(name).await;
        }
        let url = |kind: &str, path: &str| engine.url(&named(&config, kind), path);
        let open = async |path: &str| {
            let mut sse = Sse::of(http().get(url("sse", path)).send().await.expect("an answer"));
            assert_eq!(sse.next().await.expect("an event").event, "mediation.session");
            sse
        };
        let (mut frames, mut envelopes) = (open("/?format=json").await, open("/cloudevents").await);
        let json = "content-type: application/json";
        let post = ["--header", json, "--header", "X-Client-ID: me", "--data", "{\"n\":1}\n{\"n\":2}"];
        let posted = curl(&[&post[..], &[&url("http_post", "/lines")]].concat());
        assert!(posted.contains("published"), "{posted}");
        for n in 1..=2 {
            let frame: Value = serde_json::from_str(&frames.event().await.data).expect("JSON");
            assert_eq!(frame["payload"], format!("{{\"n\":{n}}}"), "split-lines: {frame}");
            let of = &frame["metadata"];
            assert_eq!(of["header.x-line"], n.to_string(), "split-lines: {frame}");
            assert_eq!((&of["header.x-client"], &of["header.x-path"]), (&json!("me"), &json!("/lines")), "{frame}");
            let envelope: Value = serde_json::from_str(&envelopes.event().await.data).expect("JSON");
            let is = (&envelope["specversion"], &envelope["source"], &envelope["data"]["n"]);
            assert_eq!(is, (&json!("1.0"), &json!("/demo"), &json!(n)), "cloudevents: {envelope}");
        }
    });
}

#[test]
fn curl_reads_an_event_stream() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let (_, opening) = Sse::open(&world.engine, "opening", "").await;
        world.publish(["a\nb"]).await;
        let url = world.engine.url("sse", &format!("/?last_event_id={}", opening.id.expect("a token")));
        // curl ends by its own time limit: the stream does not.
        let out = Command::new("curl")
            .args(["--silent", "--no-buffer", "--max-time", "3", &url])
            .output()
            .expect("curl is here");
        let text = String::from_utf8(out.stdout).expect("an event stream is UTF-8");
        assert!(text.starts_with(":ok"), "{text}");
        assert!(text.contains("data: a\ndata: b\n\n") || text.contains("data:a\ndata:b\n\n"), "{text}");
    });
}

#[test]
fn a_broker_that_is_not_built_in_is_501() {
    run(async {
        let config = shipped("full.yaml");
        let engine = Engine::start(&config).await;
        let answer =
            http().post(engine.url(&named(&config, "http_post"), "/")).body("x").send().await.expect("an answer");
        assert_eq!(answer.status(), 501);
        let body: Value = answer.json().await.expect("JSON");
        assert_eq!(body["error"]["code"], "not_built_in", "{body}");
    });
}

#[test]
fn all_errors_of_a_configuration_come_at_once() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let mut config = mediation_tests::broker::Reachable::config(&world.broker, &world.spec);
        config["routes"][0]["source"] = json!("brokr");
        config["routes"][1]["chanel_size"] = json!(5);
        config["entrypoints"][0]["type"] = json!("websockets");
        let file = std::env::temp_dir().join(mediation_tests::unique("bad-config"));
        std::fs::write(&file, serde_yaml::to_string(&config).expect("plain data")).expect("written");
        let out = Command::new(engine::binary()).arg("check").arg(&file).output().expect("it runs");
        std::fs::remove_file(&file).expect("removed");
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success(), "{text}");
        assert!(text.contains("chanel_size") && text.contains("channel_size"), "a suggestion: {text}");
        assert!(text.contains("websockets"), "{text}");
    });
}

#[test]
fn sigterm_tells_every_client_and_ends_with_zero() {
    run(async {
        let world = World::<Memory>::start(Spec { top: json!({ "drain_timeout": "10s" }), ..Spec::default() }).await;
        let engine = &world.engine;
        let mut ws = Ws::open(engine.addr("ws"), "ws").await;
        let (mut v1, _) = Ws::open_v1(engine.addr("ws"), "v1", "").await;
        let (mut sse, _) = Sse::open(engine, "sse", "").await;
        let subscribe = http().post(engine.url("poll", "/subscribe")).header("x-client-id", "poll").send().await;
        assert_eq!(subscribe.expect("an answer").status(), 201);
        let poll = http().get(engine.url("poll", "/poll?wait=60s")).header("x-client-id", "poll").send();
        let silent = RawWs::open(engine.addr("ws"), "silent", None).await; // answers nothing, also not the close
        let polled = tokio::spawn(poll);
        eventually("all are there", async || {
            let n = engine.sessions().await.len();
            if n == 5 { Ok(()) } else { Err(format!("{n} sessions")) }
        })
        .await;
        let stream = async {
            let mut last = None;
            while let Some(event) = sse.next().await {
                last = Some(event);
            }
            last.expect("an event before the end")
        };
        let (status, ws_end, v1_end, goaway) = tokio::join!(engine.terminate(), ws.closed(), v1.closed(), stream);
        assert_eq!((ws_end.0, v1_end.0), (1001, 1001));
        assert!(!ws_end.1.is_empty(), "a reason text");
        assert_eq!(goaway.event, "mediation.goaway");
        assert_eq!(polled.await.expect("no panic").expect("an answer").status(), 410);
        assert_eq!(status.code(), Some(0), "{status}");
        drop(silent);
    });
}

#[test]
fn every_event_is_a_packet_log_line_in_each_direction() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let mut ws = Ws::open(world.engine.addr("ws"), "reader").await;
        let post = http().post(world.engine.url("post", "/")).header("x-client-id", "writer").body("12345");
        let id = post.send().await.expect("an answer").json::<Value>().await.expect("JSON")["id"].clone();
        assert_eq!(ws.event().await, b"12345");
        let (up, down) = eventually("a line each way", async || {
            let lines = world.engine.packets();
            let find = |direction: &str, client: &str| {
                let found = lines.iter().find(|l| l["direction"] == direction && l["client_id"] == client);
                found.cloned().ok_or_else(|| format!("{lines:?}"))
            };
            Ok((find("upstream", "writer")?, find("downstream", "reader")?))
        })
        .await;
        assert_eq!(up["event_id"], id, "{up}");
        for (line, source, target) in [(&up, "post", "broker"), (&down, "broker", "ws")] {
            assert_eq!((line["msg"].as_str(), &line["payload_bytes"]), (Some("packet"), &json!(5)), "{line}");
            assert_eq!((line["source_id"].as_str(), line["target"].as_str()), (Some(source), Some(target)), "{line}");
            for key in ["time", "level", "session_id", "timestamp"] {
                assert!(!line[key].is_null(), "{key}: {line}");
            }
        }
    });
}

#[test]
fn a_routes_own_packet_log_beats_the_engines() {
    run(async {
        for (engine, routes, logged, silent) in
            [(true, false, "downstream", "upstream"), (false, true, "upstream", "downstream")]
        {
            let up = json!({ "packet_log": { "enabled": routes } });
            let top = json!({ "packet_log": { "enabled": engine } });
            let world = World::<Memory>::start(Spec { up, top, ..Spec::default() }).await;
            let mut ws = Ws::open(world.engine.addr("ws"), "reader").await;
            for n in 0..3 {
                let post = http().post(world.engine.url("post", "/")).body(n.to_string()).send().await;
                assert_eq!(post.expect("an answer").status(), 200);
            }
            ws.events(3).await;
            // Lines are written in order: with the end of the log, all of them are there.
            world.engine.terminate().await;
            let count = |direction: &str| world.engine.packets().iter().filter(|l| l["direction"] == direction).count();
            eventually("the lines that are asked for", async || {
                if count(logged) == 3 { Ok(()) } else { Err(format!("{:?}", world.engine.packets())) }
            })
            .await;
            assert_eq!(count(silent), 0, "{:?}", world.engine.packets());
        }
    });
}

#[test]
fn the_admin_listener_tells_health_metrics_sessions_and_routes() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let engine = &world.engine;
        let _ws = Ws::open(engine.addr("ws"), "reader").await;
        let health = engine.admin("/healthz").await;
        assert_eq!((&health["status"], &health["sessions"]), (&json!("ok"), &json!(1)), "{health}");
        assert_eq!(engine.admin("/readyz").await["status"], "ready");
        let session = engine.session("reader").await.expect("it is listed");
        for key in
            ["session_id", "entrypoint", "endpoint", "state", "channel_size", "permits_free", "unsettled", "positions"]
        {
            assert!(!session[key].is_null(), "{key}: {session}");
        }
        let metrics = engine.admin_text("/metrics").await;
        assert!(metrics.lines().any(|l| l.starts_with("mediation_")), "{metrics}");
        assert!(!metrics.contains("reader"), "never labelled by client");
        let routes = engine.admin_text("/routes").await;
        assert!(routes.contains("broker->ws"), "{routes}");
    });
}

#[test]
fn healthcheck_asks_readyz() {
    run(async {
        let world = World::<Memory>::start(Spec::default()).await;
        let port = world.engine.addr("admin").port();
        let file = std::env::temp_dir().join(mediation_tests::unique("healthcheck"));
        let check = |port: u16| {
            let mut config = mediation_tests::broker::Reachable::config(&world.broker, &world.spec);
            config["admin"] = json!({ "port": port, "bind": "127.0.0.1" });
            std::fs::write(&file, serde_yaml::to_string(&config).expect("plain data")).expect("written");
            Command::new(engine::binary())
                .arg("healthcheck")
                .arg("--config")
                .arg(&file)
                .output()
                .expect("it runs")
                .status
                .success()
        };
        assert!(check(port));
        assert!(!check(1), "nobody is there");
        std::fs::remove_file(&file).expect("removed");
    });
}
