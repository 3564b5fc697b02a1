//! The one thread that gives plugins their generations: it looks at the folder, reads sidecars, has files loaded and says
//! when chains are to be built anew. Started by [`Plugins`](super::Plugins), told what to do by [`Command`]s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::folder::{File, Folder, STEADY, Stamp};
use super::load::{self, Loaded, Request};
use super::named::Plugin;
use super::registry::{Attachment, Registry};
use super::sandbox::Sandbox;
use super::settings::Settings;
use crate::config;

/// Changes are looked at when it has been quiet for so long,
const QUIET: Duration = Duration::from_millis(200);
/// and without any at all so often: some mounts send no events.
const SCAN: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// A component that compiles for longer is broken.
const COMPILE: Duration = Duration::from_secs(60);
/// So long a start waits for what lies in the folder.
pub(super) const START: Duration = Duration::from_secs(10);

/// How a wish for a generation ended: its number, or why not; the flag says whether the plugin is known.
pub(super) type Answer = oneshot::Sender<Result<u32, (bool, String)>>;

/// What the manager is told.
pub(super) enum Command {
    /// Something in the folder may have changed.
    Look,
    /// A plugin serves by another generation.
    Changed,
    /// New settings from the configuration.
    Configure(Vec<config::Plugin>, SyncSender<()>),
    /// A new generation of it, whatever has changed.
    Reload(String, Answer),
    /// The generation before serves again.
    Rollback(String, Answer),
    /// A file was loaded, or not.
    Loaded(String, u64, Loaded),
    /// The engine ends.
    Stop,
}

/// See the module's documentation.
pub(super) struct Manager {
    folder: Folder,
    settings: Settings,
    registry: Arc<Registry>,
    sandbox: Arc<Sandbox>,
    entries: BTreeMap<String, Entry>,
    commands: Receiver<Command>,
    myself: Sender<Command>,
    tickets: u64,
    scan_at: Instant,
    tick_at: Instant,
    /// Told once, when what lay in the folder at the start is loaded.
    ready: Option<(SyncSender<()>, Instant)>,
    changed: Arc<dyn Fn() + Send + Sync>,
    /// Retired when no chain has them any more.
    leaving: Vec<Arc<Plugin>>,
    /// What chains depend on, as it was told last.
    told: Vec<Attachment>,
}

/// What the manager knows of one plugin.
#[derive(Default)]
struct Entry {
    /// What was loaded last, or tried to.
    tried: Option<(Stamp, config::Plugin)>,
    loading: Option<Loading>,
    /// To be loaded anew, and who waits for it.
    wishes: Vec<Answer>,
}

struct Loading {
    ticket: u64,
    begun: Instant,
    compiling: Arc<AtomicBool>,
    waiting: Vec<Answer>,
    /// It compiled for too long and was given up.
    given_up: bool,
    settings: config::Plugin,
}

/// What a manager begins with.
pub(super) struct Begin {
    pub(super) folder: Folder,
    pub(super) settings: Vec<config::Plugin>,
    pub(super) registry: Arc<Registry>,
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) commands: Receiver<Command>,
    pub(super) myself: Sender<Command>,
    pub(super) ready: SyncSender<()>,
    pub(super) changed: Arc<dyn Fn() + Send + Sync>,
}

impl Manager {
    pub(super) fn new(begin: Begin) -> Self {
        let Begin { folder, settings, registry, sandbox, commands, myself, ready, changed } = begin;
        let now = Instant::now();
        Self {
            folder,
            settings: Settings::new(settings),
            registry,
            sandbox,
            leaving: Vec::new(),
            entries: BTreeMap::new(),
            commands,
            myself,
            tickets: 0,
            scan_at: now,
            tick_at: now + TICK,
            ready: Some((ready, now + START)),
            changed,
            told: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let now = Instant::now();
            if now >= self.scan_at {
                self.scan(now);
            }
            if now >= self.tick_at {
                self.tick(now);
            }
            self.tell(now);
            let wait = self.scan_at.min(self.tick_at).saturating_duration_since(Instant::now());
            match self.commands.recv_timeout(wait) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(command) => self.obey(command),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Look => self.scan_at = self.scan_at.min(now + QUIET),
            // `run` tells who builds chains after each command, and stops.
            Command::Changed | Command::Stop => {}
            Command::Configure(settings, done) => {
                self.settings.configure(settings);
                // Told once all that the folder has is loaded, or late: who waited before waits no longer.
                if let Some((earlier, _)) = self.ready.replace((done, now + START)) {
                    earlier.send(()).ok();
                }
                self.scan(now);
            }
            Command::Reload(name, answer) => self.reload(&name, answer, now),
            Command::Rollback(name, answer) => {
                let result = match self.registry.find(&name) {
                    None => Err((false, unknown(&name))),
                    Some(plugin) => plugin.roll_back("by hand").map_err(|why| (true, why)),
                };
                // Who asked may be gone.
                answer.send(result).ok();
            }
            Command::Loaded(name, ticket, result) => self.loaded(&name, ticket, result),
        }
    }

    /// One look at everything.
    fn scan(&mut self, now: Instant) {
        self.scan_at = now + SCAN;
        let look = self.myself.clone();
        // A manager that is gone needs no looks.
        self.folder.watch(move || drop(look.send(Command::Look)));
        let (components, sidecars) = self.folder.names();
        let mut moving = self.settings.read(&mut self.folder, &sidecars, now);
        let mut names: BTreeSet<String> = self.registry.names();
        names.extend(self.settings.names());
        names.extend(components.into_iter().filter(|stem| !self.settings.is_another_ones(stem)));
        for name in names {
            moving |= self.consider(&name, now, false);
        }
        if moving {
            self.scan_at = self.scan_at.min(now + STEADY / 2);
        }
    }

    /// Whether a plugin's file or settings call for a generation. True while the file may still be written.
    fn consider(&mut self, name: &str, now: Instant, force: bool) -> bool {
        let (settings, source) = match self.settings.of(name) {
            Ok(wanted) => wanted,
            Err(why) => {
                let plugin = self.registry.plugin(name);
                plugin.status().broken = Some(why);
                return false;
            }
        };
        let file = settings.file.clone().unwrap_or_else(|| format!("{name}.wasm"));
        let stamp = match self.folder.look(&file, now) {
            // Who asks for it by name has put it there whole.
            File::Moving(stamp) if force => stamp,
            File::Moving(_) => return true,
            File::Missing => {
                self.missing(name, &file);
                return false;
            }
            File::Steady(stamp) => stamp,
        };
        let plugin = self.registry.plugin(name);
        {
            let mut status = plugin.status();
            (status.file, status.source, status.missing) = (file.clone(), source, false);
            status.attach.clone_from(&settings.attach);
        }
        plugin.set_on_error(settings.on_error);
        let entry = self.entries.entry(name.to_owned()).or_default();
        let new = entry.tried.as_ref().is_none_or(|(before, with)| *before != stamp || !load::same(with, &settings));
        if (!new && !force) || entry.loading.is_some() {
            return false;
        }
        entry.tried = Some((stamp, settings.clone()));
        self.tickets += 1;
        let compiling = Arc::<AtomicBool>::default();
        entry.loading = Some(Loading {
            ticket: self.tickets,
            begun: now,
            compiling: compiling.clone(),
            waiting: std::mem::take(&mut entry.wishes),
            given_up: false,
            settings: settings.clone(),
        });
        let path = self.folder.dir().join(&file);
        let request = Request { plugin, settings, path, sandbox: self.sandbox.clone(), force, compiling };
        let (back, owned, ticket) = (self.myself.clone(), name.to_owned(), self.tickets);
        let load = move || {
            let result = load::load(request);
            // A manager that is gone needs no generation.
            back.send(Command::Loaded(owned, ticket, result)).ok();
        };
        if let Err(error) = thread::Builder::new().name("plugin-load".into()).spawn(load) {
            self.loaded(name, ticket, Err(format!("no thread to load it: {error}")));
        }
        false
    }

    fn missing(&mut self, name: &str, file: &str) {
        let configured = self.settings.has(name);
        let known = self.registry.find(name).or_else(|| configured.then(|| self.registry.plugin(name)));
        let Some(plugin) = known else { return };
        if self.entries.get(name).is_some_and(|entry| entry.loading.is_some()) {
            return;
        }
        if let Some(entry) = self.entries.remove(name) {
            entry.wishes.into_iter().for_each(|answer| drop(answer.send(Err((true, format!("there is no {file}"))))));
        }
        if self.registry.is_named(name) || configured {
            let first = !std::mem::replace(&mut plugin.status().missing, true);
            plugin.status().broken = None;
            if first {
                let serving = plugin.serving().map_or(0, |serving| serving.now.number);
                tracing::error!(plugin = name, file, serving, "a plugin's file is missing in the plugins folder");
            }
            return;
        }
        self.registry.remove(name);
        self.leaving.push(plugin);
    }

    fn reload(&mut self, name: &str, answer: Answer, now: Instant) {
        if self.registry.find(name).is_none() && !self.settings.has(name) {
            // Who asked may be gone, here and below.
            answer.send(Err((false, unknown(name)))).ok();
            return;
        }
        if let Err(why) = self.settings.of(name) {
            answer.send(Err((true, why))).ok();
            return;
        }
        let entry = self.entries.entry(name.to_owned()).or_default();
        if entry.loading.as_ref().is_some_and(|loading| loading.given_up) {
            answer.send(Err((true, "a compilation that takes too long still runs".to_owned()))).ok();
            return;
        }
        entry.wishes.push(answer);
        self.consider(name, now, true);
    }

    fn loaded(&mut self, name: &str, ticket: u64, result: Loaded) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let Some(loading) = entry.loading.take_if(|loading| loading.ticket == ticket) else { return };
        let Some(plugin) = self.registry.find(name) else { return };
        let result = if loading.given_up { Err(too_long()) } else { result };
        let answer = match result {
            Ok(Some(new)) => {
                let number = new.number;
                plugin.publish(new);
                Ok(number)
            }
            Ok(None) => {
                let mut status = plugin.status();
                status.broken = None;
                drop(status);
                Ok(plugin.serving().map_or(0, |serving| serving.now.number))
            }
            Err(why) => {
                broken(&plugin, &why);
                Err((true, why))
            }
        };
        for waiting in loading.waiting {
            // Who asked may be gone.
            waiting.send(answer.clone()).ok();
        }
        // What was asked for, or changed, meanwhile.
        let again = !entry.wishes.is_empty();
        let changed = entry.tried.as_ref().is_some_and(|(_, with)| !load::same(with, &loading.settings));
        if again || changed {
            self.consider(name, Instant::now(), again);
        } else {
            self.scan_at = self.scan_at.min(Instant::now() + QUIET);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.tick_at = now + TICK;
        for plugin in self.registry.all() {
            plugin.tick(now);
        }
        for (name, entry) in &mut self.entries {
            let Some(loading) = entry.loading.as_mut().filter(|loading| !loading.given_up) else { continue };
            if loading.compiling.load(Ordering::Acquire) && now.duration_since(loading.begun) > COMPILE {
                loading.given_up = true;
                if let Some(plugin) = self.registry.find(name) {
                    broken(&plugin, &too_long());
                }
                for waiting in loading.waiting.drain(..) {
                    waiting.send(Err((true, too_long()))).ok();
                }
            }
        }
    }

    /// Says what changed to who builds chains, and that the start is over.
    fn tell(&mut self, now: Instant) {
        let attached = self.registry.attach();
        if let Some((ready, until)) = &self.ready {
            let busy = self.entries.values().any(|entry| entry.loading.is_some());
            let moving = self.scan_at < now + STEADY;
            if (busy || moving) && now < *until {
                return;
            }
            // Who started us may have given up.
            ready.send(()).ok();
            self.ready = None;
            self.told = attached;
            return;
        }
        if attached != self.told {
            self.told = attached;
            (self.changed)();
        }
        self.leaving.drain(..).for_each(|plugin| plugin.retire());
    }
}

fn broken(plugin: &Plugin, why: &str) {
    let serving = plugin.serving().map_or(0, |serving| serving.now.number);
    tracing::error!(plugin = &**plugin.name(), serving, why, "a plugin's file cannot serve; what serves stays");
    plugin.voice.metrics.load_failures.inc();
    plugin.status().broken = Some(why.to_owned());
}

fn too_long() -> String {
    format!("it compiles for more than {} s; make it smaller", COMPILE.as_secs())
}

fn unknown(name: &str) -> String {
    format!("there is no plugin {name:?}")
}
