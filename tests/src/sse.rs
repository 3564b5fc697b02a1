//! An EventSource: parses the stream as the HTML standard says, and keeps comments too.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;

use crate::engine::Engine;
use crate::run::within;

/// One dispatched event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// `event:`, empty for the default.
    pub event: String,
    /// `id:`, where this event had one.
    pub id: Option<String>,
    /// The `data:` lines, joined.
    pub data: String,
    /// `retry:`, where this event had one.
    pub retry: Option<u64>,
}

impl SseEvent {
    /// The event's own id: what stands before `~`.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn event_id(&self) -> &str {
        self.id.as_deref().expect("an id").split('~').next().expect("a first part")
    }
}

/// An open stream.
pub struct Sse {
    body: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    buffer: Vec<u8>,
    /// Bytes as they came, for tests of the format.
    pub raw: Vec<u8>,
    /// Comments so far.
    pub comments: Vec<String>,
    current: SseEvent,
    data: Vec<String>,
}

impl Sse {
    /// Opens a stream; the first event (`mediation.session`) is returned too.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(engine: &Engine, client_id: &str, query: &str) -> (Self, SseEvent) {
        let request = crate::http().get(engine.url("sse", &format!("/{query}"))).header("x-client-id", client_id);
        let answer = within("the answer to a stream", request.send()).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut sse = Self::of(answer);
        let session = sse.next().await.expect("a first event");
        assert_eq!(session.event, "mediation.session", "{session:?}");
        (sse, session)
    }

    /// The stream of an answer.
    #[must_use]
    pub fn of(answer: reqwest::Response) -> Self {
        Self::parsing(Box::pin(answer.bytes_stream()))
    }

    /// The stream that answers a request which was sent on that connection; nothing has been read from it yet.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn over(socket: TcpStream) -> Self {
        let mut socket = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = within("the answer to a stream", socket.read_line(&mut head)).await.expect("an answer");
            assert_ne!(read, 0, "a whole head, not {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "admitted, not {head}");
        assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
        let chunks = futures_util::stream::unfold(socket, |mut socket| async {
            let chunk = chunk(&mut socket).await.ok()?;
            Some((Ok(chunk), socket))
        });
        Self::parsing(Box::pin(chunks))
    }

    fn parsing(body: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>) -> Self {
        let (buffer, raw) = (Vec::new(), Vec::new());
        Self { body, buffer, raw, comments: Vec::new(), current: SseEvent::default(), data: Vec::new() }
    }

    /// The next event; None at the end of the stream.
    pub async fn next(&mut self) -> Option<SseEvent> {
        loop {
            while let Some(line) = self.line() {
                if let Some(event) = self.take(&line) {
                    return Some(event);
                }
            }
            match within("more of the stream", self.body.next()).await {
                Some(Ok(bytes)) => {
                    self.raw.extend_from_slice(&bytes);
                    self.buffer.extend_from_slice(&bytes);
                }
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next event that is not the engine's own (`mediation.*`).
    ///
    /// # Panics
    /// At the end of the stream.
    pub async fn event(&mut self) -> SseEvent {
        loop {
            let event = self.next().await.expect("an event, not the end of the stream");
            if !event.event.starts_with("mediation.") {
                return event;
            }
        }
    }

    /// The next n events' data.
    pub async fn events(&mut self, n: usize) -> Vec<String> {
        let mut out = Vec::with_capacity(n);
        while out.len() < n {
            out.push(self.event().await.data);
        }
        out
    }

    fn line(&mut self) -> Option<String> {
        let end = self.buffer.iter().position(|b| matches!(b, b'\n' | b'\r'))?;
        let mut skip = end + 1;
        if self.buffer[end] == b'\r' {
            // CR LF is one end of line; the LF may not be here yet.
            match self.buffer.get(end + 1) {
                None => return None,
                Some(b'\n') => skip += 1,
                Some(_) => {}
            }
        }
        let line = String::from_utf8(self.buffer[..end].to_vec()).expect("an event stream is UTF-8");
        self.buffer.drain(..skip);
        Some(line)
    }

    fn take(&mut self, line: &str) -> Option<SseEvent> {
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.current);
            let data = std::mem::take(&mut self.data);
            event.data = data.join("\n");
            return (!data.is_empty()).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match field {
            "" => self.comments.push(value),
            "event" => self.current.event = value,
            "id" => self.current.id = Some(value),
            "retry" => self.current.retry = value.parse().ok(),
            "data" => self.data.push(value),
            _ => {}
        }
        None
    }
}

/// The next chunk of a chunked body (RFC 9112, 7.1).
async fn chunk(socket: &mut BufReader<TcpStream>) -> std::io::Result<Bytes> {
    let mut size = String::new();
    socket.read_line(&mut size).await?;
    let size = usize::from_str_radix(size.trim_end(), 16).map_err(std::io::Error::other)?;
    let mut bytes = vec![0; size + 2];
    socket.read_exact(&mut bytes).await?;
    bytes.truncate(size);
    Ok(bytes.into())
}

impl std::fmt::Debug for Sse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sse({} bytes read)", self.raw.len())
    }
}
