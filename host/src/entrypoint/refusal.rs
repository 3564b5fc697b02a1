//! What a client is told of an event that did not get where it should.

use crate::http::Error;
use crate::pipeline::upstream::Refusal;
use crate::plugin::Rejection;
use crate::plugin::chain::{Failure, Why};

/// The answer, from the one table of errors.
pub(super) fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Plugin(failure) if failure.unasked() => Error::plugin_unavailable(failure.to_string()),
        Refusal::Plugin(Failure { why: Why::Fault(fault), .. }) => Error::plugin_failed(fault.to_string()),
        Refusal::Plugin(Failure { why: Why::Rejection(rejection), .. }) => rejected(&rejection),
        refusal @ Refusal::NoTarget { .. } => Error::target_not_found(refusal.to_string()),
        Refusal::BadAddress(words) => Error::bad_request(words),
        Refusal::Publish { error, confirmed, .. } => {
            let mut error = Error::from(error);
            if !confirmed.is_empty() {
                error.message.push_str(&format!("; confirmed by {}", confirmed.join(", ")));
            }
            error
        }
    }
}

/// A plugin refuses a client's event: what is wrong with it is the client's to know.
fn rejected(rejection: &Rejection) -> Error {
    Error::rejected(&rejection.code, &rejection.message)
}
