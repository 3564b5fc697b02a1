//! What comes in: messages, pongs, closes.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream as _;
use mediation_delivery::Answer;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::Message;

use super::{LINGER, WsSession};
use crate::entrypoint::v1::Out;
use crate::entrypoint::websocket::close;
use crate::entrypoint::websocket::inbound::{self, Asked};

/// Messages that are read in one round.
const READS: usize = 64;

impl WsSession {
    pub(super) fn poll_in(&mut self, cx: &mut TaskContext<'_>) -> bool {
        let mut moved = false;
        for _ in 0..READS {
            // Unread replies pile up at a client that sends and does not read: it is not read either.
            let parked = self.up.as_ref().is_some_and(|up| !up.may_read());
            if self.read_done || parked || (self.v1 && !self.ws.get_ref().is_empty() && self.ending.is_none()) {
                break;
            }
            match Pin::new(&mut self.ws).poll_next(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(message))) => self.message(message),
                Poll::Ready(Some(Err(error))) => self.failed(&error),
                Poll::Ready(None) => self.left(),
            }
            moved = true;
        }
        moved
    }

    pub(super) fn message(&mut self, message: Message) {
        self.liveness.heard(Instant::now());
        match message {
            Message::Text(text) => self.given(text.into()),
            Message::Binary(_) if self.v1 => {
                self.close(close::NOT_TEXT);
                self.down = None;
            }
            Message::Binary(bytes) => self.given(bytes),
            Message::Pong(payload) => {
                let covers = self.liveness.pong(&payload);
                if covers > 0
                    && let Some(down) = &mut self.down
                {
                    down.acknowledge_all(self.receipts.take(covers));
                    self.receipts.shrink();
                }
                if self.pongs() && !self.receipts.is_empty() && self.liveness.may_ping() && self.ws.get_ref().is_empty()
                {
                    self.send_ping(Instant::now());
                }
            }
            Message::Close(_) => {
                // The reply, where one is due, is tungstenite's; to a reply there is none.
                if self.closed {
                    self.read_done = true;
                }
                self.closed = true;
                self.down = None;
                self.end(LINGER);
            }
            Message::Ping(_) | Message::Frame(_) => {}
        }
    }

    pub(super) fn given(&mut self, payload: Bytes) {
        if !self.v1 {
            let event = inbound::plain(&self.session, &self.forwarded, payload);
            self.publish(None, *event);
            return;
        }
        match inbound::v1(&self.session, &self.forwarded, &payload) {
            Asked::Publish(reference, event) => self.publish(reference, *event),
            Asked::Ack(ids) => self.answer(&ids, Answer::Ack),
            Asked::Nack(ids, true) => self.answer(&ids, Answer::Nack),
            Asked::Nack(ids, false) => self.answer(&ids, Answer::Reject),
            Asked::Nonsense(reference, message) => self.say(&Out::Error { reference, code: "bad_request", message }),
        }
    }

    pub(super) fn answer(&mut self, ids: &[String], answer: Answer) {
        if let Some(down) = &mut self.down {
            for id in ids {
                // Answered before, or never given: an answer that comes twice is no fault.
                down.answer_id(id, answer);
            }
        }
    }

    pub(super) fn failed(&mut self, error: &WsError) {
        let with = match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => Some(close::TOO_LARGE),
            WsError::Utf8(_) => Some(close::BAD_DATA),
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
            WsError::Protocol(_) => Some(close::PROTOCOL),
            _ => None,
        };
        tracing::debug!(session_id = %self.session.id, %error, "a read failed");
        self.down = None;
        if let Some(with) = with {
            self.close(with);
        }
        self.left();
    }

    /// The client's end of stream.
    pub(super) fn left(&mut self) {
        self.read_done = true;
        self.down = None;
        if !self.closed {
            self.write_dead = true;
            self.wire().die();
        }
        self.end(Duration::ZERO);
    }
}
