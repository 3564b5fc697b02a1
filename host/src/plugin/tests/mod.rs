//! Plugins as they are used: built guests in a folder, events through them.

mod contained;
mod folder;
mod swap;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;
use crate::config::{self, Opaque};
use crate::observe::metrics::Metrics;

/// Where scripts/guests.sh puts the tests' guests.
pub(super) fn guest(name: &str) -> PathBuf {
    let cache = || {
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/mediation-engine");
        std::env::var_os("MEDIATION_CACHE").map_or_else(home, PathBuf::from).join("guests/out")
    };
    let dir = std::env::var_os("MEDIATION_GUESTS").map_or_else(cache, PathBuf::from);
    let file = dir.join(format!("{name}.wasm"));
    assert!(file.exists(), "{} is not built: run `make plugins` or scripts/guests.sh", file.display());
    file
}

/// A plugins folder of its own, and the plugins in it.
struct Host {
    dir: PathBuf,
    plugins: Arc<Plugins>,
    metrics: Arc<Metrics>,
    changes: Arc<AtomicUsize>,
}

impl Drop for Host {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

pub(super) fn folder() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("mediation-plugins-{}-{next}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// With guests under the names that they are to have.
fn host(guests: &[(&str, &str)], settings: Vec<config::Plugin>) -> Host {
    let dir = folder();
    for (name, from) in guests {
        put(&dir, name, from);
    }
    start(dir, settings)
}

fn start(dir: PathBuf, settings: Vec<config::Plugin>) -> Host {
    let (metrics, changes) = (Metrics::new(), Arc::<AtomicUsize>::default());
    let count = changes.clone();
    let changed = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    let plugins = Plugins::start(Options { dir: dir.clone(), settings, changed }, &metrics).unwrap();
    Host { dir, plugins, metrics, changes }
}

/// As a deployment does: in one step.
fn put(dir: &Path, name: &str, from: &str) {
    let part = dir.join(format!(".{name}"));
    fs::copy(guest(from), &part).unwrap();
    fs::rename(part, dir.join(format!("{name}.wasm"))).unwrap();
}

fn settings(name: &str, config: Value) -> config::Plugin {
    config::Plugin {
        name: name.to_owned(),
        file: None,
        config: Opaque(config),
        max_memory: 16 << 20,
        deadline: Duration::from_millis(2),
        on_error: config::OnError::Closed,
        wasi_stub: false,
        canary: None,
        attach: Vec::new(),
    }
}

impl Host {
    fn row(&self, name: &str) -> Value {
        let view = self.plugins.view();
        view["plugins"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned().unwrap_or_default()
    }

    fn state(&self, name: &str) -> String {
        self.row(name)["state"].as_str().unwrap_or_default().to_owned()
    }

    /// One event through a plugin.
    fn step(&self, name: &str, payload: &'static [u8]) -> Result<Served<Stepped>, Fault> {
        let event = Arc::new(samples::event(payload));
        wait(self.plugins.plugin(name).pin(1).step(&event, &samples::facts()))
    }
}

fn wait<T: Send>(called: Called<T>) -> Result<Served<T>, Fault> {
    match called {
        Called::Ready(result) => result,
        Called::Later(result) => finished(result),
    }
}

/// On a thread of its own: tests with a runtime call this too.
fn finished<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future);
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

fn outputs(result: Result<Served<Stepped>, Fault>) -> Vec<Output> {
    match result.unwrap().value {
        Stepped::Out(outputs) => outputs,
        other => panic!("{other:?}"),
    }
}

/// Waits until it holds; the failure shows the last value.
fn eventually<T: std::fmt::Debug>(mut value: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let last = value();
        if holds(&last) {
            return last;
        }
        assert!(Instant::now() < until, "{last:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
