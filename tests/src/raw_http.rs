//! An HTTP client written by hand, byte by byte: it sends half a body, stops reading, pipelines, and resets.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::run::within;

/// A connection.
#[derive(Debug)]
pub struct RawHttp {
    socket: TcpStream,
}

impl RawHttp {
    /// Connects. `receive_buffer` bounds what the kernel takes while nobody reads.
    ///
    /// # Panics
    /// When nobody accepts.
    pub async fn connect(addr: SocketAddr, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).expect("a buffer size");
        }
        Self { socket: socket.connect(addr).await.expect("the listener accepts") }
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("room to send", self.socket.write_all(bytes.as_ref())).await.expect("sent");
    }

    /// Reads up to the end of `text`, byte by byte, and returns all of it.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn read_until(&mut self, text: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(text.as_bytes()) {
            let next = within(text, self.socket.read_u8()).await;
            read.push(next.unwrap_or_else(|e| panic!("{text:?}: {e} after {:?}", String::from_utf8_lossy(&read))));
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads so many bytes.
    ///
    /// # Panics
    /// When the connection ends before.
    pub async fn read(&mut self, count: usize) -> Vec<u8> {
        let mut read = vec![0; count];
        within("so many bytes", self.socket.read_exact(&mut read)).await.expect("all of it");
        read
    }

    /// Ends its own direction: the engine reads an end of stream.
    ///
    /// # Panics
    /// When the connection is broken.
    pub async fn finish(&mut self) {
        self.socket.shutdown().await.expect("still connected");
    }

    /// Goes with a reset, as a killed process with unread data does.
    ///
    /// # Panics
    /// When the option cannot be set.
    pub fn reset(self) {
        self.socket.set_zero_linger().expect("an option of every TCP socket");
    }
}
