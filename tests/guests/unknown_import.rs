//! Imports an interface that the engine does not have: `acme:vault/secrets@1.0.0`.

use mediation_plugin::{Event, Mapper, Mapping, Plugin};

#[allow(missing_docs, unsafe_code, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({
        inline: "
            package acme:vault@1.0.0;
            interface secrets { read: func(name: string) -> string; }
            world guest { import secrets; }
        ",
    });
}

#[derive(serde::Deserialize)]
struct UnknownImport {}

impl Plugin for UnknownImport {
    type Config = Self;
    fn new(config: Self) -> Result<Self, String> {
        mediation_plugin::info!("{}", bindings::acme::vault::secrets::read("key"));
        Ok(config)
    }
}

impl Mapper for UnknownImport {
    fn transform(&self, _event: &Event) -> Mapping {
        Mapping::Pass
    }
}

mediation_plugin::export!(mapper: UnknownImport);
