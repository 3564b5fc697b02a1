//! The Wasm engine that all plugins share: its settings, and the tick that ends guests that take too long.
//!
//! Made once by [`Plugins`](super::Plugins). The ticker sleeps while no generation exists.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine, EngineWeak};

/// How often guests may be interrupted.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// See the module's documentation.
pub(super) struct Sandbox {
    engine: Engine,
    ticker: Arc<Ticker>,
}

/// Held by whoever runs guests: the clock ticks while one exists.
pub(super) struct Ticking(Arc<Ticker>);

#[derive(Default)]
struct Ticker {
    users: Mutex<Users>,
    came: Condvar,
}

#[derive(Default)]
struct Users {
    count: usize,
    closed: bool,
}

impl Sandbox {
    /// # Errors
    /// This machine cannot run Wasm, or not make a thread.
    pub(super) fn new() -> Result<Self, String> {
        let mut config = Config::new();
        config.epoch_interruption(true).concurrency_support(false).wasm_component_model(true);
        let engine = Engine::new(&config).map_err(|error| format!("no Wasm engine: {error:#}"))?;
        let ticker = Arc::<Ticker>::default();
        let (ticks, weak) = (ticker.clone(), engine.weak());
        let named = thread::Builder::new().name("plugin-tick".into());
        named.spawn(move || ticks.run(&weak)).map_err(|error| format!("no thread for plugins: {error}"))?;
        Ok(Self { engine, ticker })
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Ticks from now on until it is dropped.
    pub(super) fn ticking(&self) -> Ticking {
        self.ticker.users().count += 1;
        self.ticker.came.notify_all();
        Ticking(self.ticker.clone())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.ticker.users().closed = true;
        self.ticker.came.notify_all();
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.0.users().count -= 1;
    }
}

impl Ticker {
    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on after the sandbox is gone while guests still run: they must end.
    fn run(&self, engine: &EngineWeak) {
        loop {
            let idle = |users: &mut Users| users.count == 0 && !users.closed;
            let users = self.came.wait_while(self.users(), idle).unwrap_or_else(PoisonError::into_inner);
            if users.count == 0 {
                return;
            }
            drop(users);
            thread::sleep(TICK);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    }
}
