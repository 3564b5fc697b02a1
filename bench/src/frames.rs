//! Counts the frames of a WebSocket by their lengths, without keeping them: the cheapest client there is.

use mediation_tests::raw_ws::{BINARY, CLOSE, PING, TEXT};

/// Where in the stream the client is.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    head: [u8; 10],
    have: usize,
    opcode: u8,
    left: usize,
    control: Vec<u8>,
    /// Payloads of pings that are to be answered.
    pub(crate) pings: Vec<Vec<u8>>,
    /// A close came.
    pub(crate) closed: bool,
}

impl Frames {
    /// Takes what was read; returns how many events ended in it.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> usize {
        let mut events = 0;
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let (now, later) = bytes.split_at(self.left.min(bytes.len()));
                if self.opcode >= CLOSE {
                    self.control.extend_from_slice(now);
                }
                self.left -= now.len();
                bytes = later;
            } else {
                bytes = rest;
                self.head[self.have] = first;
                self.have += 1;
                if !self.parse_head() {
                    continue;
                }
            }
            if self.left == 0 {
                events += self.end();
            }
        }
        events
    }

    /// Whether the head is whole.
    fn parse_head(&mut self) -> bool {
        let head = self.head;
        let (need, len) = match (self.have, head[1]) {
            (0 | 1, _) => return false,
            (_, 126) => (4, u64::from(u16::from_be_bytes([head[2], head[3]]))),
            (_, 127) => (10, head[2..10].iter().fold(0, |len, &b| len << 8 | u64::from(b))),
            (_, short) => (2, u64::from(short)),
        };
        if self.have < need {
            return false;
        }
        self.have = 0;
        self.opcode = head[0] & 15;
        self.left = usize::try_from(len).expect("fits");
        true
    }

    fn end(&mut self) -> usize {
        match self.opcode {
            TEXT | BINARY => return 1,
            PING => self.pings.push(std::mem::take(&mut self.control)),
            CLOSE => self.closed = true,
            _ => {}
        }
        self.control.clear();
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        let mut stream = Vec::new();
        for len in [0_usize, 5, 126, 1024] {
            stream.push(0x81);
            match u8::try_from(len) {
                Ok(short @ 0..126) => stream.push(short),
                _ => stream.extend([126, (len >> 8) as u8, len as u8]),
            }
            stream.extend(vec![0x89; len]);
        }
        stream.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        stream.extend(vec![b'x'; 65_536]);
        stream.extend([0x89, 2, b'h', b'i', 0x88, 0]);
        for cut in [1, 2, 3, 1000, stream.len()] {
            let mut frames = Frames::default();
            let events: usize = stream.chunks(cut).map(|bytes| frames.feed(bytes)).sum();
            assert_eq!(events, 5, "cut at {cut}");
            assert_eq!(frames.pings, [b"hi".to_vec()]);
            assert!(frames.closed);
        }
    }
}
