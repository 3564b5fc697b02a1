//! From a component's bytes to native code; with a private cache of it where `MEDIATION_PLUGIN_CACHE` names a folder.
//!
//! Native code is trusted as the engine itself is: it never comes from the plugins folder, only from a folder of this user
//! that nobody else may touch, and only with the checksum that it was written with.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// # Errors
/// The component is not valid, in words.
pub(super) fn compile(engine: &Engine, bytes: &[u8], hash: &str) -> Result<Component, String> {
    let cache = std::env::var_os("MEDIATION_PLUGIN_CACHE").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    with_cache(engine, bytes, hash, cache.as_deref())
}

fn with_cache(engine: &Engine, bytes: &[u8], hash: &str, cache: Option<&Path>) -> Result<Component, String> {
    let cache = cache.and_then(|dir| match private(dir) {
        Ok(()) => Some(dir.join(format!("{hash}-{:016x}.cwasm", compatibility(engine)))),
        Err(why) => {
            tracing::warn!(dir = %dir.display(), why, "the cache of plugins' native code is not used");
            None
        }
    });
    if let Some(found) = cache.as_deref().and_then(|file| read(engine, file)) {
        return Ok(found);
    }
    let component = Component::from_binary(engine, bytes).map_err(|error| format!("it is not valid: {error:#}"))?;
    if let Some(file) = cache {
        let written = component.serialize().map_err(|error| error.to_string()).and_then(|code| write(&file, &code));
        if let Err(why) = written {
            tracing::warn!(file = %file.display(), why, "native code of a plugin was not kept");
        }
    }
    Ok(component)
}

fn compatibility(engine: &Engine) -> u64 {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.finish()
}

/// Makes the folder where it is missing, and wants it to be this user's alone.
fn private(dir: &Path) -> Result<(), String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| error.to_string())?;
    let meta = fs::symlink_metadata(dir).map_err(|error| error.to_string())?;
    if !meta.is_dir() || meta.uid() != nix::unistd::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err("it must be a folder of this user that nobody else may enter: chmod 700".to_owned());
    }
    Ok(())
}

#[allow(unsafe_code, reason = "native code of our own making, from a folder that only we may write, by its checksum")]
fn read(engine: &Engine, file: &Path) -> Option<Component> {
    let bytes = fs::read(file).ok()?;
    let (sum, code) = bytes.split_at_checked(32)?;
    if Sha256::digest(code).as_slice() != sum {
        tracing::warn!(file = %file.display(), "cached native code of a plugin is damaged: compiled again");
        return None;
    }
    // SAFETY: written by `write` below by this user, for an engine with the same compatibility hash, and whole.
    unsafe { Component::deserialize(engine, code) }.ok()
}

fn write(file: &Path, code: &[u8]) -> Result<(), String> {
    let part = file.with_extension(format!("{}.part", std::process::id()));
    let all = || {
        let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        out.write_all(&Sha256::digest(code))?;
        out.write_all(code)?;
        fs::rename(&part, file)
    };
    all().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::plugin::sandbox::Sandbox;
    use crate::plugin::tests::{folder, guest};

    #[test]
    fn native_code_is_kept_and_what_is_damaged_or_open_to_others_is_not_used() {
        let (sandbox, dir) = (Sandbox::new().unwrap(), folder());
        let bytes = fs::read(guest("mapper-pass")).unwrap();
        let (engine, cache) = (sandbox.engine(), dir.join("cache"));
        let compiled = || with_cache(engine, &bytes, "hash", Some(&cache)).is_ok();
        assert!(compiled());
        let files: Vec<PathBuf> = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(read(engine, file).is_some());
        // What cannot be compiled shows where the code came from.
        assert!(with_cache(engine, b"no component", "hash", Some(&cache)).is_ok());
        let mut damaged = fs::read(file).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        fs::write(file, damaged).unwrap();
        assert!(read(engine, file).is_none());
        assert!(compiled() && read(engine, file).is_some(), "written anew");
        fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(with_cache(engine, b"no component", "hash", Some(&cache)).is_err());
        fs::remove_dir_all(dir).ok();
    }
}
