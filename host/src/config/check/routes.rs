//! Routes: names that point somewhere, directions that can be served, sizes and promises that the pair can keep.

use crate::config::draft::{Draft, Party, route_name};
use crate::config::file_route::Route;
use crate::config::problem::{Finding, hint};
use crate::config::types::Match;
use crate::config::words::{Direction, EntrypointKind, Receipt};

pub(super) fn check(draft: &Draft, out: &mut Vec<Finding>) {
    for (index, route) in draft.file.routes.iter().enumerate() {
        let place = format!("routes[{index}]");
        ends(&place, draft, route, out);
        matches(&place, route, out);
        promises(&place, draft, route, out);
    }
    twins(draft, out);
}

/// Source, target and direction.
fn ends(place: &str, draft: &Draft, route: &Route, out: &mut Vec<Finding>) {
    let (source, target) = draft.parties(route);
    let mut push = |key: &str, text: String| out.push(Finding::new(format!("{place}.{key}"), text));
    let up = route.direction == Some(Direction::Upstream);
    let down = route.direction == Some(Direction::Downstream);
    if let (Some(name), None) = (route.source.as_deref(), source) {
        push("source", nobody(draft, name, !down, true));
    }
    if let (Some(name), None) = (route.target.as_deref(), target) {
        push("target", nobody(draft, name, !up, !down));
    }
    match (source, target) {
        (Some(Party::Entrypoint(_)), Some(Party::Entrypoint(_))) => {
            push("target", "an entrypoint, as the source is; one of the two has to be an endpoint".to_owned());
        }
        (Some(Party::Entrypoint(_)), _) if down => {
            push("direction", "the source is an entrypoint; write upstream, or swap source and target".to_owned());
        }
        (_, Some(Party::Entrypoint(_))) if up => {
            push("direction", "the target is an entrypoint; write downstream, or swap source and target".to_owned());
        }
        (Some(Party::Entrypoint(one)), _) if up => {
            if let Some(kind @ (EntrypointKind::Sse | EntrypointKind::HttpGet)) = one.kind {
                push("direction", one_way(kind, "downstream"));
            }
        }
        (_, Some(Party::Entrypoint(one))) if down && one.kind == Some(EntrypointKind::HttpPost) => {
            push("direction", one_way(EntrypointKind::HttpPost, "upstream"));
        }
        _ => {}
    }
}

fn one_way(kind: EntrypointKind, way: &str) -> String {
    format!("{} only goes {way}; use another entrypoint for this way", kind.name())
}

fn nobody(draft: &Draft, name: &str, entrypoints: bool, endpoints: bool) -> String {
    let listeners = draft.file.entrypoints.iter().filter(|_| entrypoints).filter_map(|one| one.name.as_deref());
    let brokers = draft.file.endpoints.iter().filter(|_| endpoints).filter_map(|one| one.name.as_deref());
    let (what, section) = match (entrypoints, endpoints) {
        (true, false) => ("entrypoint", "entrypoints"),
        (false, _) => ("endpoint", "endpoints"),
        (true, true) => ("entrypoint or endpoint", "entrypoints or endpoints"),
    };
    format!("no {what} named {name:?}; {}", hint(name, listeners.chain(brokers), &format!("add it to {section}")))
}

fn matches(place: &str, route: &Route, out: &mut Vec<Finding>) {
    let Some(matches) = &route.matches else { return };
    if let Some(path) = matches.path.as_deref() {
        let before = path.strip_suffix('*').unwrap_or(path);
        if !path.starts_with('/') {
            out.push(Finding::new(format!("{place}.match.path"), "does not begin with \"/\"; write it from the root"));
        } else if before.contains('*') {
            let text = "a \"*\" in the middle; it may only stand at the end";
            out.push(Finding::new(format!("{place}.match.path"), text));
        }
    }
    for name in matches.header.keys().filter(|name| name.parse::<http::HeaderName>().is_err()) {
        out.push(Finding::new(
            format!("{place}.match.header.{name}"),
            "not a header name; write one, such as x-channel",
        ));
    }
}

/// What the pair cannot keep.
fn promises(place: &str, draft: &Draft, route: &Route, out: &mut Vec<Finding>) {
    let (source, target) = draft.parties(route);
    let mut push = |key: &str, text: String| out.push(Finding::new(format!("{place}.{key}"), text));
    for party in [source, target] {
        let Some(Party::Endpoint(endpoint, _)) = party else { continue };
        let Some((kind, size)) = endpoint.kind.zip(route.channel_size) else { continue };
        if u64::from(size) > kind.max_channel() {
            let text = format!("{size} is more than {}'s flow window; use 1 to {}", kind.name(), kind.max_channel());
            push("channel_size", text);
            break;
        }
    }
    if route.direction == Some(Direction::Downstream) && !draft.bridge(route) {
        let kind = draft.kind(route);
        if let (Some(kind @ (EntrypointKind::Sse | EntrypointKind::HttpGet)), Some(Receipt::Received)) =
            (kind, route.receipt)
        {
            push("receipt", format!("{} never gives received; use written or processed", kind.name()));
        }
        if let (true, Some(Party::Endpoint(endpoint, _))) = (route.durable, source) {
            let kind = endpoint.kind.filter(|kind| !kind.has_log());
            if let Some(kind) = kind {
                push("durable", format!("{} keeps no log to go on from; take it out, or use kafka", kind.name()));
            }
        }
    }
    let dead_letter = route.dead_letter.is_some() || draft.refused(&format!("{place}.dead_letter"));
    if route.max_redeliveries.is_some() && !dead_letter {
        push("max_redeliveries", "needs a place for what is given up; add dead_letter, or take it out".to_owned());
    }
    if let Some(name) = route.dead_letter.as_ref().and_then(|dead| dead.endpoint.as_deref()) {
        match draft.file.endpoints.iter().find(|one| one.name.as_deref() == Some(name)).map(|one| one.kind) {
            None => push("dead_letter.endpoint", nobody(draft, name, false, true)),
            Some(Some(kind)) if !kind.built_in() => {
                let text = format!("{} is not built in: nothing can be published to it; use another", kind.name());
                push("dead_letter.endpoint", text);
            }
            Some(_) => {}
        }
    }
}

/// A route's match in comparable form.
fn normal(route: &Route) -> Match {
    route.matches.as_ref().map(crate::config::build::matches).unwrap_or_default()
}

/// Two routes for the same sessions, or of one name.
fn twins(draft: &Draft, out: &mut Vec<Finding>) {
    let mut seen = Vec::new();
    let mut names: Vec<(String, usize)> = Vec::new();
    for (index, route) in draft.file.routes.iter().enumerate() {
        let entrypoint = draft.entrypoint(route).and_then(|one| one.name.as_deref());
        let mut twin = false;
        let known = !draft.refused(&format!("routes[{index}].match"));
        if let (Some(entrypoint), Some(direction), true) = (entrypoint, route.direction, known) {
            let key = (entrypoint, direction, normal(route));
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == key) {
                let text = format!(
                    "routes[{first}] is for the same sessions ({entrypoint}, {}, same match); give one another match",
                    direction.name()
                );
                out.push(Finding::new(format!("routes[{index}].match"), text));
                twin = true;
            } else {
                seen.push((key, index));
            }
        }
        let Some(name) = route_name(route) else { continue };
        match names.iter().find(|(other, _)| *other == name) {
            // Twins without names have the same default: one message is enough.
            Some(_) if twin && route.name.is_none() => {}
            Some((_, first)) => {
                let text = format!("duplicate name {name:?}, first at routes[{first}]; give one of them another name");
                out.push(Finding::new(format!("routes[{index}].name"), text));
            }
            None => names.push((name, index)),
        }
    }
}
