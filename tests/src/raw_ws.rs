//! A WebSocket client written by hand, frame by frame: it withholds pongs, stops reading, resets, and sends nonsense.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::run::within;

/// Frame types (RFC 6455, 5.2).
pub const TEXT: u8 = 1;
/// See [`TEXT`].
pub const BINARY: u8 = 2;
/// See [`TEXT`].
pub const CLOSE: u8 = 8;
/// See [`TEXT`].
pub const PING: u8 = 9;
/// See [`TEXT`].
pub const PONG: u8 = 10;

/// The header line that asks for `mediation.v1`.
pub const V1: &str = "Sec-WebSocket-Protocol: mediation.v1\r\n";

/// A connected client.
#[derive(Debug)]
pub struct RawWs {
    socket: TcpStream,
}

impl RawWs {
    /// Connects as that client. `receive_buffer` bounds what the kernel takes while nobody reads.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(addr: SocketAddr, client_id: &str, receive_buffer: Option<u32>) -> Self {
        Self::over(connect(addr, receive_buffer).await, client_id, "").await
    }

    /// Connects as that client with `mediation.v1`.
    pub async fn open_v1(addr: SocketAddr, client_id: &str) -> Self {
        Self::over(connect(addr, None).await, client_id, V1).await
    }

    /// Opens over a connection that is there; `more` are further header lines.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn over(mut socket: TcpStream, client_id: &str, more: &str) -> Self {
        let addr = socket.peer_addr().expect("it is connected");
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Client-ID: {client_id}\r\n{more}\r\n"
        );
        socket.write_all(request.as_bytes()).await.expect("sent");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the answer to an upgrade", socket.read_u8()).await.expect("an answer"));
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(head.starts_with("HTTP/1.1 101"), "admitted, not {head}");
        Self { socket }
    }

    /// The next frame: its type and payload. Pings are not answered.
    ///
    /// # Panics
    /// When the connection ends.
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        within("a frame", self.read_frame()).await.expect("a whole frame")
    }

    /// The next event's payload; passes over pings and leaves them unanswered.
    ///
    /// # Panics
    /// When something else comes.
    pub async fn event(&mut self) -> Vec<u8> {
        loop {
            match self.frame().await {
                (TEXT | BINARY, payload) => return payload,
                (PING, _) => {}
                other => panic!("an event, not {other:?}"),
            }
        }
    }

    /// The next ping's payload; passes over events.
    pub async fn ping(&mut self) -> Vec<u8> {
        loop {
            if let (PING, payload) = self.frame().await {
                return payload;
            }
        }
    }

    async fn read_frame(&mut self) -> std::io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.socket.read_exact(&mut head).await?;
        assert_eq!(head[0] & 0xf0, 0x80, "whole frames without extensions");
        assert_eq!(head[1] & 0x80, 0, "servers do not mask");
        let len = match head[1] {
            126 => u64::from(self.socket.read_u16().await?),
            127 => self.socket.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(len).expect("fits")];
        self.socket.read_exact(&mut payload).await?;
        Ok((head[0] & 0x0f, payload))
    }

    /// Sends one frame.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) {
        self.socket.write_all(&frame(opcode, payload)).await.expect("sent");
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("sent");
    }

    /// The socket, to fill or half-close.
    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Goes with a reset, as a killed process with unread data does.
    ///
    /// # Panics
    /// When the option cannot be set.
    pub fn reset(self) {
        self.socket.set_zero_linger().expect("an option of every TCP socket");
    }
}

async fn connect(addr: SocketAddr, receive_buffer: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).expect("a buffer size");
    }
    let socket = socket.connect(addr).await.expect("the listener accepts");
    socket.set_nodelay(true).expect("an option of every TCP socket");
    socket
}

/// A masked frame (the mask is all zeros: allowed, and readable in a capture).
#[must_use]
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        short @ 0..126 => out.push(0x80 | u8::try_from(short).expect("below 126")),
        middle @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(middle).expect("fits").to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend(payload);
    out
}
