//! The file, typed element by element: one with a fault does not hide those of its neighbours. Between `faults` and `check`.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::file::{Endpoint, Entrypoint, File};
use super::file_endpoint::{Kafka, Memory};
use super::file_plugin::Plugin;
use super::file_route::Route;
use super::problem::Finding;
use super::words::{EndpointType, EntrypointKind};

/// A typed file; `settings` stand beside `file.endpoints`.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) file: File,
    pub(super) settings: Vec<Settings>,
    /// What earlier stages refused: it was taken out, so that its absence proves nothing.
    refused: Vec<String>,
}

/// What an endpoint's `config` holds.
#[derive(Debug)]
pub(super) enum Settings {
    Kafka(Box<Kafka>),
    Memory(Memory),
    Other(Map<String, Value>),
}

impl Settings {
    /// Topics or queues that are read.
    pub(super) fn inputs(&self) -> Vec<String> {
        match self {
            Self::Kafka(kafka) => kafka.topic_in.as_ref().map(|topics| topics.list()).unwrap_or_default(),
            Self::Memory(memory) => memory.topic_in.list(),
            Self::Other(map) => text(map, &["topic_in", "queue_in"]).into_iter().collect(),
        }
    }

    /// The topic or queue that is published to.
    pub(super) fn output(&self) -> Option<String> {
        match self {
            Self::Kafka(kafka) => kafka.topic_out.clone(),
            Self::Memory(memory) => Some(memory.topic_out.clone()),
            Self::Other(map) => text(map, &["topic_out", "queue_out"]),
        }
    }
}

fn text(map: &Map<String, Value>, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| map.get(*key)).and_then(Value::as_str).map(str::to_owned)
}

/// Whatever a route's source or target names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Party<'a> {
    Entrypoint(&'a Entrypoint),
    Endpoint(&'a Endpoint, &'a Settings),
}

impl Draft {
    /// Types what is left of the value after `faults`. The findings say what did not type though the schema took it.
    pub(super) fn new(value: Value, found: &[Finding]) -> (Self, Vec<Finding>) {
        let mut out = Vec::new();
        let Value::Object(mut root) = value else { return (Self::default(), out) };
        let entrypoints: Vec<Entrypoint> = list(&mut root, "entrypoints", &mut out);
        let endpoints: Vec<Endpoint> = list(&mut root, "endpoints", &mut out);
        let routes: Vec<Route> = list(&mut root, "routes", &mut out);
        let plugins: Vec<Plugin> = list(&mut root, "plugins", &mut out);
        let rest: File = typed(Value::Object(root), "", &mut out);
        let settings =
            endpoints.iter().enumerate().map(|(index, endpoint)| settings(index, endpoint, &mut out)).collect();
        let refused = found.iter().map(|one| one.path.clone()).collect();
        (Self { file: File { plugins, entrypoints, endpoints, routes, ..rest }, settings, refused }, out)
    }

    /// Endpoints with their settings.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&Endpoint, &Settings)> {
        self.file.endpoints.iter().zip(&self.settings)
    }

    /// Whether something at or under the path was taken out.
    pub(super) fn refused(&self, path: &str) -> bool {
        self.refused.iter().any(|one| one.starts_with(path))
    }

    /// What a name stands for.
    pub(super) fn party(&self, name: Option<&str>) -> Option<Party<'_>> {
        let name = name?;
        let entrypoint = self.file.entrypoints.iter().find(|one| one.name.as_deref() == Some(name));
        entrypoint.map(Party::Entrypoint).or_else(|| {
            let (endpoint, settings) = self.endpoints().find(|(one, _)| one.name.as_deref() == Some(name))?;
            Some(Party::Endpoint(endpoint, settings))
        })
    }

    /// A route's source and target.
    pub(super) fn parties(&self, route: &Route) -> (Option<Party<'_>>, Option<Party<'_>>) {
        (self.party(route.source.as_deref()), self.party(route.target.as_deref()))
    }

    /// The entrypoint of a route that is no bridge.
    pub(super) fn entrypoint(&self, route: &Route) -> Option<&Entrypoint> {
        match self.parties(route) {
            (Some(Party::Entrypoint(one)), _) | (_, Some(Party::Entrypoint(one))) => Some(one),
            _ => None,
        }
    }

    /// The type of that entrypoint.
    pub(super) fn kind(&self, route: &Route) -> Option<EntrypointKind> {
        self.entrypoint(route).and_then(|one| one.kind)
    }

    /// Whether it joins two endpoints.
    pub(super) fn bridge(&self, route: &Route) -> bool {
        matches!(self.parties(route), (Some(Party::Endpoint(..)), Some(Party::Endpoint(..))))
    }
}

/// A route's name, given or not.
pub(super) fn route_name(route: &Route) -> Option<String> {
    route.name.clone().or_else(|| Some(format!("{}->{}", route.source.as_ref()?, route.target.as_ref()?)))
}

fn list<T: DeserializeOwned + Default>(root: &mut Map<String, Value>, key: &str, out: &mut Vec<Finding>) -> Vec<T> {
    let Some(Value::Array(items)) = root.remove(key) else { return Vec::new() };
    items.into_iter().enumerate().map(|(index, item)| typed(item, &format!("{key}[{index}]"), out)).collect()
}

fn settings(index: usize, endpoint: &Endpoint, out: &mut Vec<Finding>) -> Settings {
    let map = endpoint.config.clone().unwrap_or_default().0;
    let path = format!("endpoints[{index}].config");
    match endpoint.kind {
        Some(EndpointType::Kafka) => Settings::Kafka(Box::new(typed(Value::Object(map), &path, out))),
        Some(EndpointType::Memory) => Settings::Memory(typed(Value::Object(map), &path, out)),
        _ => Settings::Other(map),
    }
}

fn typed<T: DeserializeOwned + Default>(value: Value, path: &str, out: &mut Vec<Finding>) -> T {
    // An element that was taken out.
    if value.is_null() {
        return T::default();
    }
    serde_json::from_value(value).unwrap_or_else(|_| {
        // serde's message holds values, which may be secret.
        out.push(Finding::new(path, "not readable; see config/schema.json"));
        T::default()
    })
}
