//! Files that come, change, break and go.

use super::*;

const SIDECAR: &str = "config: { tag: side }\nattach: [ { route: \"orders-*\", order: 10 } ]\n";

#[test]
fn a_file_that_is_dropped_serves_and_one_that_is_taken_away_goes() {
    let host = host(&[], Vec::new());
    put(&host.dir, "map", "mapper-pass");
    eventually(|| host.row("map")["generation"].clone(), |number| *number == json!(1));
    fs::remove_file(host.dir.join("map.wasm")).unwrap();
    eventually(|| host.row("map"), Value::is_null);
}

#[test]
fn the_file_of_a_plugin_that_the_configuration_names_may_not_go() {
    let host = host(&[("map", "mapper-pass")], Vec::new());
    assert_eq!(host.step("map", b"x").unwrap().generation, 1);
    fs::remove_file(host.dir.join("map.wasm")).unwrap();
    eventually(|| host.state("map"), |state| state.starts_with("missing"));
    assert_eq!(host.step("map", b"x").unwrap().generation, 1, "it serves on");
    put(&host.dir, "map", "mapper-pass");
    eventually(|| host.state("map"), |state| state == "serving");
}

#[test]
fn sidecars_attach_and_let_go_in_any_order_of_arrival() {
    let host = host(&[], Vec::new());
    fs::write(host.dir.join("tag.yaml"), SIDECAR).unwrap();
    put(&host.dir, "tag", "tag");
    let attached =
        |route: &str| host.plugins.attached(route).steps.iter().map(|one| one.name().to_string()).collect::<Vec<_>>();
    eventually(|| attached("orders-eu"), |names| *names == ["tag"]);
    assert!(attached("prices").is_empty() && host.plugins.attached("orders-eu").resolvers.is_empty());
    eventually(|| host.changes.load(Ordering::Relaxed), |count| *count > 0);
    fs::remove_file(host.dir.join("tag.wasm")).unwrap();
    eventually(|| attached("orders-eu"), Vec::is_empty);
}

#[test]
fn broken_files_change_nothing_and_say_why_and_the_mended_one_is_taken() {
    let host = host(&[("p", "mapper-pass")], Vec::new());
    let _named = host.plugins.plugin("p");
    for (from, part) in [
        ("core-module", "core module"),
        ("wrong-version", "mediation:plugin@0.9.0"),
        ("unknown-import", "acme:vault/secrets"),
        ("wasi-import", "wasi: stub"),
        ("init-trap", "trapped"),
        ("init-spin", "took more than 1000 ms"),
        ("init-error", "refuses the configuration"),
    ] {
        put(&host.dir, "p", from);
        eventually(|| host.state("p"), |state| state.contains(part));
        assert_eq!(host.step("p", b"x").unwrap().generation, 1, "{from}");
    }
    fs::write(host.dir.join("p.wasm"), "no wasm at all").unwrap();
    eventually(|| host.state("p"), |state| state.contains("not Wasm"));
    put(&host.dir, "p", "mapper-pass");
    eventually(|| host.state("p"), |state| state == "serving");
    let failures = host.metrics.render();
    assert!(failures.contains("mediation_plugin_load_failures_total{plugin=\"p\"} 8\n"), "{failures}");
}

#[test]
fn wasi_is_answered_by_stubs_where_it_is_asked_for() {
    let stub = config::Plugin { wasi_stub: true, ..settings("wasi", json!({})) };
    let host = host(&[("wasi", "wasi-import")], vec![stub]);
    let out = outputs(host.step("wasi", b"x"));
    let text = |key: &str| out[0].event.get(key).unwrap().into_owned();
    assert_eq!((text("x-env"), text("x-args")), ("0".to_owned(), "0".to_owned()));
    assert!(text("x-clock").parse::<u64>().unwrap() > 1_700_000_000);
}

#[test]
fn a_symlink_that_points_elsewhere_is_a_change() {
    let dir = folder();
    fs::create_dir_all(dir.join(".data1")).unwrap();
    fs::create_dir_all(dir.join(".data2")).unwrap();
    fs::copy(guest("mapper-pass"), dir.join(".data1/p.wasm")).unwrap();
    fs::copy(guest("verdict"), dir.join(".data2/p.wasm")).unwrap();
    std::os::unix::fs::symlink(".data1", dir.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/p.wasm", dir.join("p.wasm")).unwrap();
    let host = start(dir, Vec::new());
    eventually(|| host.row("p")["generation"].clone(), |number| *number == json!(1));
    std::os::unix::fs::symlink(".data2", host.dir.join("..tmp")).unwrap();
    fs::rename(host.dir.join("..tmp"), host.dir.join("..data")).unwrap();
    eventually(|| host.row("p")["generation"].clone(), |number| *number == json!(2));
}

#[test]
fn two_names_of_one_file_are_two_plugins() {
    let of =
        |name: &str| config::Plugin { file: Some("tag.wasm".to_owned()), ..settings(name, json!({ "tag": name })) };
    let host = host(&[("tag", "tag")], vec![of("eu"), of("us")]);
    for name in ["eu", "us"] {
        assert_eq!(outputs(host.step(name, b"x"))[0].event.get("x-tag").as_deref(), Some(name));
    }
    assert!(host.row("tag").is_null(), "nothing asks for the file by its own name");
}

#[test]
fn another_minor_version_of_the_interface_is_served() {
    let host = host(&[("p", "minor-version")], Vec::new());
    assert_eq!(host.state("p"), "serving");
}
