//! Cycles of bridges: an event that comes back to where it was read would go round for ever.
//!
//! Addresses are compared as text: two endpoints on one broker, and wildcards, are not seen through.

use crate::config::draft::{Draft, Party, route_name};
use crate::config::problem::Finding;

struct Bridge<'a> {
    index: usize,
    name: String,
    from: (&'a str, Vec<String>),
    to: (&'a str, Option<String>),
}

impl Bridge<'_> {
    fn feeds(&self, next: &Self) -> bool {
        self.to.0 == next.from.0 && self.to.1.as_ref().is_some_and(|address| next.from.1.contains(address))
    }
}

pub(super) fn check(draft: &Draft, out: &mut Vec<Finding>) {
    let bridges: Vec<Bridge<'_>> =
        draft.file.routes.iter().enumerate().filter_map(|(i, r)| bridge(draft, i, r)).collect();
    let mut told = vec![false; bridges.len()];
    for start in 0..bridges.len() {
        let Some(path) = cycle(&bridges, start) else { continue };
        if path.iter().any(|at| told.get(*at).copied().unwrap_or(false)) {
            continue;
        }
        path.iter().for_each(|at| {
            if let Some(flag) = told.get_mut(*at) {
                *flag = true;
            }
        });
        let names: Vec<&str> =
            path.iter().chain([&start]).filter_map(|at| bridges.get(*at)).map(|b| b.name.as_str()).collect();
        let text = format!("bridges in a circle: {}; an event would never end, take one out", names.join(", "));
        if let Some(first) = bridges.get(start) {
            out.push(Finding::new(format!("routes[{}]", first.index), text));
        }
    }
}

fn bridge<'a>(draft: &'a Draft, index: usize, route: &crate::config::file::Route) -> Option<Bridge<'a>> {
    let (Some(Party::Endpoint(from, reads)), Some(Party::Endpoint(to, writes))) = draft.parties(route) else {
        return None;
    };
    Some(Bridge {
        index,
        name: route_name(route)?,
        from: (from.name.as_deref()?, reads.inputs()),
        to: (to.name.as_deref()?, writes.output()),
    })
}

/// The bridges on a way from `start` back to it.
fn cycle(bridges: &[Bridge<'_>], start: usize) -> Option<Vec<usize>> {
    let mut seen = vec![false; bridges.len()];
    let mut paths = vec![vec![start]];
    while let Some(path) = paths.pop() {
        let here = path.last().and_then(|at| bridges.get(*at))?;
        for (at, _) in bridges.iter().enumerate().filter(|(_, next)| here.feeds(next)) {
            if at == start {
                return Some(path);
            }
            if let Some(flag) = seen.get_mut(at)
                && !*flag
            {
                *flag = true;
                paths.push(path.iter().copied().chain([at]).collect());
            }
        }
    }
    None
}
