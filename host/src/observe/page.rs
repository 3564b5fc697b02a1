//! The admin listener's front page: what `/healthz`, `/readyz`, `/routes` and `/plugins` say, for people.
//!
//! One self-contained page: no scripts, nothing from elsewhere.

use std::borrow::Cow;

use serde_json::Value;

use super::view::View;

const TOP: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Mediation Engine</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #222; background: #fff }
table { border-collapse: collapse; margin: .5rem 0 } td, th { border: 1px solid #ccc; padding: .2rem .6rem; text-align: left }
th { background: #f3f3f3 } nav a { margin-right: 1rem }
</style></head><body>
<h1>Mediation Engine</h1>
<nav><a href="/healthz">health</a><a href="/readyz">readiness</a><a href="/metrics">metrics</a><a href="/sessions">sessions</a><a href="/routes">routes</a><a href="/plugins">plugins</a></nav>
"#;

/// The page; `all`: whoever asks may see what names clients and routes.
pub(super) fn render(view: &dyn View, all: bool) -> String {
    let mut page = TOP.to_owned();
    let health = view.healthz();
    let (ready, readiness) = view.readyz();
    let count = health.get("sessions").map_or(Cow::Borrowed("0"), text);
    let word = if ready { "ready" } else { "not ready" };
    page += &format!("<p>Version {}, {word}, sessions: {count}.</p>\n", env!("CARGO_PKG_VERSION"));
    page += "<h2>Endpoints</h2>\n";
    page += &table(readiness.get("endpoints").unwrap_or(&Value::Null));
    if all {
        let (routes, plugins) = (view.routes(), view.plugins());
        page += "<h2>Routes</h2>\n";
        page += &table(routes.get("routes").unwrap_or(&routes));
        page += "<h2>Plugins</h2>\n";
        page += &table(plugins.get("plugins").unwrap_or(&plugins));
    } else {
        page += "<h2>Routes and plugins</h2>\n";
        page +=
            "<p>Shown to this machine and to who sends <code>Authorization: Bearer &lt;admin.token&gt;</code>.</p>\n";
    }
    page + "</body></html>\n"
}

/// A list of objects, or an object by its keys, as a table.
fn table(value: &Value) -> String {
    let named: Vec<(Option<&String>, &Value)> = match value {
        Value::Array(rows) => rows.iter().map(|row| (None, row)).collect(),
        Value::Object(rows) => rows.iter().map(|(key, row)| (Some(key), row)).collect(),
        _ => Vec::new(),
    };
    if named.is_empty() {
        return "<p>None.</p>\n".to_owned();
    }
    let mut columns: Vec<&str> = Vec::new();
    for key in named.iter().filter_map(|(_, row)| row.as_object()).flat_map(|row| row.keys()) {
        if !columns.contains(&key.as_str()) {
            columns.push(key);
        }
    }
    columns.sort_by_key(|column| *column != "name");
    let mut html = String::from("<table>\n");
    if !columns.is_empty() {
        html += "<tr>";
        if named.iter().any(|(name, _)| name.is_some()) {
            html += "<th></th>";
        }
        columns.iter().for_each(|column| html += &format!("<th>{}</th>", escape(column)));
        html += "</tr>\n";
    }
    for (name, row) in named {
        html += "<tr>";
        if let Some(name) = name {
            html += &format!("<th>{}</th>", escape(name));
        }
        if row.is_object() {
            for column in &columns {
                html += &format!("<td>{}</td>", row.get(column).map_or(Cow::Borrowed(""), text));
            }
        } else {
            html += &format!("<td>{}</td>", text(row));
        }
        html += "</tr>\n";
    }
    html + "</table>\n"
}

/// A value as escaped text: strings without their quotes, the rest as JSON.
fn text(value: &Value) -> Cow<'static, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Owned(escape(text)),
        other => Cow::Owned(escape(&other.to_string())),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_show_lists_and_maps_and_miss_nothing() {
        let list = table(&json!([{ "a": 1 }, { "b": "x<y" }]));
        assert!(list.contains("<tr><th>a</th><th>b</th></tr>"), "{list}");
        assert!(list.contains("<tr><td></td><td>x&lt;y</td></tr>"), "{list}");
        let map = table(&json!({ "k1": { "state": "up" }, "k2": "down" }));
        assert!(map.contains("<tr><th>k1</th><td>up</td></tr>"), "{map}");
        assert!(map.contains("<tr><th>k2</th><td>down</td></tr>"), "{map}");
        assert_eq!(table(&Value::Null), "<p>None.</p>\n");
    }
}
