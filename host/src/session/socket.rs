//! A client's socket, TCP or Unix, behind one shared handle: its task reads and writes, the sweeper asks the kernel
//! about the peer.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process on this host.
    Unix,
}

impl Peer {
    /// Its address, where it has one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{}:{}", address.ip().to_canonical(), address.port()),
            Self::Unix => f.write_str("unix"),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// See the module's documentation.
pub struct Socket {
    stream: Stream,
    peer: Peer,
    killed: AtomicBool,
    killer: AtomicWaker,
    /// Whatever is to live as long as the socket.
    held: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Socket {
    /// Of an accepted TCP connection.
    #[must_use]
    pub fn tcp(stream: TcpStream, peer: SocketAddr) -> Arc<Self> {
        Self::new(Stream::Tcp(stream), Peer::Tcp(peer))
    }

    /// Of an accepted Unix connection.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Arc<Self> {
        Self::new(Stream::Unix(stream), Peer::Unix)
    }

    fn new(stream: Stream, peer: Peer) -> Arc<Self> {
        Arc::new(Self {
            stream,
            peer,
            killed: AtomicBool::new(false),
            killer: AtomicWaker::new(),
            held: OnceLock::new(),
        })
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Sets its options; what the kernel refuses is no reason to refuse the client.
    pub fn prepare(&self, send_buffer: usize) {
        let done = match &self.stream {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true).and_then(|()| socket2::SockRef::from(stream).set_send_buffer_size(send_buffer))
            }
            Stream::Unix(stream) => socket2::SockRef::from(stream).set_send_buffer_size(send_buffer),
        };
        if let Err(error) = done {
            tracing::debug!(%error, "socket options");
        }
    }

    /// Keeps `guard` for as long as the socket lives.
    pub fn hold(&self, guard: impl Any + Send + Sync) {
        if self.held.set(Box::new(guard)).is_err() {
            tracing::error!("a socket holds a guard already");
        }
    }

    /// Asks the connection's task to drop it at once: nothing can be said to this client any more.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.killer.wake();
    }

    /// Ready once [`kill`](Self::kill) was called.
    pub fn poll_killed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.killer.register(cx.waker());
        if self.killed.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Nobody waits in [`poll_killed`](Self::poll_killed) any more: a waker that stays would keep its ended task's memory.
    pub fn forget_killer(&self) {
        drop(self.killer.take());
    }

    /// Whether the peer has closed or reset, seen without reading: for sockets that are not read at the moment.
    #[must_use]
    pub fn peer_has_left(&self) -> bool {
        let wanted = PollFlags::from_bits_retain(libc::POLLRDHUP);
        let mut fds = [PollFd::new(self.fd(), wanted)];
        match poll(&mut fds, PollTimeout::ZERO) {
            // Any answer is one of RDHUP (unknown to the library: None), HUP and ERR.
            Ok(ready) => ready > 0,
            Err(_) => false,
        }
    }

    /// Whether the kernel keeps repeating itself to the peer without an answer: segments that are being retransmitted,
    /// or three and more window probes. A live peer that merely does not read answers probes.
    #[must_use]
    pub fn peer_is_silent(&self) -> bool {
        if !matches!(self.stream, Stream::Tcp(_)) {
            return false;
        }
        match getsockopt(&self.fd(), TcpInfo) {
            Ok(info) => (info.tcpi_unacked > 0 && info.tcpi_retransmits > 0) || info.tcpi_probes >= 3,
            Err(_) => false,
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }

    /// Reads what is there.
    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let done = match &self.stream {
                Stream::Tcp(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_read_buf(buf)
                }
                Stream::Unix(stream) => {
                    ready!(stream.poll_read_ready(cx))?;
                    stream.try_read_buf(buf)
                }
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other.map(drop)),
            }
        }
    }

    /// Writes what the kernel takes.
    pub fn poll_write(&self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let done = match &self.stream {
                Stream::Tcp(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_write_vectored(bufs)
                }
                Stream::Unix(stream) => {
                    ready!(stream.poll_write_ready(cx))?;
                    stream.try_write_vectored(bufs)
                }
            };
            match done {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }

    /// Ends our direction: the peer reads an end of stream.
    ///
    /// # Errors
    /// The peer is gone already.
    pub fn shutdown(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write),
        }
    }
}

#[allow(unsafe_code, reason = "nix's own macro for a socket option that nix does not name")]
mod option {
    use nix::{getsockopt_impl, libc, sockopt_impl};

    sockopt_impl!(
        /// The kernel's view of a TCP connection, see tcp(7).
        TcpInfo, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, libc::tcp_info
    );
}
use option::TcpInfo;

/// The half that reads and writes, as hyper and tungstenite want it.
pub struct Io(pub Arc<Socket>);

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.poll_read(cx, buf)
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shutdown())
    }
}
