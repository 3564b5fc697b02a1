//! Property tests of the delivery window: whatever happens in whatever order, its promises hold, and it does what a
//! naive model does.
//!
//! 256 cases each; `PROPTEST_CASES=100000 cargo test -p mediation-delivery --test window` for the long form.
//!
//! - [`driver`] plays a session: pulls by permits and bytes, holds tokens, answers well and badly, waits, restarts
//! - [`ledger`] the promises, judged by what the window said and nothing else
//! - [`model`] the same machine written for understanding only: linear searches over everything that ever happened
#![allow(clippy::indexing_slicing, reason = "test code: a panic is a failed case")]

mod driver;
mod ledger;
mod model;

use std::time::Duration;

use mediation_delivery::{Answer, Backoff, Hold, Limits};
use proptest::collection::vec;
use proptest::prelude::*;

use driver::{Driver, LANES};

/// What may happen to a session.
#[derive(Debug, Clone)]
enum Step {
    /// A pull brings these, as far as permits and bytes let it.
    Pull(Vec<Arrival>),
    /// A token in hand is answered.
    Answer(prop::sample::Index, Answer),
    /// The newest token in hand is answered.
    AnswerNewest(Answer),
    /// The session answers each event as it comes, so many times, whatever older ones are out.
    Churn(u8, Arrival),
    /// A token is used that was used before, that has been replaced by a redelivery, or is of a window long gone.
    AnswerSpent(prop::sample::Index, Answer),
    /// A client answers by id.
    AnswerById { name: usize, part: u16, answer: Answer },
    /// An owed event in hand can be given now, as so many bytes and outputs.
    Deliver(prop::sample::Index, usize, u16),
    /// The same, with a token that was used before.
    DeliverSpent(prop::sample::Index, usize, u16),
    /// Time passes.
    Wait(u64),
    /// What is due is given again.
    Redeliver,
    /// As `Redeliver`, but the session takes one only.
    RedeliverOne,
    /// The session ends with whatever is out; a new one goes on at the watermarks.
    Restart,
}

/// An event as a broker has it.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    lane: usize,
    /// How far its position is from the one before it.
    gap: i64,
    bytes: usize,
    outputs: u16,
    /// It cannot be given as it is: a plugin fails on it.
    owed: bool,
}

fn answers() -> impl Strategy<Value = Answer> {
    prop_oneof![5 => Just(Answer::Ack), 1 => Just(Answer::Reject), 2 => Just(Answer::Nack)]
}

fn arrivals() -> impl Strategy<Value = Arrival> {
    let bytes = prop_oneof![4 => 0..20_usize, 1 => 0..300_usize];
    (0..LANES, 1..4_i64, bytes, prop_oneof![4 => Just(1_u16), 1 => 2..4_u16], prop::bool::weighted(0.15))
        .prop_map(|(lane, gap, bytes, outputs, owed)| Arrival { lane, gap, bytes, outputs, owed })
}

fn steps() -> impl Strategy<Value = Step> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        6 => vec(arrivals(), 1..10).prop_map(Step::Pull),
        8 => (any(), answers()).prop_map(|(at, answer)| Step::Answer(at, answer)),
        3 => answers().prop_map(Step::AnswerNewest),
        1 => (1..40_u8, arrivals()).prop_map(|(times, arrival)| Step::Churn(times, arrival)),
        2 => (any(), answers()).prop_map(|(at, answer)| Step::AnswerSpent(at, answer)),
        2 => (0..3_usize, 0..3_u16, answers()).prop_map(|(name, part, answer)| Step::AnswerById { name, part, answer }),
        3 => (any(), 0..300_usize, 0..4_u16).prop_map(|(at, bytes, outputs)| Step::Deliver(at, bytes, outputs)),
        1 => (any(), 0..300_usize, 0..4_u16).prop_map(|(at, bytes, outputs)| Step::DeliverSpent(at, bytes, outputs)),
        3 => (0..3000_u64).prop_map(Step::Wait),
        2 => Just(Step::Redeliver),
        1 => Just(Step::RedeliverOne),
        1 => Just(Step::Restart),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let size = prop_oneof![1 => Just(1_usize), 3 => 2..9_usize];
    let bytes = prop_oneof![3 => Just(100_000_usize), 2 => 0..200_usize];
    let hold = prop_oneof![3 => Just(Hold::UntilAnswered), 1 => Just(Hold::UntilWritten)];
    let backoff = (1..2000_u64, 1..10_000_u64)
        .prop_map(|(first, max)| Backoff { first: Duration::from_millis(first), max: Duration::from_millis(max) });
    (size, bytes, hold, backoff).prop_map(|(size, bytes, hold, backoff)| Limits { size, bytes, hold, backoff })
}

fn config() -> ProptestConfig {
    // The failing input is printed in full: no file beside the source.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// Plays a case, then answers all that is left and reads the logs to their ends.
fn play(mut driver: Driver, steps: Vec<Step>) -> Result<(), TestCaseError> {
    for step in steps {
        match step {
            Step::Pull(arrivals) => {
                arrivals.into_iter().for_each(|arrival| driver.publish(arrival));
                driver.pull()?;
            }
            Step::Churn(times, arrival) => {
                for _ in 0..times {
                    driver.publish(arrival);
                    driver.pull()?;
                    driver.answer_newest(Answer::Ack)?;
                    driver.check()?;
                }
            }
            Step::Answer(at, answer) => driver.answer(at, answer)?,
            Step::AnswerNewest(answer) => driver.answer_newest(answer)?,
            Step::AnswerSpent(at, answer) => driver.answer_spent(at, answer)?,
            Step::AnswerById { name, part, answer } => driver.answer_by_id(name, part, answer)?,
            Step::Deliver(at, bytes, outputs) => driver.deliver(at, bytes, outputs)?,
            Step::DeliverSpent(at, bytes, outputs) => driver.deliver_spent(at, bytes, outputs)?,
            Step::Wait(ms) => driver.wait(Duration::from_millis(ms)),
            Step::Redeliver => driver.redeliver(usize::MAX)?,
            Step::RedeliverOne => driver.redeliver(1)?,
            Step::Restart => driver.restart(),
        }
        driver.check()?;
    }
    driver.finish()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_promises_hold_whatever_happens(limits in limits(), steps in vec(steps(), 0..80)) {
        play(Driver::new(limits, false), steps)?;
    }

    #[test]
    fn the_window_does_what_a_naive_model_does(limits in limits(), steps in vec(steps(), 0..80)) {
        play(Driver::new(limits, true), steps)?;
    }

    #[test]
    fn a_back_off_lies_between_three_quarters_and_all_of_its_doubling(
        first in 1..100_000_u64, max in 1..100_000_u64, redeliveries in any::<u16>(), seed in any::<u64>(),
    ) {
        let backoff = Backoff { first: Duration::from_millis(first), max: Duration::from_millis(max) };
        let full = model::full_wait(backoff, redeliveries);
        let wait = backoff.wait(redeliveries, seed);
        prop_assert!(wait <= full && wait >= full * 3 / 4, "{wait:?} of {full:?}");
        prop_assert_eq!(wait, backoff.wait(redeliveries, seed), "not repeatable");
    }
}
