//! Delivery as a state machine: who holds a permit, who still owes an answer, how far the watermark is, what comes again
//! and when. No I/O, no clock of its own, no async, and no knowledge of what an event is.
//!
//! - [`Window`] the bounded channel of a session: slots, permits and bytes
//! - [`Token`] the one-shot right to answer one output of one slot
//! - [`Answer`] ack, reject or nack
//! - [`Backoff`] how long a nacked event waits
//!
//! A session's downstream half owns one window. Dropping the window answers everything that is left with a nack: nothing
//! of it has moved a watermark, so there is no second clean-up path.

mod answer;
mod backoff;
mod lane;
mod window;

pub use answer::{Answer, Answered, Token};
pub use backoff::Backoff;
pub use window::{Due, Hold, Limits, Window};
