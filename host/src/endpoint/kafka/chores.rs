//! What a subscription has done on the opening pool while its session goes on: finding where logs begin and end,
//! assigning, asking whether a topic is still there. One at a time, repeated until it works.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use super::consumer::{Dedicated, Place};
use super::lanes::{Lanes, Reach};
use super::lookup::{Edge, Lookup};
use super::pool::Pool;
use crate::endpoint::{Lost, SubscribeError};

const LIMIT: Duration = Duration::from_secs(4);
/// Between two tries while the broker is away.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at where the logs begin and end, whatever the consumer complains of.
const EDGES_AT_MOST_EVERY: Duration = Duration::from_millis(500);
/// A topic is gone when the broker said so this often: one that is just starting may not know it yet.
const ABSENT_FOR_GOOD: u8 = 3;

/// What a chore found out.
pub(super) enum Found {
    /// New partitions, as (topic, partition, where it begins).
    New(Vec<(usize, i32, i64)>),
    /// Where the logs of all lanes begin and end.
    Edges(Vec<Reach>),
}

/// What is to be done, each at most once.
#[derive(Default)]
struct Todo {
    assign: Vec<(Vec<Place>, bool)>,
    grow: Vec<(usize, i32)>,
    edges: bool,
    verify: bool,
}

/// Lane, topic, partition, next position: see `Lanes::positions`.
type Read = (usize, usize, i32, i64);

enum Done {
    Found(Found),
    Fine,
    /// With what to try again.
    Failed(SubscribeError, Todo),
}

/// See the module.
pub(super) struct Chores {
    pool: Arc<Pool>,
    lookup: Arc<Lookup>,
    running: Option<oneshot::Receiver<Done>>,
    pause: Option<Pin<Box<Sleep>>>,
    todo: Todo,
    /// Not before that: see `EDGES_AT_MOST_EVERY`; the session polls once a second in any case.
    edges_after: Instant,
    absent: u8,
    lost: Option<String>,
}

impl Chores {
    pub(super) fn new(pool: Arc<Pool>, lookup: Arc<Lookup>) -> Self {
        Self {
            pool,
            lookup,
            running: None,
            pause: None,
            todo: Todo::default(),
            edges_after: Instant::now(),
            absent: 0,
            lost: None,
        }
    }

    /// Some partition's position is not in its log: librdkafka does not say which.
    pub(super) fn out_of_range(&mut self) {
        self.todo.edges = true;
    }

    /// Topics got partitions.
    pub(super) fn grow(&mut self, new: Vec<(usize, i32)>) {
        self.todo.grow = new;
    }

    /// A topic may be gone.
    pub(super) fn verify(&mut self) {
        self.todo.verify = true;
    }

    /// Read there; `moved` where these partitions are read already.
    pub(super) fn assign(&mut self, places: Vec<Place>, moved: bool) {
        if !places.is_empty() {
            self.todo.assign.push((places, moved));
        }
    }

    /// The next poll says that it is over.
    pub(super) fn lose(&mut self, reason: String) {
        self.lost = Some(reason);
    }

    /// Goes on with what is to be done; Pending when nothing is or it is under way.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        topics: &Arc<[Arc<str>]>,
        lanes: &Lanes,
        consumer: &Arc<Dedicated>,
    ) -> Result<Poll<Found>, Lost> {
        if let Some(reason) = self.lost.take() {
            return Err(Lost(reason));
        }
        loop {
            if let Some(pause) = &mut self.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    return Ok(Poll::Pending);
                }
                self.pause = None;
            }
            let Some(running) = &mut self.running else {
                match self.next(topics, lanes, consumer) {
                    Some(running) => self.running = Some(running),
                    None => return Ok(Poll::Pending),
                }
                continue;
            };
            let Poll::Ready(done) = Pin::new(running).poll(cx) else { return Ok(Poll::Pending) };
            self.running = None;
            match done {
                Ok(Done::Found(found)) => return Ok(Poll::Ready(found)),
                Ok(Done::Fine) => self.absent = 0,
                Ok(Done::Failed(error, again)) => {
                    let absent = matches!(error, SubscribeError::AddressNotFound(_));
                    self.absent += u8::from(absent && again.verify);
                    if matches!(error, SubscribeError::Refused(_)) || self.absent >= ABSENT_FOR_GOOD {
                        return Err(Lost(error.to_string()));
                    }
                    tracing::debug!(target: "kafka", %error, "a subscription's request is repeated");
                    self.todo.edges |= again.edges;
                    // A partition that is not there is no proof that the topic is gone.
                    self.todo.verify |= again.verify || absent;
                    if self.todo.grow.is_empty() {
                        self.todo.grow = again.grow;
                    }
                    self.pause = Some(Box::pin(sleep_until(Instant::now() + PAUSE)));
                }
                Err(_) => return Err(Lost("the Kafka endpoint is being closed".to_owned())),
            }
        }
    }

    fn next(
        &mut self,
        topics: &Arc<[Arc<str>]>,
        lanes: &Lanes,
        consumer: &Arc<Dedicated>,
    ) -> Option<oneshot::Receiver<Done>> {
        if !self.todo.assign.is_empty() {
            let todo = std::mem::take(&mut self.todo.assign);
            let consumer = Arc::clone(consumer);
            return Some(self.pool.run(move || assign(&consumer, &todo)));
        }
        let lookup = Arc::clone(&self.lookup);
        let topics = Arc::clone(topics);
        if std::mem::take(&mut self.todo.verify) {
            let lanes = lanes.positions();
            return Some(self.pool.run(move || verify(&lookup, &topics, &lanes)));
        }
        if self.todo.edges && Instant::now() >= self.edges_after {
            self.todo.edges = false;
            self.edges_after = Instant::now() + EDGES_AT_MOST_EVERY;
            let lanes = lanes.positions();
            return Some(self.pool.run(move || edges(&lookup, &topics, lanes)));
        }
        if !self.todo.grow.is_empty() {
            let new = std::mem::take(&mut self.todo.grow);
            return Some(self.pool.run(move || grow(&lookup, &topics, new)));
        }
        None
    }
}

fn assign(consumer: &Dedicated, todo: &[(Vec<Place>, bool)]) -> Done {
    for (places, moved) in todo {
        let result = if *moved { consumer.move_to(places) } else { consumer.add(places) };
        if let Err(error) = result {
            let error = SubscribeError::Refused(format!("the consumer cannot read on: {error}"));
            return Done::Failed(error, Todo::default());
        }
    }
    Done::Fine
}

/// Whether all topics and partitions are there. A partition that is gone would fail the question about all others.
fn there(lookup: &Lookup, topics: &[Arc<str>], lanes: &[Read]) -> Result<(), SubscribeError> {
    for (at, topic) in topics.iter().enumerate() {
        let count = lookup.partitions(topic, LIMIT)?;
        if lanes.iter().any(|(_, of, partition, _)| *of == at && *partition >= count) {
            // Believed once it is said again and again: a broker may not know yet of partitions that were added.
            return Err(SubscribeError::AddressNotFound(format!(
                "topic {topic:?} was made anew with fewer partitions"
            )));
        }
    }
    Ok(())
}

fn verify(lookup: &Lookup, topics: &[Arc<str>], lanes: &[Read]) -> Done {
    match there(lookup, topics, lanes) {
        Ok(()) => Done::Fine,
        Err(error) => Done::Failed(error, Todo { verify: true, ..Todo::default() }),
    }
}

fn edges(lookup: &Lookup, topics: &[Arc<str>], lanes: Vec<Read>) -> Done {
    if let Err(error) = there(lookup, topics, &lanes) {
        return Done::Failed(error, Todo { edges: true, ..Todo::default() });
    }
    let named = named(topics, lanes.iter().map(|(_, topic, partition, _)| (*topic, *partition)));
    let found = lookup
        .edges(&named, Edge::Start, LIMIT)
        .and_then(|starts| Ok((starts, lookup.edges(&named, Edge::End, LIMIT)?)));
    match found {
        Ok((starts, ends)) => {
            let reach = lanes.into_iter().zip(starts.into_iter().zip(ends));
            Done::Found(Found::Edges(
                reach.map(|((lane, _, _, next), (start, end))| Reach { lane, next, start, end }).collect(),
            ))
        }
        Err(error) => Done::Failed(error, Todo { edges: true, ..Todo::default() }),
    }
}

fn grow(lookup: &Lookup, topics: &[Arc<str>], new: Vec<(usize, i32)>) -> Done {
    match lookup.edges(&named(topics, new.iter().copied()), Edge::Start, LIMIT) {
        Ok(starts) => {
            let new = new.into_iter().zip(starts);
            Done::Found(Found::New(new.map(|((topic, partition), start)| (topic, partition, start)).collect()))
        }
        Err(error) => Done::Failed(error, Todo { grow: new, ..Todo::default() }),
    }
}

fn named(topics: &[Arc<str>], of: impl Iterator<Item = (usize, i32)>) -> Vec<(Arc<str>, i32)> {
    of.filter_map(|(topic, partition)| Some((Arc::clone(topics.get(topic)?), partition))).collect()
}
