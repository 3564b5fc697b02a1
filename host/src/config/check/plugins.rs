//! Plugins: their names and files, who may attach, and uses that want dead letters where there are none. A name without
//! an entry is fine: its component is `NAME.wasm`.

use crate::config::draft::Draft;
use crate::config::file_parts::Use;
use crate::config::file_plugin::Plugin;
use crate::config::file_route::Route;
use crate::config::problem::Finding;
use crate::config::words::OnError;

pub(super) fn check(draft: &Draft, out: &mut Vec<Finding>) {
    let mut seen: Vec<(&str, usize)> = Vec::new();
    for (index, one) in draft.file.plugins.iter().enumerate() {
        let place = format!("plugins[{index}]");
        settings(&place, one, out);
        if !one.attach.is_empty() {
            let text = "only a sidecar attaches itself; name the plugin in a route's plugins or resolver, or move this \
                        entry to NAME.yaml beside the component";
            out.push(Finding::new(format!("{place}.attach"), text));
        }
        let Some(name) = one.name.as_deref() else { continue };
        match seen.iter().find(|(other, _)| *other == name) {
            Some((_, first)) => {
                let text = format!("duplicate name {name:?}, first at plugins[{first}]; choose another");
                out.push(Finding::new(format!("{place}.name"), text));
            }
            None => seen.push((name, index)),
        }
    }
    for (index, one) in draft.file.entrypoints.iter().enumerate() {
        let place = format!("entrypoints[{index}]");
        uses(&place, one.resolver.as_deref(), &one.plugins, out);
        let routes = draft
            .file
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| draft.entrypoint(route).is_some_and(|other| std::ptr::eq(other, one)));
        for (at, route) in routes {
            if !has_dead_letter(draft, at, route) {
                wants(&place, draft, &one.plugins, &format!("routes[{at}] has none; add dead_letter to it"), out);
                break;
            }
        }
    }
    for (index, route) in draft.file.routes.iter().enumerate() {
        let place = format!("routes[{index}]");
        uses(&place, route.resolver.as_deref(), &route.plugins, out);
        if !has_dead_letter(draft, index, route) {
            wants(&place, draft, &route.plugins, "the route has none; add dead_letter", out);
        }
    }
}

/// What holds for an entry and for a sidecar alike.
pub(in crate::config) fn settings(place: &str, one: &Plugin, out: &mut Vec<Finding>) {
    if let Some(name) = one.name.as_deref() {
        named(&format!("{place}.name"), name, out);
    }
    if let Some(file) = one.file.as_deref() {
        let plain = !file.starts_with('.') && !file.contains(['/', '\\', '\0']);
        if !plain || !file.ends_with(".wasm") {
            let text = format!("{file:?} is no component in plugins_dir; give a plain file name that ends in .wasm");
            out.push(Finding::new(format!("{place}.file"), text));
        }
    }
}

fn named(path: &str, name: &str, out: &mut Vec<Finding>) {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if !plain || name.is_empty() || name.len() > 128 || name.starts_with('.') {
        let text = format!(
            "{name:?} cannot name a plugin; use 1 to 128 letters, digits, \".\", \"_\" and \"-\", no \".\" in front"
        );
        out.push(Finding::new(path, text));
    }
}

fn uses(place: &str, resolver: Option<&str>, plugins: &[Use], out: &mut Vec<Finding>) {
    if let Some(name) = resolver {
        named(&format!("{place}.resolver"), name, out);
    }
    for (index, one) in plugins.iter().enumerate() {
        if let Some(name) = one.name() {
            named(&format!("{place}.plugins[{index}]"), name, out);
        }
    }
}

fn has_dead_letter(draft: &Draft, index: usize, route: &Route) -> bool {
    route.dead_letter.is_some() || draft.refused(&format!("routes[{index}].dead_letter"))
}

/// Uses whose failures go to dead letters, by their own word or by the plugin's.
fn wants(place: &str, draft: &Draft, plugins: &[Use], remedy: &str, out: &mut Vec<Finding>) {
    for (index, one) in plugins.iter().enumerate() {
        let own = one.on_error();
        let by_plugin = || draft.file.plugins.iter().find(|plugin| plugin.name.as_deref() == one.name())?.on_error;
        if own.or_else(by_plugin) == Some(OnError::DeadLetter) {
            let key = if own.is_some() { ".on_error" } else { "" };
            let text = format!("dead_letter needs a place for what the plugin fails: {remedy}, or use closed or open");
            out.push(Finding::new(format!("{place}.plugins[{index}]{key}"), text));
        }
    }
}
