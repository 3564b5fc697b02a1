//! Cross checks: what the schema cannot say, because it takes two places of the file to see it. Each module refuses what
//! belongs to its part; what is only worth a word is in `advice`.

mod bridges;
mod endpoints;
mod listeners;
mod plugins;
mod routes;

use super::draft::Draft;
use super::problem::Finding;

pub(super) use plugins::settings as plugin;

/// All that is wrong.
pub(super) fn check(draft: &Draft) -> Vec<Finding> {
    let mut out = Vec::new();
    names(draft, &mut out);
    listeners::check(draft, &mut out);
    endpoints::check(draft, &mut out);
    routes::check(draft, &mut out);
    plugins::check(draft, &mut out);
    bridges::check(draft, &mut out);
    out
}

/// One name, one thing: a route's source may be either.
fn names(draft: &Draft, out: &mut Vec<Finding>) {
    let entrypoints = draft.file.entrypoints.iter().enumerate();
    let endpoints = draft.file.endpoints.iter().enumerate();
    let all = entrypoints
        .map(|(index, one)| (format!("entrypoints[{index}]"), one.name.as_deref()))
        .chain(endpoints.map(|(index, one)| (format!("endpoints[{index}]"), one.name.as_deref())));
    let mut seen: Vec<(String, &str)> = Vec::new();
    for (place, name) in all {
        let Some(name) = name else { continue };
        match seen.iter().find(|(_, other)| *other == name) {
            Some((first, _)) => {
                let text = format!("duplicate name {name:?}, first at {first}; choose another");
                out.push(Finding::new(format!("{place}.name"), text));
            }
            None => seen.push((place, name)),
        }
    }
}
