//! WASI for components that cannot do without it (`wasi: stub`): answers by type that reach nothing. Zeros, empty lists,
//! none; the clocks are right, random numbers are random, what is written to a stream goes to the plugin's log.
//! Never a file, a socket, an argument or a variable of the host.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::component::types::{ComponentItem, Type};
use wasmtime::component::{Component, Linker, Resource, ResourceType, Val};
use wasmtime::{Error, Result, StoreContextMut};

use super::lend::State;
use super::voice::{LINE, Voice, cut};

/// What every WASI resource is: nothing.
enum Nothing {}

/// Bytes of a list of random numbers.
const RANDOM: u64 = 64 << 10;

/// Answers everything of `wasi:*` that the component imports.
pub(super) fn offer(linker: &mut Linker<State>, component: &Component) -> Result<()> {
    let engine = linker.engine().clone();
    let ty = component.component_type();
    for (interface, item) in ty.imports(&engine).filter(|(name, _)| name.starts_with("wasi:")) {
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            return Err(Error::msg(format!("{interface} is not an interface")));
        };
        let mut to = linker.instance(interface)?;
        for (name, item) in instance.exports(&engine) {
            match item.ty {
                ComponentItem::Resource(_) => to.resource(name, ResourceType::host::<Nothing>(), |_, _| Ok(()))?,
                ComponentItem::ComponentFunc(_) => {
                    let (interface, function) = (interface.to_owned(), name.to_owned());
                    to.func_new(name, move |mut cx, ty, params, results| {
                        for (result, ty) in results.iter_mut().zip(ty.results()) {
                            *result = answer(&mut cx, &interface, &function, params, &ty)?;
                        }
                        Ok(())
                    })?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn answer(
    cx: &mut StoreContextMut<'_, State>,
    interface: &str,
    function: &str,
    params: &[Val],
    ty: &Type,
) -> Result<Val> {
    let since = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = interface.split('@').next().unwrap_or(interface);
    match (name, function, ty) {
        ("wasi:clocks/wall-clock", "now", Type::Record(record)) => {
            let now = since();
            let fields = record.fields().map(|field| {
                let value =
                    if field.name == "seconds" { Val::U64(now.as_secs()) } else { Val::U32(now.subsec_nanos()) };
                (field.name.to_owned(), value)
            });
            return Ok(Val::Record(fields.collect()));
        }
        ("wasi:clocks/monotonic-clock", "now", Type::U64) => {
            return Ok(Val::U64(u64::try_from(monotonic().as_nanos()).unwrap_or(0)));
        }
        ("wasi:random/random" | "wasi:random/insecure", _, Type::U64) => return Ok(Val::U64(rand::random())),
        ("wasi:random/random" | "wasi:random/insecure", _, Type::List(_)) => {
            let Some(Val::U64(count)) = params.first() else { return Ok(Val::List(Vec::new())) };
            if *count > RANDOM {
                return Err(Error::msg(format!("{count} random bytes at once; {RANDOM} are the most")));
            }
            return Ok(Val::List((0..*count).map(|_| Val::U8(rand::random())).collect()));
        }
        ("wasi:random/insecure-seed", _, Type::Tuple(_)) => {
            return Ok(Val::Tuple(vec![Val::U64(rand::random()), Val::U64(rand::random())]));
        }
        ("wasi:io/streams", "[method]output-stream.check-write", Type::Result(_)) => {
            return Ok(Val::Result(Ok(Some(Box::new(Val::U64(LINE as u64))))));
        }
        ("wasi:io/streams", _, _) if function.contains("output-stream") && function.contains("write") => {
            write(cx, params);
        }
        ("wasi:cli/exit", _, _) => return Err(Error::msg("it ended itself with wasi:cli/exit")),
        _ => {}
    }
    zero(cx, ty)
}

/// To the log, where there is room for it.
fn write(cx: &StoreContextMut<'_, State>, params: &[Val]) {
    let Some(Val::List(list)) = params.get(1) else { return };
    let bytes: Vec<u8> =
        list.iter().take(LINE).filter_map(|v| if let Val::U8(b) = v { Some(*b) } else { None }).collect();
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end();
    let voice = &cx.data().voice;
    if !text.is_empty() && Voice::hears(tracing::Level::INFO) && voice.may_speak() {
        voice.say(tracing::Level::INFO, cut(text, LINE));
    }
}

fn monotonic() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The least value of a type.
fn zero(cx: &mut StoreContextMut<'_, State>, ty: &Type) -> Result<Val> {
    let first = |name: Option<&str>| name.map(str::to_owned).ok_or_else(|| Error::msg("a type without cases"));
    Ok(match ty {
        Type::Bool => Val::Bool(false),
        Type::S8 => Val::S8(0),
        Type::U8 => Val::U8(0),
        Type::S16 => Val::S16(0),
        Type::U16 => Val::U16(0),
        Type::S32 => Val::S32(0),
        Type::U32 => Val::U32(0),
        Type::S64 => Val::S64(0),
        Type::U64 => Val::U64(0),
        Type::Float32 => Val::Float32(0.0),
        Type::Float64 => Val::Float64(0.0),
        Type::Char => Val::Char('\0'),
        Type::String => Val::String(String::new()),
        Type::List(_) => Val::List(Vec::new()),
        Type::Option(_) => Val::Option(None),
        Type::Enum(of) => Val::Enum(first(of.names().next())?),
        Type::Flags(_) => Val::Flags(Vec::new()),
        Type::Record(of) => {
            let fields = of.fields().map(|field| Ok((field.name.to_owned(), zero(cx, &field.ty)?)));
            Val::Record(fields.collect::<Result<_>>()?)
        }
        Type::Tuple(of) => Val::Tuple(of.types().map(|ty| zero(cx, &ty)).collect::<Result<_>>()?),
        Type::Variant(of) => {
            let case = of.cases().next().ok_or_else(|| Error::msg("a variant without cases"))?;
            let inner = case.ty.as_ref().map(|ty| zero(cx, ty)).transpose()?;
            Val::Variant(case.name.to_owned(), inner.map(Box::new))
        }
        Type::Result(of) => Val::Result(Ok(of.ok().map(|ty| zero(cx, &ty)).transpose()?.map(Box::new))),
        Type::Own(_) => Val::Resource(Resource::<Nothing>::new_own(0).try_into_resource_any(cx)?),
        other => return Err(Error::msg(format!("WASI asks for a type that stubs do not have: {other:?}"))),
    })
}
