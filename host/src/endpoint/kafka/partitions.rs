//! How many partitions topics have, told to the subscriptions that read them: looked at now and then for all that read
//! the same topics at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Kafka;

/// What one subscription reads, in its order.
pub(super) type Topics = Arc<[Arc<str>]>;

/// Topics that subscriptions read, and who is to be told of their partitions.
#[derive(Default)]
pub(super) struct Followed(Mutex<HashMap<Topics, watch::Sender<Vec<i32>>>>);

impl Followed {
    /// The partitions of each topic, as they were seen last; empty before that.
    pub(super) fn follow(&self, topics: &Topics) -> watch::Receiver<Vec<i32>> {
        self.all().entry(Arc::clone(topics)).or_default().subscribe()
    }

    /// What is still read by anybody; the rest is forgotten.
    fn read(&self) -> Vec<Topics> {
        let mut all = self.all();
        all.retain(|_, told| told.receiver_count() > 0);
        all.keys().cloned().collect()
    }

    fn tell(&self, topics: &Topics, counts: Vec<i32>) {
        if let Some(told) = self.all().get(topics) {
            told.send_if_modified(|known| {
                let new = *known != counts;
                *known = counts;
                new
            });
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Topics, watch::Sender<Vec<i32>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks every so often, until the endpoint is gone.
pub(super) async fn watch(kafka: Weak<Kafka>, every: Duration, limit: Duration) {
    loop {
        sleep(every).await;
        let Some(kafka) = kafka.upgrade() else { return };
        for topics in kafka.followed.read() {
            let (lookup, asked) = (Arc::clone(&kafka.lookup), Arc::clone(&topics));
            let look = move || asked.iter().map(|topic| lookup.partitions(topic, limit)).collect::<Result<Vec<_>, _>>();
            match kafka.control.run(look).await {
                Ok(Ok(counts)) => kafka.followed.tell(&topics, counts),
                // Who reads such a topic finds out by itself.
                Ok(Err(error)) => tracing::debug!(target: "kafka", %error, "partitions are looked at later"),
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(names: &[&str]) -> Topics {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn each_subscription_hears_of_its_own_topics_and_what_nobody_reads_is_forgotten() {
        let followed = Followed::default();
        let (mut own, mut other) = (followed.follow(&topics(&["a", "b"])), followed.follow(&topics(&["c"])));
        followed.tell(&topics(&["c"]), vec![3]);
        assert!(!own.has_changed().unwrap() && other.has_changed().unwrap());
        assert_eq!(*other.borrow_and_update(), [3]);
        followed.tell(&topics(&["c"]), vec![3]);
        assert!(!other.has_changed().unwrap(), "no news");
        drop(other);
        assert_eq!(followed.read(), [topics(&["a", "b"])]);
        own.mark_unchanged();
    }
}
