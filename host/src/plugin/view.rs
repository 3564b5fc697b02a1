//! How plugins do, for the admin page and `/metrics`.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use serde_json::{Value, json};

use super::named::{Plugin, Status, cut};

/// One row of `{"plugins":[..]}`.
pub(super) fn row(plugin: &Plugin) -> Value {
    let serving = plugin.serving();
    let state = state(plugin);
    let status = plugin.status();
    let attach: Vec<Value> =
        status.attach.iter().map(|one| json!({ "route": one.route, "order": one.order })).collect();
    let mut row = json!({
        "name": &**plugin.name(),
        "state": state,
        "file": status.file,
        "settings": status.source,
        "attach": attach,
        "threads": plugin.workers.threads(),
        "calls": plugin.calls(),
        "log_dropped": plugin.voice.dropped.load(Relaxed),
    });
    drop(status);
    let Some(serving) = serving else { return row };
    let now = &serving.now;
    let instances = now.usage.instances.load(Relaxed);
    let exports = &now.code.exports;
    let kinds = [
        ("route-resolver", exports.resolve.is_some()),
        ("event-mapper", exports.transform.is_some()),
        ("metadata-enricher", exports.enrich.is_some()),
    ];
    let kinds: Vec<&str> = kinds.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
    let micros = |share| (now.latency.quantile(share).as_nanos() as f64 / 100.0).round() / 10.0;
    let more = json!({
        "kinds": kinds,
        "generation": now.number,
        "version": now.version,
        "hash": cut(&now.code.hash),
        "size": now.code.size,
        "loaded_ms": now.loaded_ms,
        "faults": now.faults.load(Relaxed),
        "p50_us": micros(0.5),
        "p99_us": micros(0.99),
        "memory": now.usage.bytes.load(Relaxed),
        "instances": instances,
        "worst_memory": instances.saturating_mul(now.settings.max_memory),
        "inline": now.pace.is_inline(),
    });
    if let (Some(row), Value::Object(more)) = (row.as_object_mut(), more) {
        row.extend(more);
    }
    row
}

fn state(plugin: &Plugin) -> String {
    let serving = plugin.serving();
    let status = plugin.status();
    let Status { broken, rolled_back, missing, .. } = &*status;
    if let Some(why) = broken {
        return format!("broken: {why}");
    }
    if *missing {
        return "missing: its file is not in the folder".to_owned();
    }
    let Some(serving) = serving else { return "loading".to_owned() };
    if serving.now.breaker.is_open() {
        return "breaker open".to_owned();
    }
    if let Some(canary) = &serving.canary {
        let left = canary.until.saturating_duration_since(Instant::now()).as_secs();
        return format!("canary: {} % of the sessions for {left} s more", canary.percent);
    }
    match rolled_back {
        Some(why) => format!("rolled back: {why}"),
        None => "serving".to_owned(),
    }
}

/// Brings the gauges up to date.
pub(super) fn gauges(plugin: &Plugin) {
    let metrics = &plugin.voice.metrics;
    metrics.set_calls(plugin.calls());
    let serving = plugin.serving();
    let now = serving.as_ref().map(|serving| &serving.now);
    metrics.generation.set(now.map_or(0, |now| now.number.into()));
    metrics.inline.set(now.is_some_and(|now| now.pace.is_inline()).into());
    metrics.memory.set(now.map_or(0, |now| i64::try_from(now.usage.bytes.load(Relaxed)).unwrap_or(i64::MAX)));
    metrics.p99.set(now.map_or(0.0, |now| now.latency.quantile(0.99).as_secs_f64()));
    metrics.broken.set(plugin.status().broken.is_some().into());
}
