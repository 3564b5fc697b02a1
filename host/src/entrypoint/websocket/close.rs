//! Close codes (RFC 6455 section 7.4, and our own from 4000), each with a reason text.

use crate::session::Leave;

/// A code and its reason.
pub(super) type Close = (u16, &'static str);

pub(super) const PROTOCOL: Close = (1002, "protocol error");
pub(super) const NOT_TEXT: Close = (1003, "mediation.v1 frames are text");
pub(super) const BAD_DATA: Close = (1007, "a text message is not UTF-8");
pub(super) const NO_UPSTREAM: Close = (1008, "no route takes messages here");
pub(super) const REJECTED: Close = (1008, "a message was refused");
pub(super) const TOO_LARGE: Close = (1009, "the message is larger than max_frame");
pub(super) const NOT_PUBLISHED: Close = (1011, "a message could not be published");
pub(super) const LOST: Close = (1011, "the subscription was lost");

/// What a session that is asked to leave tells its client; None when nothing can be told.
pub(super) fn of(why: Leave) -> Option<Close> {
    match why {
        Leave::Drain => Some((1001, "the engine is stopping")),
        Leave::Replaced => Some((4009, "replaced by a newer session with this client id")),
        Leave::BrokerLost => Some((1013, "the broker is away")),
        Leave::TooSlow => Some((4008, "the client is too slow")),
        Leave::RouteChanged => Some((1012, "the route changed: connect again")),
        Leave::Idle => Some((1001, "idle")),
        Leave::Expired => Some((4401, "expired")),
        Leave::Gone => None,
    }
}
