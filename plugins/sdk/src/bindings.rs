//! What `wit-bindgen` makes of wit/plugin.wit. Used by the rest of this crate and by [`export!`](crate::export).
//!
//! One world for each exported interface, not the package's own worlds: the macros that export an interface must exist
//! once in a crate. The linker joins the worlds that a plugin exports to one component.

#![allow(missing_docs, unsafe_code, unreachable_pub, reason = "generated")]
#![allow(clippy::all, clippy::allow_attributes_without_reason, clippy::unwrap_used, reason = "generated")]

pub mod base {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package mediation:sdk;
            world base {
                import mediation:plugin/types@0.1.0;
                import mediation:plugin/host@0.1.0;
                export mediation:plugin/lifecycle@0.1.0;
            }
        ",
        world: "mediation:sdk/base",
        generate_all,
        generate_unused_types: true,
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
    });
}

pub mod resolver {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package mediation:sdk; world resolver { export mediation:plugin/route-resolver@0.1.0; }",
        world: "mediation:sdk/resolver",
        with: { "mediation:plugin/types@0.1.0": crate::bindings::base::mediation::plugin::types },
        generate_all,
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
    });
}

pub mod mapper {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package mediation:sdk; world mapper { export mediation:plugin/event-mapper@0.1.0; }",
        world: "mediation:sdk/mapper",
        with: { "mediation:plugin/types@0.1.0": crate::bindings::base::mediation::plugin::types },
        generate_all,
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
    });
}

pub mod enricher {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "package mediation:sdk; world enricher { export mediation:plugin/metadata-enricher@0.1.0; }",
        world: "mediation:sdk/enricher",
        with: { "mediation:plugin/types@0.1.0": crate::bindings::base::mediation::plugin::types },
        generate_all,
        additional_derives: [Clone, PartialEq],
        pub_export_macro: true,
    });
}
