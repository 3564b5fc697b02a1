//! A WebSocket client on tokio-tungstenite: it answers pings by itself and checks the protocol.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::run::within;

/// A connected client.
#[derive(Debug)]
pub struct Ws {
    stream: WebSocketStream<TcpStream>,
}

/// An answer instead of the upgrade.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// `error.code` of its body.
    pub code: String,
    /// `Retry-After`, where given.
    pub retry_after: Option<String>,
}

impl Ws {
    /// Connects, or says how it was refused.
    ///
    /// # Errors
    /// The engine answered something else than 101.
    ///
    /// # Panics
    /// When there was no HTTP answer at all.
    pub async fn try_open(addr: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, Refusal> {
        let mut request = format!("ws://{addr}{path}").into_client_request().expect("a plain request");
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().expect("a header name");
            request.headers_mut().append(name, value.parse().expect("a header value"));
        }
        let socket = TcpStream::connect(addr).await.expect("the listener accepts");
        let config = WebSocketConfig::default();
        let opening = tokio_tungstenite::client_async_with_config(request, socket, Some(config));
        match within("the answer to an upgrade", opening).await {
            Ok((stream, _)) => Ok(Self { stream }),
            Err(Error::Http(answer)) => {
                let body: Value =
                    answer.body().as_deref().and_then(|b| serde_json::from_slice(b).ok()).unwrap_or_default();
                let code = body["error"]["code"].as_str().unwrap_or_default().to_owned();
                let retry_after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()).map(str::to_owned);
                Err(Refusal { status: answer.status().as_u16(), code, retry_after })
            }
            Err(error) => panic!("upgrade on {addr}{path}: {error}"),
        }
    }

    /// Connects as that client.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(addr: SocketAddr, client_id: &str) -> Self {
        Self::try_open(addr, "/", &[("x-client-id", client_id)]).await.expect("admitted")
    }

    /// Connects as that client with `mediation.v1`; returns the `session` frame too.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open_v1(addr: SocketAddr, client_id: &str, query: &str) -> (Self, Value) {
        let headers = [("x-client-id", client_id), ("sec-websocket-protocol", "mediation.v1")];
        let mut ws = Self::try_open(addr, &format!("/{query}"), &headers).await.expect("admitted");
        let session = ws.json().await;
        assert_eq!(session["type"], "session", "the first frame: {session}");
        (ws, session)
    }

    /// The next data or close frame.
    ///
    /// # Panics
    /// When the connection breaks.
    pub async fn next(&mut self) -> Message {
        loop {
            let message = within("a frame", self.stream.next()).await;
            match message.expect("a frame, not the end").expect("a whole frame") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// The next event's payload.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn event(&mut self) -> Vec<u8> {
        match self.next().await {
            message @ (Message::Text(_) | Message::Binary(_)) => message.into_data().to_vec(),
            other => panic!("an event, not {other:?}"),
        }
    }

    /// The next n events as text.
    pub async fn events(&mut self, n: usize) -> Vec<String> {
        let mut out = Vec::with_capacity(n);
        while out.len() < n {
            out.push(String::from_utf8(self.event().await).expect("text"));
        }
        out
    }

    /// The next `mediation.v1` frame.
    ///
    /// # Panics
    /// When it is none.
    pub async fn json(&mut self) -> Value {
        let text = self.event().await;
        serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&text)))
    }

    /// The next `mediation.v1` frame of that type; others are passed over.
    pub async fn json_of(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.json().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// Sends one message.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn send(&mut self, message: Message) {
        within("room to send", self.stream.send(message)).await.expect("sent");
    }

    /// Sends a `mediation.v1` frame.
    pub async fn send_json(&mut self, frame: Value) {
        self.send(Message::text(frame.to_string())).await;
    }

    /// Acknowledges events by id.
    pub async fn ack(&mut self, ids: &[&Value]) {
        self.send_json(serde_json::json!({ "type": "ack", "ids": ids })).await;
    }

    /// Reads on until the close frame, and returns its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = self.next().await {
                return frame.map_or((1005, String::new()), |f| (f.code.into(), f.reason.to_string()));
            }
        }
    }

    /// Closes as a browser does, and waits for the answer.
    pub async fn close(mut self) {
        self.stream.close(None).await.expect("the close frame is sent");
        within("the end of the connection", async { while let Some(Ok(_)) = self.stream.next().await {} }).await;
    }
}
