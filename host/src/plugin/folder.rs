//! What lies in the plugins folder, and whether it has stood still long enough to be taken.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// A file is taken once its size and time have stood for so long.
pub(super) const STEADY: Duration = Duration::from_millis(500);

/// Which file it is and how it was when looked at: another one, or changed, when this differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    resolved: PathBuf,
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

/// How a file is at a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum File {
    /// Not there, or not a file.
    Missing,
    /// Somebody may still be writing it.
    Moving(Stamp),
    /// Ready to be read.
    Steady(Stamp),
}

/// See the module's documentation.
pub(super) struct Folder {
    dir: PathBuf,
    seen: HashMap<PathBuf, (Stamp, Instant)>,
    watched: Option<(RecommendedWatcher, (u64, u64))>,
}

impl Folder {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, seen: HashMap::new(), watched: None }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Names of components, and of settings beside them: files directly in the folder without a leading dot.
    pub(super) fn names(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut components, mut sidecars) = (BTreeSet::new(), BTreeSet::new());
        // A missing folder is an empty one.
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            if let Some(stem) = name.strip_suffix(".wasm").filter(|stem| !stem.is_empty()) {
                components.insert(stem.to_owned());
            } else if let Some(stem) = name.strip_suffix(".yaml").filter(|stem| !stem.is_empty()) {
                sidecars.insert(stem.to_owned());
            }
        }
        (components, sidecars)
    }

    /// Looks at one file of the folder.
    pub(super) fn look(&mut self, name: &str, now: Instant) -> File {
        let path = self.dir.join(name);
        let Some((stamp, modified)) = stamp(&path) else {
            self.seen.remove(&path);
            return File::Missing;
        };
        let old = SystemTime::now().duration_since(modified).is_ok_and(|age| age >= STEADY);
        let since = match self.seen.get(&path) {
            Some((before, since)) if *before == stamp => *since,
            _ => {
                self.seen.insert(path, (stamp.clone(), now));
                now
            }
        };
        if old || now.duration_since(since) >= STEADY { File::Steady(stamp) } else { File::Moving(stamp) }
    }

    /// Watches the folder, anew where another one has taken its place. Without this the looks every ten seconds remain.
    pub(super) fn watch(&mut self, changed: impl Fn() + Send + 'static) {
        let id = fs::metadata(&self.dir).ok().map(|meta| (meta.dev(), meta.ino()));
        let Some(id) = id else {
            self.watched = None;
            return;
        };
        if self.watched.as_ref().is_some_and(|(_, watched)| *watched == id) {
            return;
        }
        // Our own reading is an event too: only what may have changed something counts.
        let changes = |kind: EventKind| !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write));
        let made = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| changes(event.kind)) {
                changed();
            }
        });
        let watching = made.and_then(|mut watcher| {
            watcher.watch(&self.dir, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        match watching {
            Ok(watcher) => self.watched = Some((watcher, id)),
            Err(error) => {
                let dir = self.dir.display();
                tracing::warn!(%dir, %error, "the plugins folder is not watched: it is looked at every ten seconds");
            }
        }
    }
}

fn stamp(path: &Path) -> Option<(Stamp, SystemTime)> {
    let meta = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let resolved = fs::canonicalize(path).ok()?;
    let stamp = Stamp {
        resolved,
        file: (meta.dev(), meta.ino()),
        size: meta.len(),
        changed: (meta.mtime(), meta.mtime_nsec()),
    };
    Some((stamp, meta.modified().ok()?))
}

/// Whether `*` in the pattern stands for any run of characters of the text.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, text, fit) in [
            ("orders-*", "orders-eu", true),
            ("orders-*", "order", false),
            ("*", "", true),
            ("a*b*c", "a-b-c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("x->y", "x->y", true),
            ("x->y", "x->yz", false),
        ] {
            assert_eq!(fits(pattern, text), fit, "{pattern} {text}");
        }
    }
}
