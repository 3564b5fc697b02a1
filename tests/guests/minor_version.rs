//! Made for `mediation:plugin@0.1.7`, of which it uses only what 0.1.0 has: an engine of 0.1.0 runs it.

#![allow(unsafe_code, reason = "generated")]

#[allow(missing_docs, reason = "generated")]
mod bindings {
    wit_bindgen::generate!({ path: concat!(env!("OUT_DIR"), "/0.1.7"), world: "event-mapper-plugin" });
}
mediation_guests::passing!(bindings);
