//! What loads but deserves a word: keys of later versions, promises that end earlier than one may think, keys without an
//! effect where they stand. `check` prints it and the engine logs it at start.

use super::draft::{Draft, Party, Settings};
use super::file_route::Route;
use super::problem::Finding;
use super::words::{Direction, EndpointType, EntrypointKind, Guarantee, Sharing};

/// All warnings.
pub(super) fn advice(draft: &Draft) -> Vec<Finding> {
    let mut out = Vec::new();
    let file = &draft.file;
    for (index, one) in file.entrypoints.iter().enumerate() {
        let place = format!("entrypoints[{index}]");
        let used = |route: &Route| draft.entrypoint(route).is_some_and(|other| std::ptr::eq(other, one));
        if !file.routes.iter().any(used) {
            out.push(Finding::new(place, "no route uses this entrypoint: its clients get 502; add a route"));
        }
    }
    for (index, (endpoint, settings)) in draft.endpoints().enumerate() {
        let place = format!("endpoints[{index}]");
        match settings {
            Settings::Kafka(kafka) => {
                let at = |key: &str| format!("{place}.config.{key}");
                let none = "it has no effect yet";
                later(&mut out, &at("fetch_buffer"), kafka.fetch_buffer.is_some(), none);
                later(&mut out, &at("fetch_buffer_total"), kafka.fetch_buffer_total.is_some(), none);
                later(&mut out, &at("max_latency"), kafka.max_latency.is_some(), none);
                later(&mut out, &at("group_protocol"), kafka.group_protocol.is_some(), none);
                if kafka.sasl.as_ref().is_some_and(|sasl| sasl.mechanism.as_deref() == Some("PLAIN"))
                    && kafka.tls.is_none()
                {
                    out.push(Finding::new(at("sasl"), "PLAIN without TLS sends the password readable; add tls: {}"));
                }
            }
            Settings::Memory(_) => {}
            Settings::Other(_) => {
                let kind = endpoint.kind.map_or("", EndpointType::name);
                let text =
                    format!("{kind} comes with a later version: sessions on it are answered with 501 not_built_in");
                out.push(Finding::new(format!("{place}.type"), text));
            }
        }
    }
    if file.routes.is_empty() {
        out.push(Finding::new("routes", "there are none: every client gets 502; add one"));
    }
    for (index, route) in file.routes.iter().enumerate() {
        about_route(&format!("routes[{index}]"), draft, route, &mut out);
    }
    out
}

fn later(out: &mut Vec<Finding>, path: &str, set: bool, meanwhile: &str) {
    if set {
        out.push(Finding::new(path, format!("comes with a later version: {meanwhile}")));
    }
}

fn about_route(place: &str, draft: &Draft, route: &Route, out: &mut Vec<Finding>) {
    let at = |key: &str| format!("{place}.{key}");
    if draft.bridge(route) {
        out.push(Finding::new(place, "a bridge comes with a later version: it carries nothing yet"));
    }
    let shared = route.subscription == Some(Sharing::Shared);
    later(out, &at("subscription"), shared, "each session sees every event");
    if route.channel_size == Some(1) {
        let text = "one event at a time: at most one a round trip, 20 a second at 50 ms; a larger size is faster";
        out.push(Finding::new(at("channel_size"), text));
    }
    ends_with_session(place, draft, route, out);
    without_address(place, draft, route, out);
    without_effect(place, draft, route, out);
}

fn ends_with_session(place: &str, draft: &Draft, route: &Route, out: &mut Vec<Finding>) {
    let promised = route.delivery_guarantee == Guarantee::AtLeastOnce && route.direction == Some(Direction::Downstream);
    if !promised || route.durable || draft.bridge(route) {
        return;
    }
    if let (Some(Party::Endpoint(endpoint, settings)), _) = draft.parties(route) {
        let queue = match settings {
            Settings::Other(map) => endpoint.kind == Some(EndpointType::Rabbitmq) || map.contains_key("queue_in"),
            _ => false,
        };
        if !queue && route.subscription != Some(Sharing::Shared) {
            let text = "the promise ends with the session: what a client had not received when it left is not given to \
                        another; set durable: true, and have clients send X-Client-ID, where that matters";
            out.push(Finding::new(format!("{place}.delivery_guarantee"), text));
        }
    }
}

/// An end that has nothing to read from or to publish to; a resolver may name one.
fn without_address(place: &str, draft: &Draft, route: &Route, out: &mut Vec<Finding>) {
    let resolved = route.resolver.is_some() || draft.entrypoint(route).is_some_and(|one| one.resolver.is_some());
    if resolved {
        return;
    }
    let (source, target) = draft.parties(route);
    if let Some(Party::Endpoint(endpoint, settings @ Settings::Kafka(_))) = source
        && settings.inputs().is_empty()
    {
        let name = endpoint.name.as_deref().unwrap_or_default();
        let text = format!("{name} has no topic_in: clients get 502; add one to its config");
        out.push(Finding::new(format!("{place}.source"), text));
    }
    if let Some(Party::Endpoint(endpoint, settings @ Settings::Kafka(_))) = target
        && settings.output().is_none()
    {
        let name = endpoint.name.as_deref().unwrap_or_default();
        let text = format!("{name} has no topic_out: clients get 502; add one to its config");
        out.push(Finding::new(format!("{place}.target"), text));
    }
}

fn without_effect(place: &str, draft: &Draft, route: &Route, out: &mut Vec<Finding>) {
    let up = route.direction == Some(Direction::Upstream) && !draft.bridge(route);
    let post = draft.kind(route) == Some(EntrypointKind::HttpPost);
    let least = route.delivery_guarantee == Guarantee::AtLeastOnce;
    let keys = [
        ("durable", route.durable && up, "an upstream route"),
        ("receipt", route.receipt.is_some() && up, "an upstream route"),
        ("receipt", route.receipt.is_some() && !up && !least, "a route that is not at_least_once"),
        ("subscription", route.subscription.is_some() && up, "an upstream route"),
        ("group", route.group.is_some() && route.subscription != Some(Sharing::Shared), "a route that is not shared"),
        ("slow_client_timeout", route.slow_client_timeout.is_some() && up, "an upstream route"),
        ("max_redeliveries", route.max_redeliveries.is_some() && up, "an upstream route"),
        ("lifecycle_events", route.lifecycle_events && !up, "a route that is not upstream"),
        (
            "lifecycle_events",
            route.lifecycle_events && up && post,
            "an http_post route, whose requests are no sessions",
        ),
        ("max_in_flight", route.max_in_flight.is_some() && !post, "a route that is not http_post's"),
    ];
    for (key, set, on) in keys {
        if set {
            out.push(Finding::new(format!("{place}.{key}"), format!("has no effect on {on}; take it out")));
        }
    }
}
