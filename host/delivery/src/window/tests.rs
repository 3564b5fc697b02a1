use std::time::{Duration, Instant};

use super::{Answer, Answered, Backoff, Hold, Limits, Window};

fn window(size: usize, hold: Hold) -> Window<char> {
    let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(30) };
    Window::new(Limits { size, bytes: 1000, hold, backoff }, 7)
}

#[test]
fn acks_out_of_order_move_the_watermark_only_when_the_oldest_is_answered() {
    let (mut w, now) = (window(3, Hold::UntilAnswered), Instant::now());
    let (a, b) = (w.enter(0, 11, 1, 1, 'a'), w.enter(0, 15, 1, 1, 'b'));
    assert_eq!(w.answer(b, Answer::Ack, now), Answered::Settled('b', Answer::Ack));
    assert_eq!((w.watermark(0), w.permits()), (None, 2));
    assert_eq!(w.answer(a, Answer::Ack, now), Answered::Settled('a', Answer::Ack));
    let mut moved = Vec::new();
    w.moved(|lane, position| moved.push((lane, position)));
    assert_eq!((moved, w.permits()), (vec![(0, 15)], 3));
}

#[test]
fn a_nacked_event_keeps_its_permit_and_comes_again_after_its_back_off() {
    let (mut w, now) = (window(1, Hold::UntilAnswered), Instant::now());
    let a = w.enter(0, 1, 1, 1, 'a');
    let late = w.output(&a, 0);
    assert_eq!(w.answer(a, Answer::Nack, now), Answered::Again);
    assert_eq!((w.permits(), w.waiting()), (0, 1));
    assert!(w.due(now).is_none());
    let due = w.due(now + Duration::from_secs(1)).expect("due");
    assert_eq!(due.token.redeliveries(), 1);
    assert_eq!(w.answer(late, Answer::Ack, now), Answered::Stale);
    assert_eq!(w.answer(due.token, Answer::Ack, now), Answered::Settled('a', Answer::Ack));
    assert_eq!((w.permits(), w.watermark(0)), (1, Some(1)));
}

#[test]
fn the_worst_answer_of_several_outputs_counts_once_all_are_in() {
    let (mut w, now) = (window(1, Hold::UntilAnswered), Instant::now());
    let first = w.enter(0, 1, 1, 3, 'a');
    let (second, third, again) = (w.output(&first, 1), w.output(&first, 2), w.output(&first, 1));
    assert_eq!(w.left(&first), 3);
    assert_eq!(w.answer(second, Answer::Reject, now), Answered::Partly);
    assert_eq!(w.answer(again, Answer::Ack, now), Answered::Stale);
    assert_eq!(w.left(&first), 2);
    assert_eq!(w.answer(first, Answer::Ack, now), Answered::Partly);
    assert_eq!(w.answer(third, Answer::Ack, now), Answered::Settled('a', Answer::Reject));
}

#[test]
fn entering_settles_where_the_permit_is_held_until_written() {
    let (mut w, now) = (window(1, Hold::UntilWritten), Instant::now());
    let a = w.enter(2, 9, 1, 1, 'a');
    assert_eq!((w.watermark(2), w.permits()), (Some(9), 0));
    assert_eq!(w.answer(a, Answer::Nack, now), Answered::Settled('a', Answer::Nack));
    assert_eq!((w.watermark(2), w.permits()), (Some(9), 1));
}

#[test]
fn bytes_are_bounded_but_one_larger_event_passes_alone() {
    let (mut w, now) = (window(8, Hold::UntilAnswered), Instant::now());
    assert_eq!((w.permits(), w.byte_room()), (8, 1000));
    let a = w.enter(0, 1, 5000, 1, 'a');
    assert_eq!((w.permits(), w.byte_room()), (0, 0));
    assert!(matches!(w.answer(a, Answer::Ack, now), Answered::Settled(..)));
    assert_eq!(w.permits(), 8);
}

#[test]
fn it_stops_far_ahead_of_its_oldest_event() {
    let (mut w, now) = (window(2, Hold::UntilAnswered), Instant::now());
    let _oldest = w.enter(0, 0, 1, 1, 'o');
    for position in 1..32 {
        assert_eq!(w.permits(), 1);
        let token = w.enter(0, position, 1, 1, 'x');
        assert!(matches!(w.answer(token, Answer::Ack, now), Answered::Settled(..)));
    }
    assert_eq!(w.permits(), 0);
}

#[test]
fn an_answer_by_id_finds_the_oldest_that_is_out() {
    let (mut w, now) = (window(4, Hold::UntilAnswered), Instant::now());
    let _a = w.enter(0, 1, 1, 1, 'a');
    let _b = w.enter(0, 2, 1, 1, 'a');
    let token = w.claim(|item, _| (*item == 'a').then_some(0)).expect("out");
    assert_eq!(token.sequence(), 0);
    assert!(matches!(w.answer(token, Answer::Ack, now), Answered::Settled(..)));
    assert_eq!(w.claim(|item, _| (*item == 'a').then_some(0)).map(|t| t.sequence()), Some(1));
    assert_eq!(w.claim(|item, _| (*item == 'z').then_some(0)), None);
}

#[test]
fn an_owed_event_holds_the_watermark_back_whatever_the_hold() {
    let (mut w, now) = (window(4, Hold::UntilWritten), Instant::now());
    let owed = w.enter_owed(0, 5, 1, 'o');
    let later = w.enter(0, 9, 1, 1, 'l');
    assert_eq!(w.answer(later, Answer::Ack, now), Answered::Settled('l', Answer::Ack));
    assert_eq!((w.watermark(0), w.permits()), (None, 3));
    assert_eq!(w.answer(owed, Answer::Nack, now), Answered::Again);
    let due = w.due(now + Duration::from_secs(1)).expect("due");
    let first = w.deliver(&due.token, 10, 2).expect("owed");
    assert_eq!((w.watermark(0), w.permits(), w.byte_room()), (Some(9), 3, 990));
    let second = w.output(&first, 1);
    assert_eq!(w.answer(first, Answer::Ack, now), Answered::Partly);
    assert_eq!(w.answer(second, Answer::Nack, now), Answered::Settled('o', Answer::Nack));
    assert_eq!((w.watermark(0), w.permits(), w.byte_room()), (Some(9), 4, 1000));
}

#[test]
fn an_owed_event_that_is_delivered_is_like_any_other() {
    let (mut w, now) = (window(2, Hold::UntilAnswered), Instant::now());
    let owed = w.enter_owed(0, 5, 1, 'o');
    let token = w.deliver(&owed, 1, 1).expect("owed");
    assert_eq!(w.watermark(0), None);
    assert_eq!(w.answer(token, Answer::Ack, now), Answered::Settled('o', Answer::Ack));
    assert_eq!(w.watermark(0), Some(5));
    assert!(w.deliver(&owed, 1, 1).is_none());
}

#[test]
fn an_owed_event_that_is_given_up_is_settled() {
    let (mut w, now) = (window(2, Hold::UntilWritten), Instant::now());
    let owed = w.enter_owed(0, 5, 1, 'o');
    assert_eq!(w.answer(owed, Answer::Ack, now), Answered::Settled('o', Answer::Ack));
    assert_eq!((w.watermark(0), w.permits()), (Some(5), 2));
}
