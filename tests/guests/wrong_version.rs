//! Made for `mediation:plugin@0.9.0`, which the engine does not speak.

#![allow(unsafe_code, reason = "generated")]

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: concat!(env!("OUT_DIR"), "/0.9.0"), world: "event-mapper-plugin" });
}
mediation_guests::passing!(bindings);
