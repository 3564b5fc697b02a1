//! What each plugin is to be made with: the configuration's entry, else its sidecar, else defaults. Kept by the
//! [`manager`](super::manager).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::time::{Duration, Instant};

use super::folder::{File, Folder, Stamp};
use super::load;
use crate::config::{self, OnError, Opaque};

/// Bytes of a sidecar.
const LARGEST: u64 = 1 << 20;

/// See the module's documentation.
pub(super) struct Settings {
    configured: Vec<config::Plugin>,
    sidecars: BTreeMap<String, Sidecar>,
}

/// As it was last read.
struct Sidecar {
    stamp: Stamp,
    /// What it says, or said before it broke.
    says: Option<config::Plugin>,
    broken: Option<String>,
}

impl Settings {
    pub(super) fn new(configured: Vec<config::Plugin>) -> Self {
        Self { configured, sidecars: BTreeMap::new() }
    }

    pub(super) fn configure(&mut self, configured: Vec<config::Plugin>) {
        self.configured = configured;
    }

    /// Whether the configuration has an entry of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    fn entry(&self, name: &str) -> Option<&config::Plugin> {
        self.configured.iter().find(|one| one.name == name)
    }

    /// Names of the configuration's entries.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.configured.iter().map(|one| one.name.clone())
    }

    /// A file that only an entry with another name uses is no plugin of its own.
    pub(super) fn is_another_ones(&self, stem: &str) -> bool {
        let file = format!("{stem}.wasm");
        self.configured.iter().any(|one| one.file.as_ref() == Some(&file))
            && !self.has(stem)
            && !self.sidecars.contains_key(stem)
    }

    /// Reads sidecars that came or changed. True while one may still be written.
    pub(super) fn read(&mut self, folder: &mut Folder, stems: &BTreeSet<String>, now: Instant) -> bool {
        let mut moving = false;
        self.sidecars.retain(|stem, _| stems.contains(stem));
        for stem in stems {
            let file = format!("{stem}.yaml");
            let stamp = match folder.look(&file, now) {
                File::Missing => continue,
                File::Moving(_) => {
                    moving = true;
                    continue;
                }
                File::Steady(stamp) => stamp,
            };
            if self.sidecars.get(stem).is_some_and(|before| before.stamp == stamp) {
                continue;
            }
            let path = folder.dir().join(&file);
            let shown = path.display().to_string();
            let read = text_of(&path).map_err(|error| format!("{shown}: {error}"));
            let read = read.and_then(|text| config::sidecar(&text, &shown, stem).map_err(|errors| errors.to_string()));
            let before = self.sidecars.remove(stem).and_then(|before| before.says);
            let (says, broken) = match read {
                Ok(says) => {
                    self.warn_of_conflict(stem, &says, &shown);
                    (Some(says), None)
                }
                Err(why) => {
                    tracing::error!(plugin = stem, why, "the sidecar is broken: what it said before stays");
                    (before, Some(why))
                }
            };
            self.sidecars.insert(stem.clone(), Sidecar { stamp, says, broken });
        }
        moving
    }

    fn warn_of_conflict(&self, stem: &str, sidecar: &config::Plugin, file: &str) {
        let Some(entry) = self.entry(stem) else { return };
        if !load::same(entry, sidecar) || entry.on_error != sidecar.on_error || entry.canary != sidecar.canary {
            let configured = format!("plugins: {stem}");
            tracing::warn!(plugin = stem, sidecar = file, configured, "both set the plugin: the configuration wins");
        }
    }

    /// The settings of a plugin and where they come from, for people.
    ///
    /// # Errors
    /// Nobody says them but a broken sidecar.
    pub(super) fn of(&self, name: &str) -> Result<(config::Plugin, String), String> {
        let sidecar = self.sidecars.get(name);
        let broken =
            sidecar.and_then(|one| one.broken.as_ref()).map_or_else(String::new, |why| format!(" (broken: {why})"));
        let says = sidecar.and_then(|one| one.says.as_ref());
        if let Some(entry) = self.entry(name) {
            let attach = says.map(|one| one.attach.clone()).unwrap_or_default();
            return Ok((config::Plugin { attach, ..entry.clone() }, format!("configuration{broken}")));
        }
        match (sidecar, says) {
            (_, Some(says)) => Ok((config::Plugin { file: None, ..says.clone() }, format!("{name}.yaml{broken}"))),
            (Some(_), None) => Err(format!("its sidecar{broken}")),
            (None, None) => Ok((defaults(name), "defaults".to_owned())),
        }
    }
}

/// Settings where nobody says any.
fn defaults(name: &str) -> config::Plugin {
    config::Plugin {
        name: name.to_owned(),
        file: None,
        config: Opaque(serde_json::Value::Null),
        max_memory: 16 << 20,
        deadline: Duration::from_millis(2),
        on_error: OnError::Closed,
        wasi_stub: false,
        canary: None,
        attach: Vec::new(),
    }
}

/// A sidecar's text.
fn text_of(path: &std::path::Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("larger than {LARGEST} bytes: that is no sidecar"));
    }
    Ok(text)
}
