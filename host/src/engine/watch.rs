//! Looking after the configuration file: when its content changed and has been quiet, it is read, checked and handed to
//! `reload`. What is wrong with it is logged and shown, and the running configuration stays.
//!
//! The folder is watched, not the file: editors replace files, and Kubernetes swaps the link `..data` that a ConfigMap's
//! files point through. Since some mounts send no events it is looked at every ten seconds, too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::Notify;

use super::reload::FileState;
use super::{Engine, Inner};
use crate::config::{self, Config, Loaded};

/// How long it has to be quiet.
const QUIET: Duration = Duration::from_millis(200);
/// How long it may take to be quiet.
const AT_LAST: Duration = Duration::from_secs(2);
/// Without an event.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A configuration file that the engine follows.
pub struct Watched {
    /// It.
    pub path: PathBuf,
    /// Its text as it is running.
    pub text: String,
    /// Beats the file's `plugins_dir`.
    pub plugins_dir: Option<PathBuf>,
    /// Takes the file's `log_level`; says why not.
    pub set_level: Box<SetLevel>,
}

/// Takes a `log_level`, or says why not.
pub type SetLevel = dyn Fn(&str) -> Result<(), String> + Send + Sync;

impl Engine {
    /// Follows the file from now on, until the engine stops.
    pub fn watch(&self, file: Watched) {
        let inner = self.0.clone();
        let mut stop = inner.stop.subscribe();
        self.0.background.spawn(async move {
            tokio::select! {
                () = follow(&inner, file) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
    }
}

async fn follow(inner: &Arc<Inner>, file: Watched) {
    let moved = Arc::new(Notify::new());
    // Dropped with this task: then it watches no more.
    let watcher = watcher(&file.path, moved.clone());
    if let Err(error) = &watcher {
        tracing::warn!(file = %file.path.display(), %error, "no events of the file's folder: looked at every 10 s");
    }
    let file = Arc::new(file);
    let mut seen = Ok(file.text.clone());
    loop {
        tokio::select! {
            () = moved.notified() => {
                let busy = async { while tokio::time::timeout(QUIET, moved.notified()).await.is_ok() {} };
                // Somebody who writes beside it for ever must not keep it from being looked at: what is half written
                // is refused, and looked at again.
                if tokio::time::timeout(AT_LAST, busy).await.is_err() {
                    tracing::debug!("the folder of the configuration file is never quiet");
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let (engine, known, last) = (inner.clone(), file.clone(), seen);
        // Files and sockets may block.
        let looked = tokio::task::spawn_blocking(move || look(&engine, &known, last)).await;
        match looked {
            Ok(now) => seen = now,
            Err(error) => {
                tracing::error!(%error, "the configuration file is not followed any more");
                return;
            }
        }
    }
}

fn watcher(path: &Path, moved: Arc<Notify>) -> notify::Result<notify::RecommendedWatcher> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Whatever happened: look. Reading the file is no change of it.
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            moved.notify_one();
        }
    })?;
    watcher.watch(folder, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// The file's text, or why there is none.
type Text = Result<String, String>;

fn look(inner: &Arc<Inner>, file: &Watched, last: Text) -> Text {
    let text = std::fs::read_to_string(&file.path).map_err(|error| error.to_string());
    if text == last {
        return last;
    }
    let generation = inner.file.load().generation;
    let state = match load(file).and_then(|config| apply(inner, file, config)) {
        Ok(()) => {
            inner.metrics.config_reloaded(true);
            FileState { generation: generation + 1, errors: Vec::new() }
        }
        Err(errors) => {
            for error in &errors {
                tracing::error!(%error, "the changed configuration is refused");
            }
            tracing::error!(file = %file.path.display(), errors = errors.len(), "the configuration stays as it was");
            inner.metrics.config_reloaded(false);
            FileState { generation, errors }
        }
    };
    inner.file.store(Arc::new(state));
    text
}

fn load(file: &Watched) -> Result<Config, Vec<String>> {
    let loaded = config::load(&file.path).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>());
    let Loaded { mut config, warnings, .. } = loaded?;
    if let Some(dir) = &file.plugins_dir {
        config.plugins_dir.clone_from(dir);
    }
    Engine::verify(&config)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn apply(inner: &Arc<Inner>, file: &Watched, config: Config) -> Result<(), Vec<String>> {
    let level = config.log_level.clone();
    inner.reload(config)?;
    if let Err(error) = (file.set_level)(&level) {
        tracing::warn!(%error, "the log stays at its level");
    }
    Ok(())
}
