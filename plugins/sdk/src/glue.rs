//! What [`export!`](crate::export) expands to: the component's exports, and the one configured plugin of an instance.

pub use crate::bindings::base::exports::mediation::plugin::lifecycle::Description;
pub use crate::event::Lent;
use crate::{Plugin, host};
use std::sync::Once;

/// The component's description. The crate's name is the plugin's, with dashes.
pub fn describe<P: Plugin>(crate_name: &str, version: &str) -> Description {
    Description {
        name: crate_name.replace('_', "-"),
        version: version.into(),
        counters: P::COUNTERS.iter().map(|&name| name.into()).collect(),
    }
}

/// Compiles for mappers only.
pub fn mapper<P: crate::Mapper>() {}

/// Compiles for resolvers only.
pub fn resolver<P: crate::Resolver>() {}

/// Compiles for enrichers only.
pub fn enricher<P: crate::Enricher>() {}

/// A panic ends the instance, and without this nobody would learn where it was.
pub fn log_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|info| host::log(crate::Level::Error, &info.to_string()))));
}

/// Makes a component of a plugin: `export!(mapper: MyType);`, `resolver`, `enricher`, or `full` for all three.
/// Once in a crate. Natively it only checks that the type fits.
#[macro_export]
macro_rules! export {
    (mapper: $plugin:ty) => {
        $crate::__export!($plugin, mapper);
    };
    (resolver: $plugin:ty) => {
        $crate::__export!($plugin, resolver);
    };
    (enricher: $plugin:ty) => {
        $crate::__export!($plugin, enricher);
    };
    (full: $plugin:ty) => {
        $crate::__export!($plugin, mapper, resolver, enricher);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($plugin:ty, $($stage:ident),+) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = { $( let _ = $crate::__stage!(fits $stage, $plugin); )+ };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::base::exports::mediation::plugin::lifecycle;

            struct Component;

            ::std::thread_local! {
                static PLUGIN: ::std::cell::OnceCell<$plugin> = const { ::std::cell::OnceCell::new() };
            }

            fn with<T>(call: impl FnOnce(&$plugin) -> T) -> T {
                // The engine calls `init` first; the trap is for one that does not.
                PLUGIN.with(|plugin| call(plugin.get().unwrap_or_else(|| ::std::process::abort())))
            }

            impl lifecycle::Guest for Component {
                fn describe() -> lifecycle::Description {
                    $crate::glue::describe::<$plugin>(::std::env!("CARGO_CRATE_NAME"), ::std::env!("CARGO_PKG_VERSION"))
                }
                fn init(config: ::std::string::String) -> ::std::result::Result<(), ::std::string::String> {
                    $crate::glue::log_panics();
                    let plugin = $crate::config::parse::<$plugin>(&config)?;
                    PLUGIN.with(|slot| slot.set(plugin)).map_err(|_| "init was called twice".into())
                }
            }

            $crate::bindings::base::export!(Component with_types_in $crate::bindings::base);
            $( $crate::__stage!($stage, $plugin); )+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __stage {
    (fits mapper, $plugin:ty) => { $crate::glue::mapper::<$plugin> };
    (fits resolver, $plugin:ty) => { $crate::glue::resolver::<$plugin> };
    (fits enricher, $plugin:ty) => { $crate::glue::enricher::<$plugin> };
    (mapper, $plugin:ty) => {
        impl $crate::bindings::mapper::exports::mediation::plugin::event_mapper::Guest for Component {
            fn transform(ev: &$crate::glue::Lent) -> $crate::Mapping {
                with(|plugin| <$plugin as $crate::Mapper>::transform(plugin, &$crate::Event::new(ev)))
            }
        }
        $crate::bindings::mapper::export!(Component with_types_in $crate::bindings::mapper);
    };
    (resolver, $plugin:ty) => {
        impl $crate::bindings::resolver::exports::mediation::plugin::route_resolver::Guest for Component {
            fn connect(ev: &$crate::glue::Lent) -> $crate::Decision {
                with(|plugin| <$plugin as $crate::Resolver>::connect(plugin, &$crate::Event::new(ev)))
            }
            fn resolve(ev: &$crate::glue::Lent) -> $crate::Resolution {
                with(|plugin| <$plugin as $crate::Resolver>::resolve(plugin, &$crate::Event::new(ev)))
            }
        }
        $crate::bindings::resolver::export!(Component with_types_in $crate::bindings::resolver);
    };
    (enricher, $plugin:ty) => {
        impl $crate::bindings::enricher::exports::mediation::plugin::metadata_enricher::Guest for Component {
            fn enrich_session(ev: &$crate::glue::Lent) -> $crate::Enrichment {
                with(|plugin| <$plugin as $crate::Enricher>::enrich_session(plugin, &$crate::Event::new(ev)))
            }
            fn enrich(ev: &$crate::glue::Lent) -> $crate::Enrichment {
                with(|plugin| <$plugin as $crate::Enricher>::enrich(plugin, &$crate::Event::new(ev)))
            }
        }
        $crate::bindings::enricher::export!(Component with_types_in $crate::bindings::enricher);
    };
}
