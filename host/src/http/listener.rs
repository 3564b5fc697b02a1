//! Binding and accepting: one accept loop a listener, one task a connection. An accept error is never fatal, and no
//! handshake happens in the loop.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::Response;
use super::limiter::Limiter;
use crate::session::socket::{Io, Socket};

/// Connections above `max_connections` that are let in to be told so.
const REFUSALS: usize = 64;

/// What a connection's requests are answered by.
pub type Handler = Arc<dyn Fn(Connection, Request<Incoming>) -> BoxFuture<'static, Response> + Send + Sync>;

/// The connection that a request came on.
#[derive(Clone)]
pub struct Connection {
    /// Its socket.
    pub socket: Arc<Socket>,
    /// `max_connections` is reached: whatever it asks, it is told so.
    pub over_limit: bool,
}

/// A listener's limits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections.
    pub max_connections: usize,
    /// Accepted a second.
    pub per_second: u32,
    /// `SO_SNDBUF` of each, bytes.
    pub send_buffer: usize,
    /// How long a request's head may take, and a connection may idle between requests.
    pub header_timeout: Duration,
}

/// What counts for connections that are accepted from now on.
pub struct Options {
    /// Its limits.
    pub limits: Limits,
    /// Who answers.
    pub handler: Handler,
}

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// An address (none: `[::]`, else `0.0.0.0`) and a port.
    Tcp(Option<&'a str>, u16),
    /// A Unix socket's path.
    Unix(&'a Path),
}

/// A bound listener.
pub enum Bound {
    /// TCP.
    Tcp(TcpListener),
    /// Unix; the file is removed at the end.
    Unix(UnixListener, PathBuf),
}

impl Bound {
    /// Binds.
    ///
    /// # Errors
    /// With the place in words.
    pub fn new(place: &Place<'_>) -> io::Result<Self> {
        let named = |what: String| {
            move |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {what}: {error}"))
        };
        match place {
            Place::Unix(path) => {
                // A file that nobody listens on is what a killed engine leaves behind.
                let left = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
                if left && std::os::unix::net::UnixStream::connect(path).is_err() {
                    std::fs::remove_file(path).map_err(named(path.display().to_string()))?;
                }
                Ok(Self::Unix(UnixListener::bind(path).map_err(named(path.display().to_string()))?, path.to_path_buf()))
            }
            Place::Tcp(Some(host), port) => {
                let host = host.trim_matches(['[', ']']);
                let ip = host.parse().map_err(|_| {
                    io::Error::new(
                        io::ErrorKind::InvalidInput,
                        format!("cannot listen on {host:?}: bind takes an IP address"),
                    )
                })?;
                let address = SocketAddr::new(ip, *port);
                Ok(Self::Tcp(tcp(address).map_err(named(address.to_string()))?))
            }
            Place::Tcp(None, port) => {
                let (six, four) = ((Ipv6Addr::UNSPECIFIED, *port).into(), (Ipv4Addr::UNSPECIFIED, *port).into());
                match tcp(six) {
                    Ok(listener) => Ok(Self::Tcp(listener)),
                    // No IPv6 on this host.
                    Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                        Ok(Self::Tcp(tcp(four).map_err(named(format!("{four}")))?))
                    }
                    Err(error) => Err(named(format!("{six}"))(error)),
                }
            }
        }
    }

    /// The bound address, as clients on this host reach it.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) if address.ip().is_unspecified() => format!("127.0.0.1:{}", address.port()),
                Ok(address) => address.to_string(),
                Err(error) => error.to_string(),
            },
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    async fn accept(&self) -> io::Result<Arc<Socket>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok(Socket::tcp(stream, peer))
            }
            Self::Unix(listener, _) => Ok(Socket::unix(listener.accept().await?.0)),
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self
            && let Err(error) = std::fs::remove_file(&*path)
        {
            tracing::warn!(path = %path.display(), %error, "the socket file was not removed");
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until told to stop.
pub async fn serve(
    name: Arc<str>,
    bound: Arc<Bound>,
    options: Arc<ArcSwap<Options>>,
    observer: Arc<dyn Observer>,
    tasks: TaskTracker,
    mut stop: watch::Receiver<bool>,
) {
    let open = Arc::new(AtomicUsize::new(0));
    let refusals = Arc::new(AtomicUsize::new(0));
    let mut rate = options.load().limits.per_second;
    let mut limiter = Limiter::new(rate, Instant::now());
    loop {
        let accepted = tokio::select! {
            accepted = bound.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(listener = %name, %error, "accept failed; going on");
                // Out of descriptors: the next accept would fail at once too.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let now = options.load_full();
        socket.prepare(now.limits.send_buffer);
        let (place, over_limit) = if let Some(place) = Taken::take(&open, now.limits.max_connections) {
            (place, false)
        } else if let Some(place) = Taken::take(&refusals, REFUSALS) {
            (place, true)
        } else {
            observer.refused("max_connections");
            continue;
        };
        if over_limit {
            observer.refused("max_connections");
        }
        socket.hold(Guard { _taken: place, observer: observer.clone() });
        observer.opened();
        let connection = Connection { socket, over_limit };
        tasks.spawn(connection_task(connection, now.limits.header_timeout, now.handler.clone(), stop.clone()));
        if rate != now.limits.per_second {
            rate = now.limits.per_second;
            limiter = Limiter::new(rate, Instant::now());
        }
        let wait = limiter.take(Instant::now());
        if !wait.is_zero() {
            // What is not accepted waits in the kernel's queue: gentler than refusing.
            tokio::time::sleep(wait).await;
        }
    }
}

/// Is told about connections, for metrics.
pub trait Observer: Send + Sync {
    /// One came.
    fn opened(&self);
    /// One went.
    fn closed(&self);
    /// One was refused.
    fn refused(&self, why: &'static str);
}

/// Lives as long as the socket.
struct Guard {
    _taken: Taken,
    observer: Arc<dyn Observer>,
}

/// One of a bounded number of connections, until it is dropped. The bound may change; only the accept loop takes.
struct Taken(Arc<AtomicUsize>);

impl Taken {
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        if taken.load(Ordering::Acquire) >= most {
            return None;
        }
        taken.fetch_add(1, Ordering::AcqRel);
        Some(Self(taken.clone()))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.observer.closed();
    }
}

async fn connection_task(
    connection: Connection,
    header_timeout: Duration,
    handler: Handler,
    mut stop: watch::Receiver<bool>,
) {
    let socket = connection.socket.clone();
    let service = service_fn(move |request| {
        let answer = handler(connection.clone(), request);
        async move { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .writev(true)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(Io(socket.clone())), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    let mut stopping = std::pin::pin!(stop.wait_for(|stop| *stop));
    let mut told = false;
    let done = std::future::poll_fn(|cx| {
        if socket.poll_killed(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if !told && stopping.as_mut().poll(cx).is_ready() {
            told = true;
            served.as_mut().graceful_shutdown();
        }
        served.as_mut().poll(cx)
    });
    if let Err(error) = done.await {
        tracing::debug!(%error, "a connection ended");
    }
    // After an upgrade the socket lives on.
    socket.forget_killer();
}
