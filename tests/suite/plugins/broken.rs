//! Files that are no plugin: each says why, what served goes on, and the mended file is picked up.

use mediation_tests::guests::{guest, variant};
use mediation_tests::{Plugins, Spec, Ws, run};
use serde_json::json;

use super::world;

#[test]
fn each_broken_file_says_why_and_changes_nothing() {
    run(async {
        let folder = Plugins::new();
        folder.put("worker.wasm", &guest("mapper-pass"));
        let spec = Spec { down: json!({ "plugins": ["worker"] }), ..Spec::default() };
        let world = world(&folder, json!([]), spec).await;
        let first = world.engine.plugin_serves("worker").await;
        let mut ws = Ws::open(world.engine.addr("ws"), "c").await;
        let broken: [(&str, Vec<u8>, &[&str]); 7] = [
            ("text", b"not wasm at all".to_vec(), &["not Wasm"]),
            ("core module", guest("core-module"), &["core module", "component"]),
            ("wrong version", guest("wrong-version"), &["0.9.0", "0.1"]),
            ("unknown import", guest("unknown-import"), &["acme:vault/secrets"]),
            ("wasi", guest("wasi-import"), &["wasi:", "wasi: stub"]),
            ("traps in init", guest("init-trap"), &["init"]),
            ("refuses its config", guest("init-error"), &["init"]),
        ];
        for (what, bytes, words) in broken {
            folder.put("worker.wasm", &bytes);
            let said = |p: &serde_json::Value| {
                let text = p.to_string();
                words.iter().all(|word| text.contains(word)) && p["generation"] == first["generation"]
            };
            let shown = world.engine.plugin_when("worker", what, said).await;
            assert_eq!(shown["hash"], first["hash"], "{what}: {shown}");
            world.publish([what]).await;
            assert_eq!(ws.events(1).await, [what]);
            folder.put("worker.wasm", &guest("mapper-pass"));
            world.engine.plugin_when("worker", "mended", |p| p["state"] == "serving").await;
        }
        folder.put("worker.wasm", &variant(guest("mapper-pass"), 9));
        world.engine.plugin_when("worker", "the next generation", |p| p["hash"] != first["hash"]).await;
    });
}

#[test]
fn a_guest_that_spins_in_init_is_given_up() {
    run(async {
        let folder = Plugins::with(&["init-spin"]);
        let world = world(&folder, json!([]), Spec::default()).await;
        let said = |p: &serde_json::Value| p.to_string().contains("init") && p["state"] != "serving";
        world.engine.plugin_when("init-spin", "given up", said).await;
    });
}
