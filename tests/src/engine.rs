//! The engine's own binary as a child process. Tests talk to it through its listeners, as clients do.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Child, spawn_to};
use crate::run::{eventually, failing, unique};

/// A running engine. Dropping it kills it; when the test fails it dumps its log and sessions first.
#[derive(Debug)]
pub struct Engine {
    /// The process.
    pub child: Child,
    listeners: HashMap<String, String>,
    dir: PathBuf,
}

/// What a process uses.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// OS threads.
    pub threads: usize,
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident KiB.
    pub resident: usize,
}

/// Where the engine's binary is: MEDIATION_ENGINE, else beside this test's own.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    let path = std::env::var_os("MEDIATION_ENGINE").map_or_else(
        || {
            let own = std::env::current_exe().expect("a path");
            own.ancestors().nth(2).expect("target/debug/deps").join("mediation-engine")
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is not there: cargo build -p mediation-engine", path.display());
    path
}

impl Engine {
    /// Starts it with a configuration, ports 0, and waits until it is ready.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn start(config: &Value) -> Self {
        Self::start_to(Stdio::piped(), config).await
    }

    /// As [`Engine::start`], with the packet log somewhere else than here: [`Engine::packets`] stays empty.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn start_to(packet_log: Stdio, config: &Value) -> Self {
        let dir = std::env::temp_dir().join(unique("mediation-tests"));
        std::fs::create_dir_all(&dir).expect("a folder for the configuration");
        let file = dir.join("config.yaml");
        std::fs::write(&file, serde_yaml::to_string(config).expect("plain data"))
            .expect("the configuration is written");
        Self::start_file(packet_log, &file, dir).await
    }

    /// Starts it with a file that the test has put somewhere under `dir`, which is removed at the end.
    ///
    /// # Panics
    /// When it ends instead.
    pub async fn start_in(file: &Path, dir: PathBuf) -> Self {
        Self::start_file(Stdio::piped(), file, dir).await
    }

    /// Puts another text in the place of its configuration file, as an editor does.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn reconfigure(&self, text: &str) {
        let new = self.dir.join("new.yaml");
        std::fs::write(&new, text).expect("the configuration is written");
        std::fs::rename(&new, self.dir.join("config.yaml")).expect("renamed");
    }

    /// Waits until it says that of its configuration file: (generation, state).
    pub async fn config_is(&self, generation: u64, state: &str) -> Value {
        eventually(&format!("generation {generation}, {state}"), async || {
            let said = self.admin("/routes").await["config"].clone();
            if said["generation"] == generation && said["state"] == state { Ok(said) } else { Err(said.to_string()) }
        })
        .await
    }

    /// Follows its listeners to where the last reload put them.
    ///
    /// # Panics
    /// When there was no reload.
    pub fn find_listeners(&mut self) {
        let lines = self.child.stderr.lines();
        let mut reloaded = lines.iter().filter_map(|l| serde_json::from_str(l).ok());
        let last = reloaded.rfind(|v: &Value| text(v, "message") == "reloaded").expect("a reload");
        for (name, addr) in text(&last, "addresses").split(',').filter_map(|pair| pair.split_once('=')) {
            self.listeners.insert(name.to_owned(), addr.to_owned());
        }
    }

    async fn start_file(packet_log: Stdio, file: &Path, dir: PathBuf) -> Self {
        let file = file.to_str().expect("a plain path");
        let child = spawn_to(packet_log, &binary(), &["run", "--config", file], &[]);
        let mut engine = Self { child, listeners: HashMap::new(), dir };
        let listeners = eventually("the engine is ready", async || {
            if let Some(status) = engine.child.ended() {
                // The readers of its output may be a moment behind its end.
                panic!("the engine ended at start, {status}: {}", engine.child.stderr.tail(20));
            }
            engine.log_line("ready").map(|line| text(&line, "listeners")).ok_or_else(|| engine.child.stderr.tail(3))
        })
        .await;
        for pair in listeners.split(',') {
            let (name, addr) = pair.split_once('=').unwrap_or_else(|| panic!("NAME=ADDRESS, not {pair:?}"));
            engine.listeners.insert(name.to_owned(), addr.to_owned());
        }
        engine
    }

    /// The first log line with that message.
    #[must_use]
    pub fn log_line(&self, message: &str) -> Option<Value> {
        let lines = self.child.stderr.lines();
        lines.iter().filter_map(|l| serde_json::from_str(l).ok()).find(|v: &Value| text(v, "message") == message)
    }

    /// Where a listener listens.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn addr(&self, name: &str) -> SocketAddr {
        let addr = self.place(name);
        addr.parse().unwrap_or_else(|e| panic!("{name} listens on {addr}: {e}"))
    }

    /// Where a listener listens, as the log names it: `unix:PATH` for a Unix socket.
    ///
    /// # Panics
    /// When there is none of that name.
    #[must_use]
    pub fn place(&self, name: &str) -> &str {
        self.listeners.get(name).unwrap_or_else(|| panic!("no listener {name} in {:?}", self.listeners))
    }

    /// A listener's address with a path.
    #[must_use]
    pub fn url(&self, name: &str, path: &str) -> String {
        format!("http://{}{path}", self.addr(name))
    }

    /// `GET` on the admin listener, as JSON.
    ///
    /// # Panics
    /// When it does not answer with JSON.
    pub async fn admin(&self, path: &str) -> Value {
        let text = self.admin_text(path).await;
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}: {text}"))
    }

    /// `GET` on the admin listener.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn admin_text(&self, path: &str) -> String {
        let answer = crate::http().get(self.url("admin", path)).timeout(Duration::from_secs(20)).send().await;
        answer.expect("the admin listener answers").text().await.expect("a body")
    }

    /// The live sessions.
    pub async fn sessions(&self) -> Vec<Value> {
        self.admin("/sessions").await["sessions"].as_array().expect("a list").clone()
    }

    /// The live session of a client.
    pub async fn session(&self, client_id: &str) -> Option<Value> {
        self.sessions().await.into_iter().find(|s| s["client_id"] == client_id)
    }

    /// Waits until a client's session satisfies.
    pub async fn session_when(&self, client_id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(what, async || match self.session(client_id).await {
            Some(session) if is(&session) => Ok(session),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// Waits until a client has no session any more.
    pub async fn session_gone(&self, client_id: &str) {
        eventually(&format!("the session of {client_id} is gone"), async || match self.session(client_id).await {
            None => Ok(()),
            Some(session) => Err(session.to_string()),
        })
        .await;
    }

    /// The sum of a metric over all lines that contain every one of `labels`.
    ///
    /// # Panics
    /// When a value is no number.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin_text("/metrics").await;
        let of = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
        let value = |line: &str| -> f64 {
            line.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("a number in {line}"))
        };
        text.lines().filter(of).map(value).sum()
    }

    /// The packet log so far.
    #[must_use]
    pub fn packets(&self) -> Vec<Value> {
        let lines = self.child.stdout.lines();
        lines.iter().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("packet log: {e}: {l}"))).collect()
    }

    /// Asks it to end, and waits for it.
    pub async fn terminate(&self) -> std::process::ExitStatus {
        self.child.signal(Signal::SIGTERM);
        self.child.wait().await
    }

    /// What it uses now.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let proc = format!("/proc/{}", self.child.pid());
        let status = std::fs::read_to_string(format!("{proc}/status")).expect("it lives");
        let field = |name: &str| -> usize {
            let line = status.lines().find(|l| l.starts_with(name)).expect("in every status");
            line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
        };
        let descriptors = std::fs::read_dir(format!("{proc}/fd")).expect("it is ours").count();
        Usage { threads: field("Threads:"), descriptors, resident: field("VmRSS:") }
    }

    fn dump(&self) {
        if let Some(status) = self.child.ended() {
            eprintln!("--- the engine had ended: {status}");
        }
        eprintln!("--- engine log, last lines\n{}", self.child.stderr.tail(60));
        eprintln!("--- packet log, last lines\n{}", self.child.stdout.tail(5));
        eprintln!("--- GET /sessions\n{}", self.sessions_now().unwrap_or_else(|e| e.to_string()));
    }

    /// Without a runtime: a failing test has none to await on.
    fn sessions_now(&self) -> std::io::Result<String> {
        let Some(addr) = self.listeners.get("admin") else { return Ok("not ready".to_owned()) };
        let addr = addr.parse().map_err(std::io::Error::other)?;
        let mut socket = std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.write_all(b"GET /sessions HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        socket.take(8192).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if failing() {
            self.dump();
        }
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}

/// A field of a log line, on top or under `fields`.
fn text(line: &Value, field: &str) -> String {
    line[field].as_str().or_else(|| line["fields"][field].as_str()).unwrap_or_default().to_owned()
}
