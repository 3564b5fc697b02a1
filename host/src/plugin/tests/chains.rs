//! Chains of guests: order and ids of what they make, and what their failures mean.

use super::*;
use crate::config::OnError;
use crate::event::{EventId, Header};
use crate::plugin::chain::*;

/// In this order, closed.
fn chain(host: &Host, resolvers: &[&str], steps: &[(&str, OnError)]) -> Arc<Chain> {
    let step = |(name, on_error): &(&str, OnError)| Step { plugin: host.plugins.plugin(name), on_error: *on_error };
    Arc::new(Chain {
        resolvers: resolvers.iter().map(|name| host.plugins.plugin(name)).collect(),
        steps: steps.iter().map(step).collect(),
    })
}

pub(super) fn pass(chain: &Arc<Chain>, event: Event) -> Passed {
    match chain.pass(&Arc::new(event), &samples::facts(), 1) {
        Passing::Ready(passed) => passed,
        Passing::Later(passed) => finished(passed),
    }
}

pub(super) fn closed(host: &Host, resolvers: &[&str], steps: &[&str]) -> Arc<Chain> {
    let steps: Vec<_> = steps.iter().map(|name| (*name, OnError::Closed)).collect();
    chain(host, resolvers, &steps)
}

pub(super) fn with_headers(payload: &'static [u8], headers: &[(&str, &str)]) -> Event {
    let header = |(name, value): &(&str, &str)| Header { name: (*name).into(), value: Some(value.to_string().into()) };
    Event { headers: headers.iter().map(header).collect(), ..samples::event(payload) }
}

fn texts(passed: Passed) -> Vec<String> {
    let events = passed.result.unwrap().events;
    let text = |routed: &Routed| {
        let payload = routed.event.payload.clone().unwrap_or_default().to_bytes();
        format!("{} {} {}", routed.event.id, routed.event.get("x-part").unwrap_or_default(), payload.escape_ascii())
    };
    events.iter().map(text).collect()
}

fn splitting(first: u64, second: u64) -> Host {
    let split = |name: &str, outputs: u64| settings(name, json!({ "outputs": outputs }));
    host(&[("a", "split3"), ("b", "split3"), ("t", "trap")], vec![split("a", first), split("b", second)])
}

#[test]
fn what_two_mappers_make_after_each_other_keeps_its_order_and_has_flat_ids() {
    let host = splitting(3, 2);
    let of = closed(&host, &[], &["a", "b"]);
    // a: `ab`, `cd`, `abcd`; b gives each twice, as a range of the whole and as it is.
    let made = ["0 ab", "1 ab", "0 cd", "1 cd", "0 abcd", "1 abcd"];
    let made: Vec<_> = made.iter().zip(1..).map(|(text, part)| format!("t-0-7#{part} {text}")).collect();
    assert_eq!(texts(pass(&of, samples::event(b"abcd"))), made);
}

#[test]
fn an_event_that_stays_one_keeps_its_id_and_each_plugin_is_named_once() {
    let host = splitting(1, 3);
    let passed = pass(&closed(&host, &[], &["a"]), samples::event(b"ab"));
    assert_eq!(passed.generations.len(), 1);
    assert_eq!(texts(passed), ["t-0-7 0 ab"]);
    let passed = pass(&closed(&host, &[], &["b", "a"]), samples::event(b"ab"));
    let names: Vec<_> = passed.generations.iter().map(|(name, number)| (&**name, *number)).collect();
    assert_eq!(names, [("b", 1), ("a", 1)]);
    assert_eq!(passed.result.unwrap().events.len(), 3);
}

#[test]
fn a_chain_makes_64_events_of_one_and_refuses_more() {
    let host = splitting(8, 8);
    let (both, thrice) = (closed(&host, &[], &["a", "b"]), closed(&host, &[], &["a", "b", "a"]));
    let made = texts(pass(&both, samples::event(b"0123456789abcdef")));
    assert_eq!(made.len(), 64);
    for (at, text) in made.iter().enumerate() {
        assert!(text.starts_with(&format!("t-0-7#{} {} ", at + 1, at % 8)), "{text}");
    }
    let failure = pass(&thrice, samples::event(b"0123456789abcdef")).result.unwrap_err();
    assert_eq!((failure.then, failure.reason(), &*failure.plugin), (Then::Refuse, "plugin_output".to_owned(), "a"));
}

#[test]
fn a_fault_is_passed_over_tried_again_or_a_dead_letter_as_the_chain_says() {
    let host = splitting(3, 2);
    for (on_error, then) in
        [(OnError::Closed, Some(Then::Again)), (OnError::DeadLetter, Some(Then::DeadLetter)), (OnError::Open, None)]
    {
        let of = chain(&host, &[], &[("t", on_error), ("b", OnError::Closed)]);
        let passed = pass(&of, samples::event(b"TRAP"));
        match then {
            None => assert_eq!(texts(passed), ["t-0-7#1 0 TRAP", "t-0-7#2 1 TRAP"]),
            Some(then) => {
                let failure = passed.result.unwrap_err();
                assert_eq!((failure.then, failure.label(), &*failure.plugin), (then, "plugin_fault", "t"));
            }
        }
    }
    // Of several outputs the one that fails goes on as it is, in its place.
    let of = chain(&host, &[], &[("a", OnError::Closed), ("t", OnError::Open)]);
    let made = texts(pass(&of, samples::event(b"xxTRAP")));
    assert_eq!(made, ["t-0-7#1 0 xxT", "t-0-7#2 1 RAP", "t-0-7#3 2 xxTRAP"]);
}

#[test]
fn a_plugin_that_is_not_there_fails_as_one_that_traps() {
    let host = splitting(3, 2);
    let failure = pass(&closed(&host, &[], &["nowhere"]), samples::event(b"x")).result.unwrap_err();
    assert_eq!((failure.then, failure.reason()), (Then::Again, "plugin_not_loaded".to_owned()));
    let open = chain(&host, &[], &[("nowhere", OnError::Open)]);
    assert_eq!(texts(pass(&open, samples::event(b"x"))), ["t-0-7  x"]);
}

#[test]
fn a_resolver_drops_rejects_or_chooses_targets_before_any_mapper_sees_the_event() {
    let host = host(&[("r", "resolver-demo"), ("a", "split3"), ("v", "verdict")], Vec::new());
    let of = closed(&host, &["r"], &["a"]);
    let dropped = pass(&of, with_headers(b"ab", &[("x-fan", "none")]));
    let names: Vec<_> = dropped.generations.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["r"]);
    let outcome = dropped.result.unwrap();
    assert!(outcome.events.is_empty() && outcome.targets.is_none(), "{outcome:?}");
    let outcome = pass(&of, with_headers(b"ab", &[("x-fan", "one,two:there")])).result.unwrap();
    let targets: Vec<_> = outcome.targets.iter().flatten().map(|to| (&*to.endpoint, to.address.as_deref())).collect();
    assert_eq!(targets, [("one", None), ("two", Some("there"))]);
    assert_eq!(outcome.events.len(), 3);
    for (headers, then) in
        [(&[("x-refuse", "no")][..], Then::Refuse), (&[("x-refuse", "no"), ("x-retry", "1")], Then::Again)]
    {
        let failure = pass(&of, with_headers(b"ab", headers)).result.unwrap_err();
        assert_eq!((failure.then, failure.reason()), (then, "rejected:no".to_owned()));
    }
}

#[test]
fn a_mapper_drops_and_an_address_stays_with_what_comes_of_it() {
    let host = host(&[("a", "split3"), ("v", "verdict"), ("w", "wrap")], Vec::new());
    for verdict in ["drop", "none"] {
        let passed = pass(&closed(&host, &[], &["v", "a"]), with_headers(b"ab", &[("x-verdict", verdict)]));
        assert_eq!(passed.generations.len(), 1, "nobody is asked about nothing");
        assert!(passed.result.unwrap().events.is_empty());
    }
    let passed = pass(&closed(&host, &[], &["v", "w"]), with_headers(b"ab", &[("x-address", "there")]));
    let events = passed.result.unwrap().events;
    assert_eq!(events.first().map(|routed| routed.address.as_deref()), Some(Some("there")));
    assert_eq!(events.first().map(|routed| routed.event.id.clone()), Some(samples::event(b"").id));
    assert!(!matches!(samples::event(b"").id, EventId::Part { .. }));
}
