//! A broker that the configuration knows and this engine does not: everything is answered `not_built_in`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Address, Confirm, Endpoint, PublishError, Subscribe, SubscribeError, Subscription};
use crate::event::Event;

/// See the module's documentation.
pub struct NotBuiltIn {
    words: String,
}

impl NotBuiltIn {
    /// Of an endpoint of that kind.
    #[must_use]
    pub fn new(name: &str, kind: &str) -> Arc<Self> {
        Arc::new(Self { words: format!("endpoint {name:?} is of kind {kind:?}, which is not built into this engine") })
    }
}

impl Endpoint for NotBuiltIn {
    fn publish(&self, _: Option<Address>, _: Arc<Event>, _: Duration) -> BoxFuture<'_, Result<Confirm, PublishError>> {
        std::future::ready(Err(PublishError::NotBuiltIn(self.words.clone()))).boxed()
    }

    fn subscribe(&self, _: Subscribe) -> BoxFuture<'_, Result<Box<dyn Subscription>, SubscribeError>> {
        std::future::ready(Err(SubscribeError::NotBuiltIn(self.words.clone()))).boxed()
    }

    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        std::future::ready(Ok(())).boxed()
    }

    fn close(&self, _: Duration) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
