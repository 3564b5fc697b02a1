//! Guests that misbehave: each costs its own events, and nothing else.

use super::*;

/// The fault on the event that pulls the guest's trigger, and that the next event passes.
fn contained(name: &str, trigger: &'static [u8]) -> Fault {
    let host = host(&[("p", name), ("other", "mapper-pass")], Vec::new());
    assert_eq!(host.state("p"), "serving", "{name}");
    let fault = host.step("p", trigger).unwrap_err();
    assert!(host.step("other", trigger).is_ok(), "{name}: another plugin");
    assert!(host.step("p", b"x").is_ok(), "{name}: the next event");
    assert_eq!((&host.row("p")["faults"], &host.row("p")["calls"]), (&json!(1), &json!(2)), "{name}");
    fault
}

#[test]
fn a_guest_that_misbehaves_fails_its_own_event() {
    for (name, trigger, kind, part) in [
        ("trap", &b"TRAP"[..], FaultKind::Trap, "unreachable"),
        ("spin", b"SPIN", FaultKind::Deadline, "more than 100 ms"),
        ("hog", b"HOG", FaultKind::Trap, "max_memory"),
        ("bad-range", b"RANGE", FaultKind::Output, "outside of a payload of 5 bytes"),
        ("many-outputs", b"MANY", FaultKind::Output, "64 are the most"),
        ("alias-bomb", b"BOMB", FaultKind::Trap, "fuel"),
    ] {
        let fault = contained(name, trigger);
        assert_eq!(fault.kind, kind, "{name}: {fault}");
        assert!(fault.message.contains(part), "{name}: {fault}");
    }
}

#[test]
fn five_faults_in_ten_seconds_and_it_is_not_asked() {
    let host = host(&[("p", "trap")], Vec::new());
    for _ in 0..5 {
        assert_eq!(host.step("p", b"TRAP").unwrap_err().kind, FaultKind::Trap);
    }
    assert_eq!(host.step("p", b"x").unwrap_err().kind, FaultKind::Breaker);
    assert_eq!(host.state("p"), "breaker open");
    eventually(|| host.step("p", b"x").is_ok(), |passed| *passed);
    assert_eq!(host.state("p"), "serving");
}

#[test]
fn a_guest_that_leaks_is_replaced_before_it_fails() {
    let host = host(&[("p", "leak")], vec![settings("p", json!({ "kib": 256 }))]);
    for _ in 0..400 {
        assert!(host.step("p", b"x").is_ok(), "{}", host.row("p"));
    }
    let row = host.row("p");
    assert_eq!(row["faults"], 0);
    assert!(row["memory"].as_u64().unwrap() <= 2 * (16 << 20), "{row}");
}

#[test]
fn a_guest_that_logs_without_end_is_cut_off() {
    let host = host(&[("p", "log-flood")], vec![settings("p", json!({ "mib": 4 }))]);
    host.step("p", b"LOG").ok();
    assert!(host.row("p")["log_dropped"].as_u64().is_some(), "{}", host.row("p"));
}

#[test]
fn a_guest_may_describe_itself_as_it_likes() {
    let host = host(&[("huge", "describe-huge"), ("empty", "describe-empty")], Vec::new());
    for name in ["huge", "empty"] {
        assert_eq!(host.state(name), "serving");
        assert!(host.step(name, b"x").is_ok());
    }
    assert!(!host.metrics.render().contains("bad"));
}

#[test]
fn the_memory_of_an_instance_is_all_its_memories_together() {
    let small = config::Plugin { max_memory: 1 << 20, ..settings("p", Value::Null) };
    let host = host(&[("p", "mapper-pass")], vec![small]);
    // What the component needs at least decides: it serves within a MiB, or says which setting is too small.
    let state = host.state("p");
    assert!(state == "serving" || state.contains("max_memory"), "{state}");
}
