//! Which configuration is used: the flag, CONFIG_PATH, the working directory, /etc, else the built-in demo.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Errors, Loaded, load, parse};

/// The built-in demo: all four entrypoints on the embedded broker, on 127.0.0.1.
pub const DEMO: &str = include_str!("../../../config/default.yaml");

/// Where a configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file; it need not exist when the user named it.
    File(PathBuf),
    /// The built-in demo.
    Demo,
}

impl Source {
    /// Reads and checks it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(&self) -> Result<Loaded, Errors> {
        match self {
            Self::File(path) => load(path),
            Self::Demo => parse(DEMO, &self.to_string(), &|name| std::env::var(name).ok()),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Demo => f.write_str("built-in demo"),
        }
    }
}

/// Decides: `--config`, `CONFIG_PATH`, `./config.yaml`, `/etc/mediation/config.yaml`, else the demo.
#[must_use]
pub fn find(flag: Option<PathBuf>) -> Source {
    decide(flag, std::env::var_os("CONFIG_PATH").map(PathBuf::from), &|path| path.is_file())
}

fn decide(flag: Option<PathBuf>, variable: Option<PathBuf>, exists: &dyn Fn(&Path) -> bool) -> Source {
    let named = flag.or(variable.filter(|path| !path.as_os_str().is_empty()));
    let usual =
        || ["config.yaml", "/etc/mediation/config.yaml"].map(PathBuf::from).into_iter().find(|path| exists(path));
    named.or_else(usual).map_or(Source::Demo, Source::File)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_one_wins() {
        let path = |text: &str| Some(PathBuf::from(text));
        let file = |text: &str| Source::File(PathBuf::from(text));
        let all = |_: &Path| true;
        assert_eq!(decide(path("a"), path("b"), &all), file("a"));
        assert_eq!(decide(None, path("b"), &all), file("b"));
        assert_eq!(decide(None, path(""), &all), file("config.yaml"));
        assert_eq!(decide(None, None, &|p| p.is_absolute()), file("/etc/mediation/config.yaml"));
        assert_eq!(decide(None, None, &|_| false), Source::Demo);
    }
}
