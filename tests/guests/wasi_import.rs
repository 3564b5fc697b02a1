//! Imports some of WASI 0.2 and calls it in `init` and for each event: `x-env` and `x-args` are how many variables and
//! arguments it saw, `x-clock` the seconds of the clock, `x-random` a random number.

use mediation_plugin::{Event, Mapper, Mapping, Output, Plugin};

#[allow(missing_docs, unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package mediation:guests;
            world guest {
                import wasi:cli/environment@0.2.0;
                import wasi:clocks/wall-clock@0.2.0;
                import wasi:random/random@0.2.0;
            }
            package wasi:cli@0.2.0 {
                interface environment {
                    get-environment: func() -> list<tuple<string, string>>;
                    get-arguments: func() -> list<string>;
                }
            }
            package wasi:clocks@0.2.0 {
                interface wall-clock {
                    record datetime { seconds: u64, nanoseconds: u32 }
                    now: func() -> datetime;
                }
            }
            package wasi:random@0.2.0 {
                interface random { get-random-u64: func() -> u64; }
            }
        ",
        world: "mediation:guests/guest",
        generate_all,
    });
}

#[derive(serde::Deserialize)]
struct WasiImport {}

fn seen() -> Output {
    use bindings::wasi::{cli::environment, clocks::wall_clock, random::random};
    Output::same()
        .set("x-env", environment::get_environment().len().to_string())
        .set("x-args", environment::get_arguments().len().to_string())
        .set("x-clock", wall_clock::now().seconds.to_string())
        .set("x-random", random::get_random_u64().to_string())
}

impl Plugin for WasiImport {
    type Config = Self;
    fn new(config: Self) -> Result<Self, String> {
        mediation_plugin::info!("{} pairs", seen().set.len());
        Ok(config)
    }
}

impl Mapper for WasiImport {
    fn transform(&self, _event: &Event) -> Mapping {
        seen().into()
    }
}

mediation_plugin::export!(mapper: WasiImport);
