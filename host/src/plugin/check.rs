//! What a file in the plugins folder is, and whether it is a component that this engine can serve. Each way that it is not
//! has its own words, with the remedy.

use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex};

use super::guest::Exports;

/// What the engine speaks; any 0.1.x does.
const PACKAGE: &str = "mediation:plugin/";
const VERSION: &str = "0.1.";

/// # Errors
/// The bytes are no component.
pub(super) fn shape(bytes: &[u8]) -> Result<(), String> {
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(
            "it is a core module, not a component; link it with wasm-component-ld, or make one of it with `wasm-tools component new`"
                .to_owned(),
        ),
        Some([0, b'a', b's', b'm', version, _, layer, _]) => {
            Err(format!("it is Wasm of a kind that this engine does not know (version {version}, layer {layer})"))
        }
        _ if bytes.is_empty() => Err("the file is empty".to_owned()),
        _ if bytes.trim_ascii_start().starts_with(b"(") => {
            Err("it is Wasm as text; make it binary with `wasm-tools parse`".to_owned())
        }
        _ => Err("it is not Wasm: the first bytes are not `\\0asm`".to_owned()),
    }
}

/// # Errors
/// It imports what it does not get.
pub(super) fn imports(engine: &Engine, component: &Component, wasi_stub: bool) -> Result<(), String> {
    let ty = component.component_type();
    let mut wasi = Vec::new();
    for (name, _) in ty.imports(engine) {
        if let Some(own) = name.strip_prefix(PACKAGE) {
            version(name)?;
            let interface = own.split('@').next().unwrap_or(own);
            if !matches!(interface, "types" | "host") {
                return Err(format!("it imports {name}, which this engine does not have"));
            }
        } else if name.starts_with("wasi:") {
            wasi.push(name);
        } else {
            return Err(format!(
                "it imports {name}, which this engine does not have; plugins get mediation:plugin/types and mediation:plugin/host only"
            ));
        }
    }
    if !wasi.is_empty() && !wasi_stub {
        return Err(format!(
            "it imports {}; plugins get no WASI: build for wasm32-unknown-unknown, or set `wasi: stub` for answers that reach nothing",
            wasi.join(", ")
        ));
    }
    Ok(())
}

fn version(name: &str) -> Result<(), String> {
    match name.split_once('@') {
        Some((_, wanted)) if wanted.starts_with(VERSION) => Ok(()),
        other => {
            let wanted = other.map_or("no version", |(_, wanted)| wanted);
            Err(format!(
                "it wants mediation:plugin@{wanted}, this engine speaks {VERSION}x; build it against this engine's wit/plugin.wit"
            ))
        }
    }
}

/// Where the component keeps what the engine calls.
///
/// # Errors
/// It is not a whole plugin.
pub(super) fn exports(engine: &Engine, component: &Component) -> Result<Exports, String> {
    let ty = component.component_type();
    let mut found = Exports::default();
    let mut lifecycle = false;
    for (name, _) in ty.exports(engine) {
        let Some(own) = name.strip_prefix(PACKAGE) else { continue };
        version(name)?;
        let Some(instance) = component.get_export_index(None, name) else { continue };
        let function = |function: &str| -> Result<Option<ComponentExportIndex>, String> {
            match component.get_export_index(Some(&instance), function) {
                None => Err(format!("its {name} lacks `{function}`")),
                index => Ok(index),
            }
        };
        match own.split('@').next().unwrap_or(own) {
            "lifecycle" => {
                (found.describe, found.init, lifecycle) = (function("describe")?, function("init")?, true);
            }
            "route-resolver" => (found.connect, found.resolve) = (function("connect")?, function("resolve")?),
            "event-mapper" => found.transform = function("transform")?,
            "metadata-enricher" => {
                (found.enrich_session, found.enrich) = (function("enrich-session")?, function("enrich")?);
            }
            _ => {}
        }
    }
    if !lifecycle {
        return Err("it does not export mediation:plugin/lifecycle; every plugin does (wit/plugin.wit)".to_owned());
    }
    if found.resolve.is_none() && found.transform.is_none() && found.enrich.is_none() {
        return Err(
            "it exports no stage: route-resolver, event-mapper or metadata-enricher (wit/plugin.wit)".to_owned()
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_is_no_component_is_named() {
        for (bytes, part) in [
            (&b""[..], "empty"),
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\0asm\x0d\0\x07\0", "layer 7"),
            (b" (component)", "text"),
            (b"#!/bin/sh\nexit", "not Wasm"),
        ] {
            let text = shape(bytes).unwrap_err();
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(shape(b"\0asm\x0d\0\x01\0"), Ok(()));
        assert!(version("mediation:plugin/types@0.9.0").unwrap_err().contains("mediation:plugin@0.9.0"));
        assert_eq!(version("mediation:plugin/types@0.1.7"), Ok(()));
    }
}
