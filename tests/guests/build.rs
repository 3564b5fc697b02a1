//! Copies of the interface with other versions, for the guests `minor-version` and `wrong-version`.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let wit = "../../wit/plugin.wit";
    println!("cargo::rerun-if-changed={wit}");
    let text = fs::read_to_string(wit)?;
    for version in ["0.1.7", "0.9.0"] {
        let folder = PathBuf::from(env::var("OUT_DIR")?).join(version);
        fs::create_dir_all(&folder)?;
        let other = text.replacen("mediation:plugin@0.1.0", &format!("mediation:plugin@{version}"), 1);
        fs::write(folder.join("plugin.wit"), other)?;
    }
    Ok(())
}
