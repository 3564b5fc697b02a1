//! Fuzzed components: whatever bytes lie in the plugins folder, the loader answers, in time, with a generation or
//! words; and what it loads harms nothing but its own call.
//!
//! `PROPTEST_CASES` is divided by [`SHARE`]: a mutant that is still valid is compiled.

use std::sync::atomic::AtomicBool;
use std::sync::mpsc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::plugin::clock::OWN;
use crate::plugin::guest::Guest;
use crate::plugin::load::{self, Request};
use crate::plugin::sandbox::Sandbox;

/// Of the cases that others run.
const SHARE: u32 = 4;
/// Far more than `init`, a made-up event through each stage and a compilation take on a busy machine.
const TIME: Duration = Duration::from_secs(60);

/// Small ones first: they are tried most.
const GUESTS: [&str; 6] = ["alias-bomb", "describe-empty", "wrong-version", "mapper-pass", "full", "wasi-import"];

#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Put(Index, Vec<u8>),
    Remove(Index, usize),
    Truncate(Index),
    /// Some bytes once more, elsewhere.
    Copy(Index, usize, Index),
    /// Bytes of another guest.
    Splice(usize, Index, usize, Index),
    /// A whole section once more, right behind itself or at the end.
    DoubleSection(Index, bool),
    DropSection(Index),
}

fn edits() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let size = || prop_oneof![3 => 1..16_usize, 1 => 1..4096_usize];
    prop_oneof![
        8 => (at(), 1..=255_u8).prop_map(|(at, mask)| Edit::Flip(at, mask)),
        3 => (at(), vec(any::<u8>(), 1..6)).prop_map(|(at, bytes)| Edit::Put(at, bytes)),
        1 => (at(), size()).prop_map(|(at, size)| Edit::Remove(at, size)),
        1 => at().prop_map(Edit::Truncate),
        1 => (at(), size(), at()).prop_map(|(from, size, to)| Edit::Copy(from, size, to)),
        1 => (0..GUESTS.len(), at(), size(), at()).prop_map(|(of, from, size, to)| Edit::Splice(of, from, size, to)),
        2 => (at(), any::<bool>()).prop_map(|(at, end)| Edit::DoubleSection(at, end)),
        1 => at().prop_map(Edit::DropSection),
    ]
}

/// Where the outermost sections are; as far as they can be read.
fn sections(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 8);
    while at < bytes.len() {
        let (mut size, mut shift, mut next) = (0_usize, 0, at + 1);
        while let Some(byte) = bytes.get(next) {
            (size, shift, next) = (size | usize::from(byte & 0x7f) << shift, shift + 7, next + 1);
            if byte & 0x80 == 0 || shift > 28 {
                break;
            }
        }
        let end = (next + size).min(bytes.len());
        found.push(at..end);
        at = end;
    }
    found
}

fn edit(bytes: &mut Vec<u8>, edit: Edit, guests: &[Vec<u8>]) {
    if bytes.is_empty() {
        return;
    }
    let end = |from: usize, size: usize, of: &[u8]| (from + size).min(of.len());
    let length = bytes.len();
    let insert = |bytes: &mut Vec<u8>, at: usize, new: Vec<u8>| drop(bytes.splice(at..at, new));
    match edit {
        Edit::Flip(at, mask) => bytes[at.index(length)] ^= mask,
        Edit::Put(at, new) => {
            let at = at.index(length);
            let to = end(at, new.len(), bytes);
            bytes[at..to].copy_from_slice(&new[..to - at]);
        }
        Edit::Remove(at, size) => {
            let at = at.index(length);
            bytes.drain(at..end(at, size, bytes));
        }
        Edit::Truncate(at) => bytes.truncate(at.index(length)),
        Edit::Copy(from, size, to) => {
            let from = from.index(length);
            let new = bytes[from..end(from, size, bytes)].to_vec();
            insert(bytes, to.index(length), new);
        }
        Edit::Splice(of, from, size, to) => {
            let from = from.index(guests[of].len());
            let new = guests[of][from..end(from, size, &guests[of])].to_vec();
            insert(bytes, to.index(length), new);
        }
        Edit::DoubleSection(at, at_end) => {
            let all = sections(bytes);
            if !all.is_empty() {
                let section = all[at.index(all.len())].clone();
                let new = bytes[section.clone()].to_vec();
                insert(bytes, if at_end { length } else { section.end }, new);
            }
        }
        Edit::DropSection(at) => {
            let all = sections(bytes);
            if !all.is_empty() {
                bytes.drain(all[at.index(all.len())].clone());
            }
        }
    }
}

/// One for all cases, as the engine has.
struct Loader {
    dir: PathBuf,
    sandbox: Arc<Sandbox>,
    metrics: Arc<Metrics>,
    guests: Vec<Vec<u8>>,
}

impl Loader {
    fn new() -> Self {
        let guests = GUESTS.iter().map(|name| fs::read(guest(name)).unwrap()).collect();
        Self { dir: folder(), sandbox: Arc::new(Sandbox::new().unwrap()), metrics: Metrics::new(), guests }
    }

    /// Loads the bytes and, where they load, passes an event. True: they did.
    fn try_out(&self, bytes: &[u8], wasi_stub: bool) -> Result<bool, TestCaseError> {
        let begun = Instant::now();
        let path = self.dir.join("p.wasm");
        fs::write(&path, bytes).unwrap();
        let (manager, _commands) = mpsc::channel();
        let plugin = Arc::new(Plugin::new("p".into(), self.metrics.plugin("p"), manager));
        let settings = config::Plugin { wasi_stub, ..settings("p", json!({})) };
        let (sandbox, compiling) = (self.sandbox.clone(), Arc::<AtomicBool>::default());
        let loaded = load::load(Request { plugin, settings, path, sandbox, force: false, compiling });
        let loads = match loaded {
            Ok(Some(generation)) => {
                let (event, facts) = (Arc::new(samples::event(b"{\"a\":1}")), samples::facts());
                // It may fail: only its own call.
                for _ in 0..2 {
                    if let Err((_, why)) = generation.own(&event, &facts, Guest::step, OWN) {
                        prop_assert!(!why.is_empty());
                    }
                    if let Err((_, why)) = generation.own(&event, &facts, Guest::resolve, OWN) {
                        prop_assert!(!why.is_empty());
                    }
                }
                prop_assert_eq!(event.payload.clone().unwrap_or_default().to_bytes(), &b"{\"a\":1}"[..]);
                true
            }
            Ok(None) => return Err(TestCaseError::fail("nothing served before: it cannot be the same")),
            Err(why) => {
                prop_assert!(!why.is_empty() && why.len() < 16 << 10, "{} bytes of words", why.len());
                false
            }
        };
        prop_assert!(begun.elapsed() < TIME, "it took {:?}", begun.elapsed());
        Ok(loads)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn runner() -> proptest::test_runner::TestRunner {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let cases = (config.cases / SHARE).max(1);
    proptest::test_runner::TestRunner::new(ProptestConfig { cases, ..config })
}

#[test]
fn a_mutated_component_loads_or_is_refused_in_words() {
    let loader = Loader::new();
    let which = prop_oneof![6 => 0..3_usize, 1 => 3..GUESTS.len()];
    let cases = (which, vec(edits(), 1..4), any::<bool>());
    let loads = AtomicUsize::new(0);
    let played = runner().run(&cases, |(which, edits, wasi_stub)| {
        let mut bytes = loader.guests[which].clone();
        edits.into_iter().for_each(|one| edit(&mut bytes, one, &loader.guests));
        loads.fetch_add(usize::from(loader.try_out(&bytes, wasi_stub)?), Ordering::Relaxed);
        Ok(())
    });
    played.unwrap_or_else(|failure| panic!("{failure}"));
    // Else nothing was tried but the first checks.
    assert!(loads.load(Ordering::Relaxed) > 0, "no mutant loaded");
    let whole = loader.guests.first().map(|bytes| loader.try_out(bytes, false).unwrap());
    assert_eq!(whole, Some(true), "and the whole guest loads after all that");
}

#[test]
fn random_bytes_are_refused_in_words() {
    let loader = Loader::new();
    let magic = prop_oneof![
        Just(&b""[..]),
        Just(&b"\0asm\x0d\0\x01\0"[..]),
        Just(&b"\0asm\x01\0\0\0"[..]),
        Just(&b"\0asm"[..]),
        Just(&b" (component "[..]),
    ];
    // Behind the header sections of random kinds, with their true sizes.
    let section = (0..14_u8, vec(any::<u8>(), 0..60)).prop_map(|(kind, body)| {
        let size = u8::try_from(body.len()).unwrap();
        [vec![kind, size], body].concat()
    });
    let body = prop_oneof![vec(any::<u8>(), 0..300), vec(section, 0..5).prop_map(|all| all.concat())];
    let played = runner().run(&(magic, body), |(magic, body)| {
        let loads = loader.try_out(&[magic, &body].concat(), false)?;
        prop_assert!(!loads, "it has no lifecycle");
        Ok(())
    });
    played.unwrap_or_else(|failure| panic!("{failure}"));
}
