//! Entrypoints and the admin listener: addresses, keys that belong to another type, lists of addresses and headers.

use std::net::IpAddr;

use crate::config::draft::Draft;
use crate::config::file::Entrypoint;
use crate::config::problem::Finding;
use crate::config::words::EntrypointKind::{self, HttpGet, HttpPost, Sse, Websocket};

pub(super) fn check(draft: &Draft, out: &mut Vec<Finding>) {
    let admin = &draft.file.admin;
    bind("admin", admin.bind.as_deref(), out);
    let mut taken = vec![Address { place: "admin".to_owned(), port: admin.port, ip: parse(admin.bind.as_deref()) }];
    let mut sockets: Vec<(&std::path::Path, String)> = Vec::new();
    for (index, one) in draft.file.entrypoints.iter().enumerate() {
        let place = format!("entrypoints[{index}]");
        address(&place, one, out);
        foreign_keys(&place, one, out);
        lists(&place, one, out);
        if let Some(socket) = one.socket.as_deref() {
            match sockets.iter().find(|(other, _)| *other == socket) {
                Some((_, first)) => {
                    let text = format!("the same path as {first}'s; choose another");
                    out.push(Finding::new(format!("{place}.socket"), text));
                }
                None => sockets.push((socket, place.clone())),
            }
        }
        let Some(port) = one.port else { continue };
        let mine = Address { place: place.clone(), port, ip: parse(one.bind.as_deref()) };
        match taken.iter().find(|other| other.overlaps(&mine)) {
            Some(first) => {
                let text = format!("{port} is {}'s too, on the same address; choose another port or bind", first.place);
                out.push(Finding::new(format!("{place}.port"), text));
            }
            None => taken.push(mine),
        }
    }
}

/// Where a listener listens; no address: on all.
struct Address {
    place: String,
    port: u16,
    ip: Option<IpAddr>,
}

impl Address {
    fn overlaps(&self, other: &Self) -> bool {
        let meet = match (self.ip, other.ip) {
            (Some(a), Some(b)) => {
                // `[::]` takes IPv4 too; `0.0.0.0` only IPv4.
                let wide = |ip: IpAddr, of: IpAddr| ip.is_unspecified() && (ip.is_ipv6() || of.is_ipv4());
                a == b || wide(a, b) || wide(b, a)
            }
            _ => true,
        };
        self.port != 0 && self.port == other.port && meet
    }
}

fn parse(bind: Option<&str>) -> Option<IpAddr> {
    crate::config::address(bind?)
}

fn bind(place: &str, bind: Option<&str>, out: &mut Vec<Finding>) {
    if bind.is_some() && parse(bind).is_none() {
        let text = "not an IP address; write one, such as 127.0.0.1 or \"[::]\" (the port has a key of its own)";
        out.push(Finding::new(format!("{place}.bind"), text));
    }
}

fn address(place: &str, one: &Entrypoint, out: &mut Vec<Finding>) {
    bind(place, one.bind.as_deref(), out);
    match (one.port, &one.socket) {
        (None, None) => {
            out.push(Finding::new(format!("{place}.port"), "missing; give a port (0: any free one) or a socket"));
        }
        (Some(_), Some(_)) => {
            out.push(Finding::new(format!("{place}.socket"), "beside a port; keep one of the two"));
        }
        (None, Some(_)) if one.bind.is_some() => {
            out.push(Finding::new(format!("{place}.bind"), "a socket has no address; take it out"));
        }
        _ => {}
    }
}

fn foreign_keys(place: &str, one: &Entrypoint, out: &mut Vec<Finding>) {
    let Some(kind) = one.kind else { return };
    let keys: [(&str, bool, &[EntrypointKind]); 7] = [
        ("ping_interval", one.ping_interval.is_some(), &[Websocket]),
        ("max_frame", one.max_frame.is_some(), &[Websocket]),
        ("frames", one.frames.is_some(), &[Websocket]),
        ("heartbeat", one.heartbeat.is_some(), &[Sse]),
        ("max_body", one.max_body.is_some(), &[HttpPost, Sse, HttpGet]),
        ("idle_timeout", one.idle_timeout.is_some(), &[HttpGet]),
        ("ack_timeout", one.ack_timeout.is_some(), &[HttpGet, Websocket, Sse]),
    ];
    for (key, set, kinds) in keys {
        if set && !kinds.contains(&kind) {
            let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let text = format!("{} has no such key, it is {}'s; take it out", kind.name(), names.join(" and "));
            out.push(Finding::new(format!("{place}.{key}"), text));
        }
    }
}

fn lists(place: &str, one: &Entrypoint, out: &mut Vec<Finding>) {
    for (index, proxy) in one.trusted_proxies.iter().enumerate() {
        if !is_network(proxy) {
            let text = format!("{proxy:?} is no address; write one, a network such as 10.0.0.0/8, or unix");
            out.push(Finding::new(format!("{place}.trusted_proxies[{index}]"), text));
        }
    }
    for (index, origin) in one.allowed_origins.iter().enumerate() {
        let host = origin.split_once("://").map_or("", |(_, host)| host);
        if origin != "*" && (host.is_empty() || host.contains('/')) {
            let text =
                format!("{origin:?} is no origin; write scheme and host, such as https://app.example.com, or \"*\"");
            out.push(Finding::new(format!("{place}.allowed_origins[{index}]"), text));
        }
    }
    for (index, name) in one.forward_headers.iter().enumerate() {
        if name.parse::<http::HeaderName>().is_err() {
            let text = format!("{name:?} is no header name; write one, such as X-Tenant");
            out.push(Finding::new(format!("{place}.forward_headers[{index}]"), text));
        }
    }
}

fn is_network(text: &str) -> bool {
    if text == "unix" {
        return true;
    }
    let (ip, bits) = match text.split_once('/') {
        Some((ip, bits)) => (ip, Some(bits)),
        None => (text, None),
    };
    let Ok(ip) = ip.parse::<IpAddr>() else { return false };
    let most = if ip.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}
