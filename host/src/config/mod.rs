//! The configuration: YAML text in, one plain [`Config`] out, or all that is wrong with it at once.
//!
//! The way of a file, a stage a module: `yaml` (value tree with lines, `env` expanded in its scalars), `faults` (against
//! the JSON Schema that `schema` generates from the types of `file`, `file_route` and
//! `file_endpoint`), `draft` (typed), `check` (what
//! takes two places to see), `advice` (warnings), `build` (into `types`). Later stages still look at what earlier ones left
//! whole, so that one run shows every error. [`find`] decides which file; [`sidecar`] reads
//! what lies beside a component; [`report`] is what `check FILE` prints.
//!
//! Not here: reloading, and anything that opens a socket or asks a broker.

mod advice;
mod build;
mod check;
mod draft;
mod env;
mod faults;
mod file;
mod file_endpoint;
mod file_parts;
mod file_plugin;
mod file_route;
mod find;
mod problem;
mod report;
mod schema;
mod sidecar;
#[cfg(test)]
mod tests;
mod types;
mod units;
mod words;
mod yaml;

use std::net::IpAddr;
use std::path::Path;

pub use find::{DEMO, Source, find};
pub use problem::{Errors, Problem, Warning};
pub use report::report;
pub use schema::schema;
pub use sidecar::sidecar;
pub use types::{
    Admin, Attach, Canary, Config, DeadLetter, Endpoint, EndpointKind, Entrypoint, Kafka, KeyFrom, Match, Memory,
    Opaque, PacketLog, Plugin, Route, Sasl, Secret, Tls, Use,
};
pub use words::{Direction, EntrypointKind, Frames, Guarantee, OnBrokerLoss, OnError, Receipt, Start};

use problem::Finding;
use yaml::{Expanded, Lines};

/// A configuration that may be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// It.
    pub config: Config,
    /// What is worth a word, in the file's order.
    pub warnings: Vec<Warning>,
    /// What was read. It may hold secrets.
    pub text: Secret,
}

/// Reads and checks a file, with the process's environment.
///
/// # Errors
/// All that is wrong with it.
pub fn load(path: &Path) -> Result<Loaded, Errors> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let text = format!("cannot be read: {error}; name a file with --config, CONFIG_PATH or `check FILE`");
        Errors(vec![Problem { file: file.clone(), line: None, path: String::new(), text }])
    })?;
    parse(&text, &file, &|name| std::env::var(name).ok())
}

/// Checks a text. `file` stands in messages, `env` looks variables up.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, file: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, Errors> {
    let mut tree = yaml::read(text, env);
    let mut found = std::mem::take(&mut tree.faults);
    if let Some((line, text)) = tree.broken {
        let mut all = placed(found, file, &tree.lines);
        all.push(Problem { file: file.to_owned(), line: Some(line), path: String::new(), text });
        return Err(Errors(all));
    }
    match faults::check(&mut tree.value, &tree.expanded) {
        Ok(more) => merge(&mut found, more),
        Err(text) => found.push(Finding::new("", text)),
    }
    let (draft, more) = draft::Draft::new(tree.value, &found);
    merge(&mut found, more);
    merge(&mut found, check::check(&draft));
    if !found.is_empty() {
        found.iter_mut().for_each(|one| hide(one, tree.expanded.values()));
        return Err(Errors(placed(found, file, &tree.lines)));
    }
    let warnings = placed(advice::advice(&draft), file, &tree.lines);
    Ok(Loaded { config: build::build(&draft), warnings, text: Secret(text.to_owned()) })
}

/// Adds what a later stage found, except about places that an earlier one has already refused: it has not seen them.
fn merge(found: &mut Vec<Finding>, more: Vec<Finding>) {
    let refused: Vec<String> = found.iter().map(|one| one.path.clone()).collect();
    let under = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    let fresh = |path: &str| !refused.iter().any(|other| under(other, path) || under(path, other));
    found.extend(more.into_iter().filter(|one| fresh(&one.path)));
}

/// A value that came out of the environment may be a secret in the wrong place: its source text stands for it.
fn hide<'a>(finding: &mut Finding, expanded: impl IntoIterator<Item = &'a Expanded>) {
    for one in expanded.into_iter().filter(|one| one.path == finding.path) {
        finding.text = finding.text.replacen(&format!("{:?}", one.value), &format!("{:?}", one.source), 1);
    }
}

/// Gives findings their file and line, and the file's order.
fn placed(found: Vec<Finding>, file: &str, lines: &Lines) -> Vec<Problem> {
    let place =
        |one: Finding| Problem { file: file.to_owned(), line: lines.of(&one.path), path: one.path, text: one.text };
    let mut all: Vec<Problem> = found.into_iter().map(place).collect();
    all.sort_by_key(|one| one.line);
    all
}

/// An address as `bind` takes it: IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok(),
    }
}
