//! Resume tokens: a vector of positions, one for each partition, as base64url text that clients send back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Above this many partitions a subscription has no token: it would not fit a header line well.
pub const MAX_POSITIONS: usize = 32;

const VERSION: u64 = 1;

/// What a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Hash of the endpoint's name and its topics.
    pub hash: u64,
    /// `memory`'s boot time in milliseconds; 0 on brokers that outlive the engine.
    pub epoch: u64,
}

impl Scope {
    /// The scope of an endpoint and its topics (FNV-1a: the same in every engine and version).
    #[must_use]
    pub fn new<'a>(endpoint: &str, topics: impl IntoIterator<Item = &'a str>, epoch: u64) -> Self {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |text: &str| {
            for byte in text.bytes().chain([0]) {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        eat(endpoint);
        for topic in topics {
            eat(topic);
        }
        Self { hash, epoch }
    }
}

/// The first event not yet given, in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Index of the topic in the endpoint's list.
    pub topic: u16,
    /// The partition.
    pub partition: i32,
    /// The offset of the first event not yet given.
    pub offset: i64,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeToken {
    /// What it belongs to.
    pub scope: Scope,
    /// One a partition.
    pub positions: Vec<Position>,
}

impl ResumeToken {
    /// As text; None above [`MAX_POSITIONS`].
    #[must_use]
    pub fn encode(scope: Scope, positions: impl Iterator<Item = Position>) -> Option<String> {
        let mut raw = Vec::with_capacity(64);
        put(&mut raw, VERSION);
        raw.extend_from_slice(&scope.hash.to_le_bytes());
        put(&mut raw, scope.epoch);
        for (count, position) in positions.enumerate() {
            if count == MAX_POSITIONS {
                return None;
            }
            put(&mut raw, u64::from(position.topic));
            put(&mut raw, u64::from(position.partition.unsigned_abs()));
            put(&mut raw, position.offset.max(0).unsigned_abs());
        }
        Some(URL_SAFE_NO_PAD.encode(raw))
    }

    /// From text that a client sent.
    ///
    /// # Errors
    /// Says in words what is wrong with it.
    pub fn decode(text: &str) -> Result<Self, String> {
        let bad = || "the resume token is damaged: send it back exactly as it was received, or leave it out".to_owned();
        if text.len() > 2048 {
            return Err(bad());
        }
        let raw = URL_SAFE_NO_PAD.decode(text).map_err(|_| bad())?;
        let mut rest = raw.as_slice();
        if take(&mut rest).ok_or_else(bad)? != VERSION {
            return Err(
                "the resume token is of another version of the engine: leave it out and start afresh".to_owned()
            );
        }
        let (hash, mut rest) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
        let scope = Scope { hash: u64::from_le_bytes(*hash), epoch: take(&mut rest).ok_or_else(bad)? };
        let mut positions = Vec::new();
        while !rest.is_empty() {
            let mut number = || take(&mut rest).ok_or_else(bad);
            let position = Position {
                topic: u16::try_from(number()?).map_err(|_| bad())?,
                partition: i32::try_from(number()?).map_err(|_| bad())?,
                offset: i64::try_from(number()?).map_err(|_| bad())?,
            };
            if positions.len() == MAX_POSITIONS {
                return Err(bad());
            }
            positions.push(position);
        }
        Ok(Self { scope, positions })
    }

    /// The position of one partition.
    #[must_use]
    pub fn find(&self, topic: u16, partition: i32) -> Option<i64> {
        self.positions.iter().find(|p| p.topic == topic && p.partition == partition).map(|p| p.offset)
    }
}

/// LEB128, as protobuf has it.
fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        let scope = Scope::new("kafka-main", ["a", "b"], 1_700_000_000_000);
        let positions =
            [Position { topic: 0, partition: 0, offset: 0 }, Position { topic: 1, partition: 31, offset: i64::MAX }];
        let text = ResumeToken::encode(scope, positions.into_iter()).expect("few positions");
        assert_eq!(ResumeToken::decode(&text), Ok(ResumeToken { scope, positions: positions.to_vec() }));
    }

    #[test]
    fn damaged_tokens_are_refused_in_words() {
        for text in ["", "!", "AA", "AQ", &"A".repeat(4000), "AQAAAAAAAAAAgA"] {
            let error = ResumeToken::decode(text).expect_err(text);
            assert!(error.contains("resume token"), "{error}");
        }
    }

    #[test]
    fn too_many_partitions_have_no_token() {
        let many: Vec<_> = (0..33).map(|partition| Position { topic: 0, partition, offset: 1 }).collect();
        assert_eq!(ResumeToken::encode(Scope { hash: 1, epoch: 0 }, many.into_iter()), None);
    }
}
