//! Plugins folders: which of the built guests are in it, under which name and with which sidecar.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::engine::Engine;
use crate::run::{eventually, unique};

/// A folder of components, removed in the end.
#[derive(Debug)]
pub struct Plugins {
    dir: PathBuf,
}

/// The bytes of a guest.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn guest(name: &str) -> Vec<u8> {
    let built = std::env::var_os("MEDIATION_GUESTS").map_or_else(
        || {
            let cache = std::env::var_os("MEDIATION_CACHE").map_or_else(
                || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cache/mediation-engine"),
                PathBuf::from,
            );
            cache.join("guests/out")
        },
        PathBuf::from,
    );
    let path = built.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run scripts/guests.sh", path.display()))
}

/// The same code as another file: a custom section is appended.
#[must_use]
pub fn variant(mut bytes: Vec<u8>, n: u8) -> Vec<u8> {
    bytes.extend_from_slice(&[0, 3, 1, b'x', n]);
    bytes
}

impl Default for Plugins {
    fn default() -> Self {
        Self::new()
    }
}

impl Plugins {
    /// An empty one.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let dir = std::env::temp_dir().join(unique("mediation-plugins"));
        std::fs::create_dir_all(&dir).expect("a folder");
        Self { dir }
    }

    /// With guests under their own names.
    #[must_use]
    pub fn with(names: &[&str]) -> Self {
        let plugins = Self::new();
        for name in names {
            plugins.put(&format!("{name}.wasm"), &guest(name));
        }
        plugins
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// As `plugins_dir` takes it.
    ///
    /// # Panics
    /// When the path is not text.
    #[must_use]
    pub fn path(&self) -> &str {
        self.dir.to_str().expect("a plain path")
    }

    /// Writes a file as a careful user does: under another name, then moved.
    ///
    /// # Panics
    /// When that fails.
    pub fn put(&self, file: &str, bytes: &[u8]) {
        let early = self.dir.join(format!(".{file}.new"));
        std::fs::write(&early, bytes).expect("written");
        std::fs::rename(&early, self.dir.join(file)).expect("moved");
    }

    /// Writes a sidecar.
    ///
    /// # Panics
    /// When that fails.
    pub fn put_sidecar(&self, name: &str, settings: &Value) {
        self.put(&format!("{name}.yaml"), serde_yaml::to_string(settings).expect("plain data").as_bytes());
    }

    /// Takes a file out.
    ///
    /// # Panics
    /// When it is not there.
    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.dir.join(file)).expect("it was there");
    }
}

impl Drop for Plugins {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("{}: {error}", self.dir.display());
        }
    }
}

impl Engine {
    /// What `/plugins` says of one.
    pub async fn plugin(&self, name: &str) -> Option<Value> {
        let all = self.admin("/plugins").await;
        all["plugins"].as_array().expect("a list").iter().find(|one| one["name"] == name).cloned()
    }

    /// Waits until `/plugins` says so of one.
    pub async fn plugin_when(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("plugin {name}: {what}"), async || match self.plugin(name).await {
            Some(plugin) if is(&plugin) => Ok(plugin),
            other => Err(format!("{other:?}")),
        })
        .await
    }

    /// Waits until one serves.
    pub async fn plugin_serves(&self, name: &str) -> Value {
        self.plugin_when(name, "serving", |plugin| plugin["state"] == "serving").await
    }

    /// `POST /plugins/NAME/ACT`: the status and the answer.
    ///
    /// # Panics
    /// When there is no answer in JSON.
    pub async fn plugin_act(&self, name: &str, act: &str) -> (u16, Value) {
        let answer = crate::http().post(self.url("admin", &format!("/plugins/{name}/{act}"))).send().await;
        let answer = answer.expect("the admin listener answers");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }
}
