//! Opening a subscription: where each partition is read from is settled before the client sees its answer, and never
//! asked of the broker again.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::Kafka;
use super::admin::GroupOffset;
use super::chores::Chores;
use super::consumer::{Dedicated, Place};
use super::lanes::Lanes;
use super::ledger::Ledger;
use super::lookup::{Edge, Lookup};
use super::partitions::Topics;
use super::settings::refused;
use super::subscription::{Durable, KafkaSubscription};
use crate::config::Start;
use crate::endpoint::position::{ResumeToken, Scope};
use crate::endpoint::{State, Subscribe, SubscribeError, Subscription};

/// All of it.
const LIMIT: Duration = Duration::from_secs(5);

/// Where a partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    At(i64),
    Edge(Edge),
}

/// What is known of a session's past, by index of the topic and partition.
struct Past<'a> {
    resume: Option<&'a ResumeToken>,
    committed: HashMap<(usize, i32), i64>,
}

pub(super) async fn open(kafka: &Kafka, request: Subscribe) -> Result<Box<dyn Subscription>, SubscribeError> {
    let name = kafka.status.name();
    let topics = match &request.address {
        Some(address) => Arc::from([Arc::clone(address)]),
        None if kafka.topics.is_empty() => return Err(SubscribeError::NoSource(name.to_string())),
        None => Arc::clone(&kafka.topics),
    };
    let scope = Scope::new(name, topics.iter().map(|topic| &**topic), 0);
    if request.resume.as_ref().is_some_and(|token| token.scope != scope) {
        return Err(SubscribeError::BadToken(format!(
            "the resume token is not of endpoint {name:?} and the topics read here: leave it out and start afresh"
        )));
    }
    let unavailable = |reason: &str| SubscribeError::Unavailable(format!("endpoint {name:?}: {reason}"));
    if kafka.status.state() == State::Down {
        let reason = kafka.status.error().unwrap_or_default();
        return Err(unavailable(&format!("the broker is down: {reason}")));
    }
    let permit = Arc::clone(&kafka.places).try_acquire_owned().map_err(|_| {
        SubscribeError::Full(format!(
            "endpoint {name:?}: all {} consumers are in use (config.max_dedicated_consumers)",
            kafka.consumers
        ))
    })?;
    let deadline = Instant::now() + LIMIT;
    let opened = match timeout_at(deadline, open_by(kafka, &request, topics, scope, permit, deadline)).await {
        Ok(opened) => opened,
        Err(_) => Err(unavailable(&format!("the broker did not answer within {} s", LIMIT.as_secs()))),
    };
    if matches!(opened, Err(SubscribeError::Unavailable(_))) {
        kafka.status.suspect();
    }
    Ok(Box::new(opened?))
}

async fn open_by(
    kafka: &Kafka,
    request: &Subscribe,
    topics: Topics,
    scope: Scope,
    permit: OwnedSemaphorePermit,
    deadline: Instant,
) -> Result<KafkaSubscription, SubscribeError> {
    let group: Option<Arc<str>> =
        request.durable.as_ref().map(|id| format!("mediation.{}.{id}", kafka.status.name()).into());
    let committed = match &group {
        Some(group) => committed(kafka, &topics, group, deadline).await?,
        None => HashMap::new(),
    };
    // What the endpoint sees from here on is compared with the partitions that are looked up now.
    let mut partitions = kafka.followed.follow(&topics);
    // Also with what it knows already: a broker may answer the look-up with older metadata.
    partitions.mark_changed();
    let job = {
        let resume = request.resume.clone();
        let (committed, start) = (committed.clone(), kafka.start);
        let (lookup, topics) = (Arc::clone(&kafka.lookup), Arc::clone(&topics));
        let (settings, status) = (Arc::clone(&kafka.settings), Arc::clone(&kafka.status));
        let closing = Arc::clone(&kafka.closing);
        move || {
            let past = Past { resume: resume.as_ref(), committed };
            let starts = starts(&lookup, &topics, &past, start, deadline)?;
            let places: Vec<Place> = starts
                .iter()
                .filter_map(|(topic, partition, at)| Some((Arc::clone(topics.get(*topic)?), *partition, *at)))
                .collect();
            let consumer = Dedicated::open(&settings, &status, permit, closing, &places)
                .map_err(|error| SubscribeError::Unavailable(refused(status.name(), &error)))?;
            Ok((starts, consumer))
        }
    };
    let (starts, consumer) =
        kafka.opening.run(job).await.map_err(|_| {
            SubscribeError::Unavailable(format!("endpoint {:?} is being closed", kafka.status.name()))
        })??;

    let mut lanes = Lanes::default();
    let ledger = group.map(|group| Ledger::new(group, Arc::clone(&topics)));
    for (topic, partition, start) in starts {
        if lanes.add(topic, partition, start)
            && let (Some(ledger), Some(name)) = (&ledger, topics.get(topic))
        {
            ledger.add(name, partition, start, committed.get(&(topic, partition)).copied());
        }
    }
    let durable = ledger.map(|ledger| {
        kafka.committer.open(&ledger);
        Durable { ledger, committer: kafka.committer.clone() }
    });
    let mut subscription = KafkaSubscription {
        status: Arc::clone(&kafka.status),
        topics,
        scope,
        lanes,
        durable,
        partitions,
        chores: Chores::new(Arc::clone(&kafka.opening), Arc::clone(&kafka.lookup)),
        consumer: Arc::new(consumer),
        gap: false,
    };
    // A durable session is told that it is live when its position is kept; rights to keep it are missed here, too.
    poll_fn(|cx| Subscription::poll_flush(&mut subscription, cx))
        .await
        .map_err(|lost| SubscribeError::Refused(lost.0))?;
    Ok(subscription)
}

/// The group's positions: what the broker has, or what this engine is about to tell it.
async fn committed(
    kafka: &Kafka,
    topics: &Topics,
    group: &str,
    deadline: Instant,
) -> Result<HashMap<(usize, i32), i64>, SubscribeError> {
    let topic = topics.first().map_or("", |topic| topic);
    // Looked at on both sides of the read: a commit that ends meanwhile is in one of the three.
    let before = kafka.committer.pending(group);
    let read = match kafka.groups.read(group, deadline).await {
        Ok(read) => read,
        Err(Code::GroupIdNotFound) => Vec::new(),
        Err(code) => return Err(kafka.lookup.code(topic, code)),
    };
    let after = kafka.committer.pending(group);
    let mut found = HashMap::new();
    for GroupOffset { topic, partition, offset } in read.into_iter().chain(before).chain(after) {
        if let Some(index) = topics.iter().position(|t| *t == topic).filter(|_| offset >= 0) {
            let newest = found.entry((index, partition)).or_insert(offset);
            *newest = offset.max(*newest);
        }
    }
    Ok(found)
}

/// Topic, partition and first position of all that there is. Blocks.
fn starts(
    lookup: &Lookup,
    topics: &[Arc<str>],
    past: &Past<'_>,
    start: Start,
    deadline: Instant,
) -> Result<Vec<(usize, i32, i64)>, SubscribeError> {
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut all = Vec::new();
    for (index, topic) in topics.iter().enumerate() {
        for partition in 0..lookup.partitions(topic, left())? {
            all.push((index, partition, past.place(index, partition, start)));
        }
    }
    let mut out = Vec::with_capacity(all.len());
    for edge in [Edge::Start, Edge::End] {
        let of: Vec<_> =
            all.iter().filter(|(_, _, from)| *from == From::Edge(edge)).map(|(t, p, _)| (*t, *p)).collect();
        let named: Vec<_> = of.iter().filter_map(|(t, p)| Some((Arc::clone(topics.get(*t)?), *p))).collect();
        let found = lookup.edges(&named, edge, left())?;
        out.extend(of.into_iter().zip(found).map(|((topic, partition), at)| (topic, partition, at)));
    }
    out.extend(all.iter().filter_map(|(topic, partition, from)| match from {
        From::At(at) => Some((*topic, *partition, *at)),
        From::Edge(_) => None,
    }));
    out.sort_unstable();
    Ok(out)
}

impl Past<'_> {
    fn place(&self, topic: usize, partition: i32, start: Start) -> From {
        let number = u16::try_from(topic).unwrap_or(u16::MAX);
        let resume = self.resume.and_then(|token| token.find(number, partition));
        let committed = self.committed.get(&(topic, partition)).copied();
        match (resume, committed) {
            (Some(resume), Some(committed)) => From::At(resume.min(committed)),
            (Some(at), None) | (None, Some(at)) => From::At(at),
            // The session was here before this partition was: it has seen nothing of it.
            (None, None) if self.knows(topic, number) => From::Edge(Edge::Start),
            (None, None) => From::Edge(match start {
                Start::Latest => Edge::End,
                Start::Earliest => Edge::Start,
            }),
        }
    }

    /// Whether any partition of the topic is in the session's past.
    fn knows(&self, topic: usize, number: u16) -> bool {
        self.committed.keys().any(|(t, _)| *t == topic)
            || self.resume.is_some_and(|token| token.positions.iter().any(|p| p.topic == number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::position::Position;

    fn token(positions: &[(u16, i32, i64)]) -> ResumeToken {
        let positions =
            positions.iter().map(|&(topic, partition, offset)| Position { topic, partition, offset }).collect();
        ResumeToken { scope: Scope { hash: 1, epoch: 0 }, positions }
    }

    #[test]
    fn the_earlier_of_token_and_commit_counts_partition_by_partition() {
        let token = token(&[(0, 0, 10), (0, 1, 5)]);
        let past = Past { resume: Some(&token), committed: HashMap::from([((0, 0), 7), ((0, 1), 9), ((0, 2), 3)]) };
        assert_eq!(past.place(0, 0, Start::Latest), From::At(7));
        assert_eq!(past.place(0, 1, Start::Latest), From::At(5));
        assert_eq!(past.place(0, 2, Start::Latest), From::At(3));
    }

    #[test]
    fn a_partition_that_came_later_is_read_from_its_start() {
        let token = token(&[(0, 0, 10)]);
        let past = Past { resume: Some(&token), committed: HashMap::new() };
        assert_eq!(past.place(0, 1, Start::Latest), From::Edge(Edge::Start));
        assert_eq!(past.place(1, 0, Start::Latest), From::Edge(Edge::End), "another topic");
    }

    #[test]
    fn without_a_past_the_configuration_says() {
        let past = Past { resume: None, committed: HashMap::new() };
        assert_eq!(past.place(0, 0, Start::Latest), From::Edge(Edge::End));
        assert_eq!(past.place(0, 0, Start::Earliest), From::Edge(Edge::Start));
    }
}
