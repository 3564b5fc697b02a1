//! From a file in the plugins folder to a generation that may serve. Off the hot path, on a thread of its own: called by
//! the [`manager`](super::manager), which gives up waiting for what compiles too long.

use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io};

use sha2::{Digest, Sha256};
use wasmtime::component::Linker;

use super::clock::{CONNECT, OWN};
use super::generation::{Code, Generation, Parts};
use super::guest::{Deadlines, Failure, Guest};
use super::lend::{self, Memory, State, Usage};
use super::named::Plugin;
use super::sandbox::Sandbox;
use super::voice::{self, cut};
use super::{Connect, Facts, FaultKind, check, compile, stub};
use crate::config::{self, Direction};
use crate::event::{Event, EventId, Header, Origin, Payload};

/// Bytes of a component's file.
const FILE: u64 = 64 << 20;

/// What to load.
pub(super) struct Request {
    pub(super) plugin: Arc<Plugin>,
    pub(super) settings: config::Plugin,
    pub(super) path: PathBuf,
    pub(super) sandbox: Arc<Sandbox>,
    /// A new generation also of what serves already.
    pub(super) force: bool,
    /// Set while it compiles: that cannot be ended.
    pub(super) compiling: Arc<AtomicBool>,
}

/// A generation, or None: what serves is the same.
pub(super) type Loaded = Result<Option<Arc<Generation>>, String>;

/// # Errors
/// Why it cannot serve, with the remedy.
pub(super) fn load(request: Request) -> Loaded {
    let Request { plugin, settings, path, sandbox, force, compiling } = request;
    let bytes = read(&path)?;
    let hash = hex(&Sha256::digest(&bytes));
    let serving = plugin.serving();
    let known = serving.as_ref().map(|serving| &serving.now);
    let known = known.filter(|now| now.code.hash == hash && now.code.wasi_stub == settings.wasi_stub);
    if let Some(now) = known
        && !force
        && same(&now.settings, &settings)
    {
        return Ok(None);
    }
    let code = match known {
        Some(now) => now.code.clone(),
        None => {
            check::shape(&bytes)?;
            // The clock of guests is for what is not compiled: a compilation has its own limit.
            compiling.store(true, Ordering::Release);
            let component = compile::compile(sandbox.engine(), &bytes, &hash);
            compiling.store(false, Ordering::Release);
            Arc::new(code(&sandbox, component?, hash, bytes.len(), &settings)?)
        }
    };
    drop(bytes);
    generation(&plugin, &sandbox, code, settings).map(Some)
}

/// What of a plugin's settings an instance is made with.
pub(super) fn same(a: &config::Plugin, b: &config::Plugin) -> bool {
    a.config.0 == b.config.0
        && (a.max_memory, a.deadline, a.wasi_stub, &a.file) == (b.max_memory, b.deadline, b.wasi_stub, &b.file)
}

fn code(
    sandbox: &Sandbox,
    component: wasmtime::component::Component,
    hash: String,
    size: usize,
    settings: &config::Plugin,
) -> Result<Code, String> {
    let engine = sandbox.engine();
    check::imports(engine, &component, settings.wasi_stub)?;
    let exports = check::exports(engine, &component)?;
    let mut linker = Linker::new(engine);
    lend::offer(&mut linker).map_err(|error| format!("the engine's own interface: {error:#}"))?;
    if settings.wasi_stub {
        stub::offer(&mut linker, &component).map_err(|error| format!("stubs for WASI: {error:#}"))?;
    }
    let pre = linker.instantiate_pre(&component).map_err(|error| {
        format!(
            "it does not fit this engine's interface: {}; is it built for a later 0.1?",
            cut(&format!("{error:#}"), 512)
        )
    })?;
    Ok(Code { pre, exports, hash, size, wasi_stub: settings.wasi_stub })
}

fn generation(
    plugin: &Arc<Plugin>,
    sandbox: &Sandbox,
    code: Arc<Code>,
    settings: config::Plugin,
) -> Result<Arc<Generation>, String> {
    let ticking = sandbox.ticking();
    let state = State {
        event: None,
        facts: None,
        clock: Default::default(),
        memory: Memory::new(settings.max_memory, Arc::<Usage>::default()),
        voice: plugin.voice.clone(),
        counters: Arc::new([]),
    };
    let description = Guest::describe(&code.pre, &code.exports, state)?;
    let counters = voice::counters(&plugin.voice, &description.counters).into();
    let version = cut(&description.version, 64).to_owned();
    let (voice, workers) = (plugin.voice.clone(), plugin.workers.clone());
    let number = 0;
    let mut generation = Generation::new(Parts { number, code, settings, version, voice, counters, workers, ticking });
    let mut guest = generation.build()?;
    try_out(&mut guest, &generation)?;
    // Numbered only now: what cannot serve takes no number.
    let Some(fresh) = Arc::get_mut(&mut generation) else { return Err("it is in use already".to_owned()) };
    fresh.number = plugin.number();
    generation.put(guest);
    Ok(generation)
}

/// One made-up event through each stage: only a trap or the hard deadline fails it.
fn try_out(guest: &mut Guest, generation: &Generation) -> Result<(), String> {
    let exports = &generation.code.exports;
    let event = Arc::new(sample(Some(Payload::from(bytes::Bytes::from_static(b"{}")))));
    let bare = Arc::new(sample(None));
    let facts = |direction| Arc::new(sample_facts(direction));
    let (up, down) = (facts(Direction::Upstream), facts(Direction::Downstream));
    let time = |hard: Duration| Deadlines { soft: generation.settings.deadline.min(hard), hard };
    let judge = |what: &str, failed: Option<Failure>| match failed {
        Some((FaultKind::Trap | FaultKind::Deadline, why)) => Err(format!("a made-up event fails in `{what}`: {why}")),
        _ => Ok(()),
    };
    if exports.connect.is_some() {
        judge("connect", guest.connect(&bare, &up, time(CONNECT)).err())?;
        judge("resolve", guest.resolve(&event, &up, time(OWN)).err())?;
    }
    if exports.enrich_session.is_some() {
        judge("enrich-session", guest.enrich_session(&bare, &down, time(CONNECT)).err())?;
    }
    judge("enrich or transform", guest.step(&event, &down, time(OWN)).err())
}

fn sample(payload: Option<Payload>) -> Event {
    Event {
        id: EventId::Text("sample".into()),
        source: "sample".into(),
        client_id: None,
        payload,
        key: None,
        headers: vec![Header { name: "content-type".into(), value: Some("application/json".into()) }],
        properties: None,
        attributes: None,
        origin: Origin::Client { protocol: "http_post" },
        timestamp_ms: crate::event::now_ms(),
    }
}

fn sample_facts(direction: Direction) -> Facts {
    let connect = Connect {
        method: "GET".into(),
        path: "/sample".into(),
        query: Box::default(),
        peer_address: "127.0.0.1:1".into(),
        subprotocol: Box::default(),
    };
    Facts { route: "sample".into(), direction, client_id: "sample".into(), attributes: Vec::new(), connect }
}

/// Into memory: a mapped file would change under us.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let told = |error: io::Error| format!("the file cannot be read: {error}");
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(told)?;
    file.take(FILE + 1).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() as u64 > FILE {
        return Err(format!("the file is too large: {} MiB are the most", FILE >> 20));
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // A string takes everything.
        write!(text, "{byte:02x}").ok();
        text
    })
}
