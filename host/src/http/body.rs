//! Response bodies. hyper tells nobody when a body was written and pulls it ahead; so data is a [`Chunk`], a buffer
//! that reports each event whose last byte the kernel took.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

/// Is told how many of a chunk's events the kernel took, in order; and once, when the chunk is gone, how many it never
/// will.
pub trait Written: Send + Sync {
    /// So many more events were written.
    fn written(&self, events: usize);
    /// So many events were dropped unwritten.
    fn lost(&self, events: usize);
}

/// A piece of a body.
pub struct Chunk {
    bytes: Bytes,
    mark: Option<Box<Mark>>,
}

struct Mark {
    /// Where events end, as bytes from the last mark.
    ends: VecDeque<usize>,
    sink: Arc<dyn Written>,
}

impl Chunk {
    /// Bytes that nobody waits for.
    #[must_use]
    pub fn plain(bytes: Bytes) -> Self {
        Self { bytes, mark: None }
    }

    /// Bytes with events that end after `lengths` bytes each.
    #[must_use]
    pub fn marked(bytes: Bytes, lengths: VecDeque<usize>, sink: Arc<dyn Written>) -> Self {
        Self { bytes, mark: Some(Box::new(Mark { ends: lengths, sink })) }
    }
}

impl Buf for Chunk {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes.advance(count);
        let Some(mark) = &mut self.mark else { return };
        let mut events = 0;
        while let Some(left) = mark.ends.front_mut() {
            if *left > count {
                *left -= count;
                break;
            }
            count -= *left;
            mark.ends.pop_front();
            events += 1;
        }
        if events > 0 {
            mark.sink.written(events);
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if !self.ends.is_empty() {
            self.sink.lost(self.ends.len());
        }
    }
}

/// A stream of chunks.
pub type Streaming = Pin<Box<dyn http_body::Body<Data = Chunk, Error = Infallible> + Send>>;

/// A response's body.
pub enum Body {
    /// Known as a whole.
    Whole(Option<Chunk>),
    /// An endless one: SSE.
    Stream(Streaming),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    /// These bytes.
    #[must_use]
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(Chunk::plain(bytes.into())))
    }
}

impl http_body::Body for Body {
    type Data = Chunk;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut *self {
            Self::Whole(chunk) => Poll::Ready(chunk.take().map(|chunk| Ok(Frame::data(chunk)))),
            Self::Stream(stream) => stream.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(chunk)) => SizeHint::with_exact(chunk.remaining() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<i64>>);

    impl Written for Seen {
        fn written(&self, events: usize) {
            self.0.lock().unwrap().push(events as i64);
        }
        fn lost(&self, events: usize) {
            self.0.lock().unwrap().push(-(events as i64));
        }
    }

    #[test]
    fn each_event_is_reported_with_its_last_byte_and_the_rest_as_lost() {
        let seen = Arc::new(Seen::default());
        let mut chunk = Chunk::marked(Bytes::from_static(b"aaabbcccc"), [3, 2, 4].into(), seen.clone());
        chunk.advance(2);
        chunk.advance(1);
        chunk.advance(3);
        drop(chunk);
        assert_eq!(*seen.0.lock().unwrap(), [1, 1, -1]);
    }

    #[test]
    fn a_whole_body_written_in_one_go_reports_all() {
        let seen = Arc::new(Seen::default());
        let mut chunk = Chunk::marked(Bytes::from_static(b"aabb"), [2, 2].into(), seen.clone());
        chunk.advance(4);
        drop(chunk);
        assert_eq!(*seen.0.lock().unwrap(), [2]);
    }
}
