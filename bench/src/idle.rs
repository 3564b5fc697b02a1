//! Memory of WebSocket sessions on `memory`: idle, and idle again after 640 KiB to each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mediation_tests::eventually;
use mediation_tests::raw_ws::{TEXT, frame};
use mediation_tests::spec::{entrypoint, route};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::bare::Process;
use crate::downstream::engine;
use crate::report::{Figure, Report};
use crate::{Scale, client, kafka, proc};

/// Goal, KiB a session.
const GOAL: f64 = 12.0;

/// Sessions that come and go before the first look: what the first of anything allocates is no session's.
const WARM: usize = 50;

/// Events to each session in a burst: 640 KiB.
const BURST: usize = 640;

/// Descriptors that are not sessions'.
const SPARE: usize = 200;

/// Measures, and adds to the report.
pub(crate) async fn measure(scale: &Scale, report: &mut Report) {
    let sessions = allowed(scale.sessions, report);
    for _ in 0..scale.runs {
        let bare = tasks(sessions).await;
        report.add_memory("bare tokio task a TcpStream", bare);
        let (idle, after) = through_engine(sessions).await;
        let beside = Some(("bare task a TcpStream", bare));
        let unit = "KiB a session";
        let name = "idle WebSocket session on memory";
        report.add(Figure { name, unit, goal: Some(GOAL), beside }, idle, None);
        let name = "the same, idle after 640 KiB to each";
        report.add(Figure { name, unit, goal: None, beside }, after, None);
    }
}

/// So many sessions as there may be descriptors; says so when it is fewer than wanted.
fn allowed(wanted: usize, report: &mut Report) -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("every system tells");
    // The engine inherits it.
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit is free");
    let sessions = wanted.min(usize::try_from(hard).unwrap_or(usize::MAX).saturating_sub(SPARE));
    if sessions < wanted {
        report.warn(format!("ONLY {sessions} IDLE SESSIONS instead of {wanted}: the descriptor limit is {hard}"));
    }
    sessions
}

async fn through_engine(sessions: usize) -> (f64, f64) {
    let mut entrypoints = [entrypoint("ws", "websocket"), entrypoint("up", "websocket")];
    for entrypoint in &mut entrypoints {
        entrypoint["max_handshakes_per_second"] = json!(100_000);
    }
    let engine = engine(&json!({
        "admin": { "port": 0, "bind": "127.0.0.1" },
        "entrypoints": entrypoints,
        "endpoints": [{ "name": "broker", "type": "memory", "config": { "topic_in": "t", "topic_out": "t" } }],
        "routes": [route("broker", "ws", "downstream", "auto"), route("up", "broker", "upstream", "auto")],
    }))
    .await;
    let (addr, pid) = (engine.addr("ws"), engine.child.pid().unsigned_abs());
    let seen = Arc::new(AtomicUsize::new(0));
    for _ in 0..WARM {
        drop(client::open_async(addr).await);
    }
    settled(&engine, 0).await;

    let before = proc::resident(pid);
    let mut clients = JoinSet::new();
    for _ in 0..sessions {
        let socket = client::open_async(addr).await;
        clients.spawn(client::sit(socket, Arc::clone(&seen)));
    }
    settled(&engine, sessions).await;
    let each = |now: f64| (now - before) / sessions as f64;
    let idle = each(proc::resident(pid));

    let mut publisher = client::open_async(engine.addr("up")).await;
    let burst: Vec<u8> = std::iter::repeat_n(frame(TEXT, &kafka::payload()), BURST).flatten().collect();
    publisher.write_all(&burst).await.expect("sent");
    let all = sessions * BURST;
    eventually("every session got the burst", async || match seen.load(Ordering::Relaxed) {
        now if now == all => Ok(()),
        now => Err(format!("{now} of {all} events")),
    })
    .await;
    drop(publisher);
    settled(&engine, sessions).await;
    let after = each(proc::resident(pid));
    clients.shutdown().await;
    (idle, after)
}

/// Waits until the engine has so many sessions.
async fn settled(engine: &mediation_tests::Engine, sessions: usize) {
    eventually("the sessions are there", async || {
        let metrics = engine.admin_text("/metrics").await;
        let lines = metrics.lines().filter(|line| line.starts_with("mediation_sessions{"));
        let now: f64 = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        if now == sessions as f64 { Ok(()) } else { Err(format!("{now} of {sessions}")) }
    })
    .await;
}

async fn tasks(sessions: usize) -> f64 {
    let process = Process::start(&["tasks"]).await;
    let addr = process.addr().await;
    let before = proc::resident(process.pid());
    let mut sockets = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let mut socket = tokio::net::TcpStream::connect(addr).await.expect("the baseline accepts");
        socket.write_all(b"x").await.expect("sent");
        sockets.push(socket);
    }
    // It has accepted them all when it has that many descriptors.
    eventually("every connection has its task", async || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", process.pid())).expect("it is ours").count();
        if open > sessions { Ok(()) } else { Err(format!("{open} descriptors")) }
    })
    .await;
    (proc::resident(process.pid()) - before) / sessions as f64
}
