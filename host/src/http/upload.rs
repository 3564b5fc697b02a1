//! Request bodies, held to a size and a time.

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::Error;
use crate::config::Entrypoint;

/// Bodies up to this size come as they lie in hyper's read buffer (`max_buf_size` of the listener).
const READ_BUFFER: usize = 16 * 1024;

/// What is read of a body that is too large, so that its client reads the answer and not a reset.
const DRAINED: usize = 16 * 1024 * 1024;

/// Reads a body of at most `max_body` bytes within `body_timeout`.
///
/// # Errors
/// 413, 408, or 400 where the client's connection broke.
pub async fn read(entrypoint: &Entrypoint, mut body: Incoming) -> Result<Bytes, Error> {
    let limit = entrypoint.max_body;
    let too_large = || {
        Error::too_large(format!("the body is larger than max_body of entrypoint {:?}, {limit} bytes", entrypoint.name))
    };
    // Said before it is read, so that a client that asks first (Expect: 100-continue) need not send it.
    let expected = body.size_hint().lower();
    if expected > DRAINED as u64 {
        return Err(too_large());
    }
    let read = async {
        let (mut parts, mut size) = (Vec::new(), 0_usize);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Error::bad_request(format!("the body could not be read: {error}")))?;
            let Ok(data) = frame.into_data() else { continue };
            size += data.len();
            if size > DRAINED {
                break;
            }
            if size <= limit {
                parts.push(data);
            }
        }
        if size > limit {
            return Err(too_large());
        }
        Ok(match parts.pop() {
            Some(only) if parts.is_empty() => only,
            Some(last) => {
                parts.push(last);
                parts.concat().into()
            }
            None => Bytes::new(),
        })
    };
    match tokio::time::timeout(entrypoint.body_timeout, read).await {
        Ok(done) => done.map(own),
        Err(_) => Err(Error::request_timeout(format!("the body did not come within {:?}", entrypoint.body_timeout))),
    }
}

/// A small body is part of hyper's read buffer, which an event on its way would keep: the next request would need a new
/// one. A large one was put together from pieces.
fn own(body: Bytes) -> Bytes {
    if body.len() <= READ_BUFFER { Bytes::copy_from_slice(&body) } else { body }
}
