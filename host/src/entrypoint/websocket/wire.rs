//! The stream under tungstenite. tungstenite reads through it and writes its pongs and closes into its out-buffer; data
//! frames are appended to the same buffer and written once a batch: one ordered stream of whole frames.
//!
//! The buffer is the worker's: a session keeps it only while the socket refuses some of it.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::session::socket::Socket;

/// Above this much unsent, tungstenite's control frames wait in its own buffer, which is small.
const CONTROL: usize = 4096;

/// Buffers that a worker keeps, and how large.
const POOL: usize = 4;
const POOLED: usize = 1024 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// See the module's documentation.
pub(super) struct Wire {
    socket: Arc<Socket>,
    out: Vec<u8>,
    sent: usize,
    /// Writing failed: what is written goes nowhere, so that reading on (a pong is due, say) does not fail too.
    dead: bool,
}

impl Wire {
    pub(super) fn new(socket: Arc<Socket>) -> Self {
        Self { socket, out: Vec::new(), sent: 0, dead: false }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        if self.out.capacity() == 0 {
            self.out = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        &mut self.out
    }

    /// Appends one data frame.
    pub(super) fn data(&mut self, text: bool, pieces: &[impl AsRef<[u8]>]) {
        let kind = if text { Data::Text } else { Data::Binary };
        self.frame(OpCode::Data(kind), pieces);
    }

    /// Appends a ping.
    pub(super) fn ping(&mut self, payload: &[u8]) {
        self.frame(OpCode::Control(Control::Ping), &[payload]);
    }

    /// Appends a close.
    pub(super) fn close(&mut self, code: u16, reason: &str) {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        self.frame(OpCode::Control(Control::Close), &[payload]);
    }

    fn frame(&mut self, opcode: OpCode, pieces: &[impl AsRef<[u8]>]) {
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let out = self.buffer();
        let length: usize = pieces.iter().map(|piece| piece.as_ref().len()).sum();
        if let Err(error) = header.format(length as u64, out) {
            // Writing to a Vec does not fail.
            tracing::error!(%error, "a frame header could not be written");
        }
        pieces.iter().for_each(|piece| out.extend_from_slice(piece.as_ref()));
    }

    /// Everything is with the kernel.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Hands the buffer to the kernel; Ready when it took all.
    pub(super) fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.poll_write(cx, &[IoSlice::new(rest)]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(sent)) => self.sent += sent,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // A client that does not read keeps what it was refused, not a buffer several times as large.
                    if rest.len() < self.out.capacity() / 2 {
                        let rest = rest.to_vec();
                        self.discard();
                        self.out = rest;
                    }
                    return Poll::Pending;
                }
            }
        }
        self.discard();
        Poll::Ready(Ok(()))
    }

    /// The client cannot be written to any more.
    pub(super) fn die(&mut self) {
        self.dead = true;
        self.discard();
    }

    /// Gives the buffer back, sent or not.
    fn discard(&mut self) {
        self.sent = 0;
        let mut buffer = std::mem::take(&mut self.out);
        if buffer.capacity() == 0 || buffer.capacity() > POOLED {
            return;
        }
        buffer.clear();
        BUFFERS.with_borrow_mut(|pool| {
            if pool.len() < POOL {
                pool.push(buffer);
            }
        });
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.dead {
            return Poll::Ready(Ok(buf.len()));
        }
        if self.out.len() - self.sent > CONTROL {
            // The session polls again once the buffer is out.
            return Poll::Pending;
        }
        self.buffer().extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown())
    }
}
