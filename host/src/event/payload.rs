//! An event's payload: one run of bytes, or several that a plugin put together around what the event came with.
//! Wrapping and cutting share the bytes; they are joined only where a client library wants one run.

use std::borrow::Cow;
use std::slice;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// See the module's documentation. Cloning shares the bytes.
#[derive(Debug, Clone)]
pub enum Payload {
    /// As it came.
    Whole(Bytes),
    /// One after the other.
    Pieces(Arc<[Bytes]>),
}

impl Payload {
    /// Of pieces in order; empty ones are left out.
    #[must_use]
    pub fn joined(mut pieces: Vec<Bytes>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        match pieces.len() {
            0 => Self::default(),
            1 => Self::Whole(pieces.pop().unwrap_or_default()),
            _ => Self::Pieces(pieces.into()),
        }
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces().iter().map(Bytes::len).sum()
    }

    /// No bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The runs, in order.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        match self {
            Self::Whole(bytes) => slice::from_ref(bytes),
            Self::Pieces(pieces) => pieces,
        }
    }

    /// One run of bytes; copies where there are several.
    #[must_use]
    pub fn contiguous(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Whole(bytes) => Cow::Borrowed(bytes),
            Self::Pieces(_) => Cow::Owned(self.join().to_vec()),
        }
    }

    /// The same as shared bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.clone(),
            Self::Pieces(_) => self.join().freeze(),
        }
    }

    /// Appends a part to `out`, sharing its bytes; false, and nothing appended, when it reaches outside.
    pub fn share(&self, offset: u64, size: u64, out: &mut Vec<Bytes>) -> bool {
        let (Ok(mut skip), Ok(mut want)) = (usize::try_from(offset), usize::try_from(size)) else { return false };
        if skip.checked_add(want).is_none_or(|end| end > self.len()) {
            return false;
        }
        for piece in self.pieces() {
            if skip >= piece.len() {
                skip -= piece.len();
                continue;
            }
            let take = want.min(piece.len() - skip);
            if take > 0 {
                out.push(piece.slice(skip..skip + take));
            }
            (skip, want) = (0, want - take);
        }
        true
    }

    fn join(&self) -> BytesMut {
        let mut all = BytesMut::with_capacity(self.len());
        self.pieces().iter().for_each(|piece| all.extend_from_slice(piece));
        all
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.contiguous() == other.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_and_never_reach_outside() {
        let whole = Payload::Whole(Bytes::from_static(b"0123456789"));
        let wrapped = Payload::joined(vec![Bytes::from_static(b"<"), Bytes::new(), Bytes::from_static(b"abc>")]);
        assert_eq!((wrapped.len(), &*wrapped.contiguous()), (5, &b"<abc>"[..]));
        let cut = |payload: &Payload, offset, size| {
            let mut out = Vec::new();
            payload.share(offset, size, &mut out).then(|| Payload::joined(out).to_bytes())
        };
        assert_eq!(cut(&whole, 2, 3).as_deref(), Some(&b"234"[..]));
        assert_eq!(cut(&wrapped, 0, 5).as_deref(), Some(&b"<abc>"[..]));
        assert_eq!(cut(&wrapped, 1, 3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(cut(&whole, 10, 0).as_deref(), Some(&b""[..]));
        for (offset, size) in [(0, 11), (10, 1), (11, 0), (u64::MAX, 1), (1, u64::MAX)] {
            assert_eq!(cut(&whole, offset, size), None, "{offset} {size}");
        }
    }
}
