//! Limits on clients, seen from both sides: who comes above one is told so, who is below lives on, and a place that
//! comes free is given again. Also Unix sockets, which have no ports to run out of.

use mediation_tests::{Engine, Memory, OnKafka, Spec, Sse, World, Ws, eventually, http, run, unique};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use futures_util::StreamExt as _;

/// Opens a stream that is refused: its one event, and its end.
async fn refused_stream(engine: &Engine) {
    let answer = http().get(engine.url("sse", "/")).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "an EventSource gives up for ever on any other status");
    let mut sse = Sse::of(answer);
    let mut events = Vec::new();
    while let Some(event) = sse.next().await {
        events.push(event);
    }
    let [only] = &events[..] else { panic!("one event: {events:?}") };
    assert_eq!(only.event, "mediation.goaway", "{only:?}");
    assert!(only.data.contains("client_limit"), "{only:?}");
    let raw = String::from_utf8(sse.raw).expect("an event stream is UTF-8");
    let retry = raw.lines().find_map(|line| line.strip_prefix("retry:")?.trim().parse::<u64>().ok());
    assert!(retry.is_some_and(|ms| (1_000..=30_000).contains(&ms)), "{raw}");
}

async fn refused_websocket(engine: &Engine) {
    let refused = Ws::try_open(engine.addr("ws"), "/", &[]).await.expect_err("refused before the upgrade");
    assert_eq!((refused.status, refused.code.as_str()), (503, "client_limit"));
    let after: u64 = refused.retry_after.as_deref().and_then(|s| s.parse().ok()).expect("Retry-After in seconds");
    assert!((1..=30).contains(&after), "{after}");
}

#[test]
fn consumers_above_the_cap_are_refused_until_one_is_free() {
    run(async {
        let endpoint = json!({ "max_dedicated_consumers": 2 });
        let world = World::<OnKafka>::start(Spec { endpoint, ..Spec::default() }).await;
        let engine = &world.engine;
        let mut stays = Ws::open(engine.addr("ws"), "stays").await;
        let leaves = Ws::open(engine.addr("ws"), "leaves").await;
        refused_websocket(engine).await;
        refused_stream(engine).await;
        let subscribe = http().post(engine.url("poll", "/subscribe")).send().await.expect("an answer");
        assert_eq!(subscribe.status(), 503);
        assert!(subscribe.headers().contains_key("retry-after"));
        assert_eq!(engine.sessions().await.len(), 2, "who was refused leaves nothing behind");
        world.publish(["one"]).await;
        assert_eq!(stays.event().await, b"one", "the others live on");

        leaves.close().await;
        let mut next = eventually("the place is given again", async || {
            Ws::try_open(engine.addr("ws"), "/", &[]).await.map_err(|refusal| format!("{refusal:?}"))
        })
        .await;
        world.publish(["two"]).await;
        assert_eq!(stays.event().await, b"two");
        assert_eq!(next.event().await, b"two");
        // The same for a stream.
        next.close().await;
        let mut sse = eventually("the place is given again, to a stream", async || {
            let mut sse = Sse::of(http().get(engine.url("sse", "/")).send().await.map_err(|e| e.to_string())?);
            match sse.next().await {
                Some(event) if event.event == "mediation.session" => Ok(sse),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        refused_stream(engine).await;
        world.publish(["three"]).await;
        assert_eq!(sse.event().await.data, "three");
    });
}

#[test]
fn connections_above_the_limit_are_told_and_the_others_live_on() {
    run(async {
        let two = json!({ "max_connections": 2 });
        let listeners = json!({ "ws": two, "sse": two, "post": two, "poll": two });
        let world = World::<Memory>::start(Spec { listeners, ..Spec::default() }).await;
        let engine = &world.engine;
        let mut sockets = [Ws::open(engine.addr("ws"), "a").await, Ws::open(engine.addr("ws"), "b").await];
        let mut streams = [Sse::open(engine, "c", "").await.0, Sse::open(engine, "d", "").await.0];
        // Connections count, whatever they ask: these ask nothing yet.
        let (post, poll) = (engine.addr("post"), engine.addr("poll"));
        let mut quiet = Vec::new();
        for addr in [post, post, poll, poll] {
            quiet.push(tokio::net::TcpStream::connect(addr).await.expect("accepted"));
        }
        for _ in 0..3 {
            refused_websocket(engine).await;
            refused_stream(engine).await;
            for request in [http().post(engine.url("post", "/")), http().post(engine.url("poll", "/subscribe"))] {
                let answer = request.body("refused").send().await.expect("an answer");
                assert_eq!(answer.status(), 503);
                let body: Value = answer.json().await.expect("JSON");
                assert_eq!(body["error"]["code"], "client_limit", "{body}");
            }
        }
        world.publish(["one"]).await;
        for ws in &mut sockets {
            assert_eq!(ws.event().await, b"one");
        }
        for sse in &mut streams {
            assert_eq!(sse.event().await.data, "one");
        }
        drop(quiet);
        eventually("places are free again", async || {
            let answer = http().post(engine.url("post", "/")).body("two").send().await.map_err(|e| e.to_string())?;
            if answer.status() == 200 { Ok(()) } else { Err(answer.status().to_string()) }
        })
        .await;
        for ws in &mut sockets {
            assert_eq!(ws.event().await, b"two");
        }
    });
}

#[test]
fn a_unix_socket_serves_websockets_and_posts() {
    run(async {
        let dir = std::env::temp_dir().join(unique("mediation-tests"));
        std::fs::create_dir_all(&dir).expect("a folder");
        let path = |name: &str| dir.join(name).to_str().expect("a plain path").to_owned();
        // What a killed engine leaves behind: a socket that nobody listens on.
        drop(std::os::unix::net::UnixListener::bind(path("ws")).expect("bound"));
        let unix = |name: &str, kind: &str| json!({ "name": name, "type": kind, "socket": path(name) });
        let endpoint = json!({ "name": "broker", "type": "memory", "config": { "topic_in": "t", "topic_out": "t" } });
        let engine = Engine::start(&json!({
            "admin": { "port": 0, "bind": "127.0.0.1" },
            "entrypoints": [unix("ws", "websocket"), unix("post", "http_post")],
            "endpoints": [endpoint],
            "routes": [
                { "source": "broker", "target": "ws", "direction": "downstream", "delivery_guarantee": "at_least_once" },
                { "source": "post", "target": "broker", "direction": "upstream", "delivery_guarantee": "at_least_once" },
            ],
        }))
        .await;
        assert_eq!(engine.place("ws"), format!("unix:{}", path("ws")));
        let mut request = "ws://engine/".into_client_request().expect("a plain request");
        request.headers_mut().insert("x-client-id", "unix".parse().expect("a header value"));
        let socket = UnixStream::connect(path("ws")).await.expect("it listens");
        let (mut ws, _) = tokio_tungstenite::client_async(request, socket).await.expect("admitted");
        let post = http_over(&path("post")).post("http://engine/").body("hello").send().await.expect("an answer");
        assert_eq!(post.status(), 200);
        let received = loop {
            let message = mediation_tests::run::within("a frame", ws.next()).await.expect("no end").expect("whole");
            if message.is_text() {
                break message.into_data();
            }
        };
        assert_eq!(&received[..], b"hello");
        let reads_on = tokio::spawn(async move { while ws.next().await.is_some() {} });
        engine.session_when("unix", "its pong acknowledged it", |s| s["unsettled"] == 0 && s["delivered"] == 1).await;
        reads_on.abort();
        engine.session_gone("unix").await;
        assert!(engine.terminate().await.success());
        assert!(!dir.join("ws").exists() && !dir.join("post").exists(), "the files are removed at the end");
        std::fs::remove_dir_all(&dir).expect("removed");
    });
}

/// An HTTP client over a Unix socket.
fn http_over(path: &str) -> reqwest::Client {
    reqwest::Client::builder().unix_socket(path).no_proxy().build().expect("a plain HTTP client")
}
