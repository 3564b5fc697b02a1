//! The `mediation-engine` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    mediation_engine::cli::main()
}
