//! Asking sessions to leave, a few at a time: at the stop, and when a reload changed their routes.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::plugin::chain::Chain;
use crate::routing::{EndpointHandle, Route, Table};
use crate::session::registry::Sessions;
use crate::session::{Leave, Session};

/// How often it is asked who came late to a route that is gone.
const AGAIN: Duration = Duration::from_secs(1);

/// Tells them one after the other, evenly over `spread`.
pub(super) async fn tell(sessions: &[Arc<Session>], why: Leave, spread: Duration) {
    let each = spread / u32::try_from(sessions.len().max(1)).unwrap_or(u32::MAX);
    let begun = Instant::now();
    for (told, session) in (0_u32..).zip(sessions) {
        session.leave(why);
        // In steps that a timer can keep.
        let due = each * told;
        if due > begun.elapsed() + Duration::from_millis(5) {
            tokio::time::sleep(due.saturating_sub(begun.elapsed())).await;
        }
    }
}

/// What a reload took out of the table, watched without being kept: sessions hold it until they are gone.
pub(super) struct Gone {
    /// A route's chain stands for the route and for all that were derived from it.
    routes: Vec<Weak<ArcSwap<Chain>>>,
    endpoints: Vec<Weak<EndpointHandle>>,
}

impl Gone {
    /// What `old` has and `new` has not.
    pub(super) fn between(old: &Table, new: &Table) -> Self {
        let kept: HashSet<*const ArcSwap<Chain>> = new.all().map(|route| Arc::as_ptr(&route.chain)).collect();
        let routes = old.all().filter(|route| !kept.contains(&Arc::as_ptr(&route.chain)));
        let endpoints =
            old.endpoints().filter(|one| !new.endpoint(&one.name).is_some_and(|other| Arc::ptr_eq(one, other)));
        Self {
            routes: routes.map(|route| Arc::downgrade(&route.chain)).collect(),
            endpoints: endpoints.map(Arc::downgrade).collect(),
        }
    }

    fn holds(&self, route: &Route) -> bool {
        self.routes.iter().any(|one| std::ptr::eq(one.as_ptr(), Arc::as_ptr(&route.chain)))
            || self.endpoints.iter().any(|one| std::ptr::eq(one.as_ptr(), Arc::as_ptr(&route.endpoint)))
    }

    fn let_go(&self) -> bool {
        self.routes.iter().all(|one| one.strong_count() == 0)
            && self.endpoints.iter().all(|one| one.strong_count() == 0)
    }

    /// Who has to leave now.
    pub(super) fn sessions(&self, sessions: &Sessions) -> Vec<Arc<Session>> {
        let all = sessions.all().into_iter();
        all.filter(|one| one.leaving().is_none() && one.routes().any(|route| self.holds(route))).collect()
    }

    /// Asks them to leave over `spread`, then who found its route just before it was gone, until `patience` is over.
    pub(super) async fn see_out(self, sessions: Arc<Sessions>, spread: Duration, patience: Duration) {
        tell(&self.sessions(&sessions), Leave::RouteChanged, spread).await;
        let begun = Instant::now();
        while !self.let_go() && begun.elapsed() < patience {
            tokio::time::sleep(AGAIN).await;
            tell(&self.sessions(&sessions), Leave::RouteChanged, Duration::ZERO).await;
        }
    }
}
