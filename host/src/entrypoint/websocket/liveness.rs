//! Pings and pongs: receipts of plain clients, and whether a silent client is still there.
//!
//! At most one ping is in flight. Under `at_least_once` it goes out behind the data in the same write, and its pong
//! acknowledges everything that was written before it; without data it only asks for a sign of life.

use std::time::{Duration, Instant};

/// The ping in flight.
struct Ping {
    counter: u32,
    /// How many of the oldest unacknowledged events it stands behind.
    covers: usize,
    sent: Instant,
}

/// See the module's documentation.
pub(super) struct Liveness {
    counter: u32,
    in_flight: Option<Ping>,
    /// Events were written that no pong has answered for.
    unread: bool,
    /// Some of these behind the ping in flight.
    behind: bool,
    heard: Instant,
}

impl Liveness {
    pub(super) fn new(now: Instant) -> Self {
        Self { counter: 0, in_flight: None, unread: false, behind: false, heard: now }
    }

    /// Whether a ping may go out.
    pub(super) fn may_ping(&self) -> bool {
        self.in_flight.is_none()
    }

    /// The payload of a ping that goes out now behind `covers` events.
    pub(super) fn ping(&mut self, covers: usize, now: Instant) -> [u8; 4] {
        self.counter = self.counter.wrapping_add(1);
        self.in_flight = Some(Ping { counter: self.counter, covers, sent: now });
        self.counter.to_be_bytes()
    }

    /// Events went out.
    pub(super) fn wrote(&mut self) {
        self.unread = true;
        self.behind |= self.in_flight.is_some();
    }

    /// Anything came in: who sends is there.
    pub(super) fn heard(&mut self, now: Instant) {
        self.excuse(now);
    }

    /// A pong: how many of the oldest events it acknowledges. Pongs that nobody asked for say nothing.
    pub(super) fn pong(&mut self, payload: &[u8]) -> usize {
        match &self.in_flight {
            Some(ping) if payload == ping.counter.to_be_bytes() => {
                let covers = ping.covers;
                self.in_flight = None;
                self.unread = std::mem::take(&mut self.behind);
                covers
            }
            _ => 0,
        }
    }

    /// Whether it is time to ask for a sign of life.
    pub(super) fn wants_ping(&self, interval: Duration, now: Instant) -> bool {
        self.may_ping() && now.saturating_duration_since(self.heard) >= interval
    }

    /// Gone: a ping went unanswered for so long, and no event is out that a pong has not answered for (a client may merely
    /// not be reading).
    pub(super) fn is_gone(&self, timeout: Duration, now: Instant) -> bool {
        !self.unread && self.in_flight.as_ref().is_some_and(|ping| now.saturating_duration_since(ping.sent) >= timeout)
    }

    /// Reading was stopped: no pong could come, so the wait for one begins anew.
    pub(super) fn excuse(&mut self, now: Instant) {
        self.heard = now;
        if let Some(ping) = &mut self.in_flight {
            ping.sent = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_the_pong_to_the_ping_in_flight_acknowledges() {
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        let payload = liveness.ping(3, now);
        assert!(!liveness.may_ping());
        assert_eq!(liveness.pong(b"else"), 0);
        assert_eq!(liveness.pong(&payload), 3);
        assert_eq!(liveness.pong(&payload), 0);
        assert!(liveness.may_ping());
    }

    #[test]
    fn a_client_that_was_written_to_is_slow_and_not_gone() {
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.ping(0, now);
        assert!(liveness.is_gone(SECOND, now + SECOND));
        liveness.wrote();
        assert!(!liveness.is_gone(SECOND, now + SECOND * 100));
    }

    #[test]
    fn a_client_that_stops_reading_right_after_a_pong_is_slow_and_not_gone() {
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.wrote();
        let first = liveness.ping(1, now);
        liveness.wrote();
        assert_eq!(liveness.pong(&first), 1);
        let second = liveness.ping(1, now);
        assert!(!liveness.is_gone(SECOND, now + SECOND * 100));
        assert_eq!(liveness.pong(&second), 1);
        liveness.ping(0, now);
        assert!(liveness.is_gone(SECOND, now + SECOND));
    }

    #[test]
    fn no_pong_is_overdue_while_nobody_reads() {
        let now = Instant::now();
        let mut liveness = Liveness::new(now);
        liveness.ping(0, now);
        liveness.excuse(now + SECOND);
        assert!(!liveness.is_gone(SECOND, now + SECOND));
        assert!(liveness.is_gone(SECOND, now + SECOND * 2));
    }
}
