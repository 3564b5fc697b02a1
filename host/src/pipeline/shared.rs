//! A downstream half that several connections look at: an event stream or a poll gives, `POST /ack` answers.
//!
//! Its owner closes it, and from then on it is gone for everybody, whoever still holds the handle.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::downstream::Downstream;

/// See the module's documentation.
pub struct SharedHalf(Mutex<Option<Downstream>>);

impl SharedHalf {
    /// Of a live half.
    #[must_use]
    pub fn new(half: Downstream) -> Self {
        Self(Mutex::new(Some(half)))
    }

    /// Does something with the half; None once it is closed. Never held across an await.
    pub fn with<R>(&self, act: impl FnOnce(&mut Downstream) -> R) -> Option<R> {
        self.lock().as_mut().map(act)
    }

    /// Drops the half.
    pub fn close(&self) {
        let half = self.lock().take();
        drop(half);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Downstream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
