//! Whole files: good ones, bad ones with their exact messages, and what must never be shown.

use std::path::{Path, PathBuf};

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config")
}

fn good(text: &str) -> Loaded {
    parse(text, "c.yaml", &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn every_file_in_config_loads() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let loaded = load(&path).unwrap_or_else(|errors| panic!("{errors}"));
            println!("{}", report(&loaded));
            names.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    names.sort();
    assert_eq!(names, ["default.yaml", "full.yaml", "kafka.yaml"]);
}
