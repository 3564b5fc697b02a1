//! The chain of a route: which plugins an event passes, in which order, and what a failure of each means.

use std::sync::Arc;

use super::Plugin;
use crate::config::OnError;

/// What stands between a route's two ends; replaced as a whole when plugins come and go.
#[derive(Default)]
pub struct Chain {
    /// Asked at connect, and about each upstream event.
    pub resolvers: Vec<Arc<Plugin>>,
    /// Passed by each event, in this order.
    pub steps: Vec<Step>,
}

/// One plugin in a chain.
pub struct Step {
    /// Which.
    pub plugin: Arc<Plugin>,
    /// What becomes of an event that it fails.
    pub on_error: OnError,
}

impl Chain {
    /// Events pass as they are.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.resolvers.is_empty() && self.steps.is_empty()
    }
}
