//! The baselines: the same work without the engine. Each runs in a process of its own, this program called again, so
//! that /proc counts it alone.
//!
//! A child says `ready ADDRESS` or `ready -` on standard output, and at its end `done CPU_MICROSECONDS MICROSECONDS`.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mediation_tests::eventually;
use mediation_tests::process::{Child, spawn};
use rdkafka::ClientConfig;
use rdkafka::Message as _;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::net::{TcpListener, TcpStream};

use crate::PAYLOAD;
use crate::kafka::payload;
use crate::proc::{Cost, Meter};

/// What to run bare.
#[derive(Debug, Clone, clap::Subcommand)]
#[command(hide = true)]
pub(crate) enum Bare {
    /// Reads a topic from its start.
    Consumer { bootstrap: String, topic: String, count: usize },
    /// Writes frames of the events' size to a socket, as many a write as the engine takes at once.
    Socket { to: SocketAddr, count: usize },
    /// Publishes, confirmed, so many in flight.
    Producer { bootstrap: String, topic: String, count: usize, in_flight: usize },
    /// Answers every POST as the engine does.
    Http,
    /// Holds connections, a task each.
    Tasks,
}

/// A started baseline.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(args: &[&str]) -> Self {
        let this = Self { child: spawn(&std::env::current_exe().expect("a path"), args, &[]) };
        this.line("ready ").await;
        this
    }

    /// Where it listens.
    pub(crate) async fn addr(&self) -> SocketAddr {
        self.line("ready ").await.parse().expect("an address")
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid().unsigned_abs()
    }

    /// What its work cost, by its own count.
    pub(crate) async fn cost(&self) -> Cost {
        let line = self.line("done ").await;
        let (cpu, took) = line.split_once(' ').expect("two numbers");
        let micros = |n: &str| Duration::from_micros(n.parse().expect("a number"));
        Cost { cpu: micros(cpu), took: micros(took) }
    }

    async fn line(&self, prefix: &str) -> String {
        eventually(&format!("a baseline says {prefix:?}"), async || {
            let lines = self.child.stdout.lines();
            let found = lines.iter().find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
            found.ok_or_else(|| self.child.stderr.tail(5))
        })
        .await
    }
}

/// The child's side.
pub(crate) async fn run(bare: &Bare) {
    match bare {
        Bare::Consumer { bootstrap, topic, count } => consume(bootstrap, topic, *count).await,
        Bare::Socket { to, count } => write_frames(*to, *count),
        Bare::Producer { bootstrap, topic, count, in_flight } => produce(bootstrap, topic, *count, *in_flight).await,
        Bare::Http => serve().await,
        Bare::Tasks => hold().await,
    }
}

fn say(line: &str) {
    println!("{line}");
    std::io::stdout().flush().expect("somebody reads");
}

fn done(meter: &Meter) {
    let Cost { cpu, took } = meter.stop();
    say(&format!("done {} {}", cpu.as_micros(), took.as_micros()));
}

async fn consume(bootstrap: &str, topic: &str, count: usize) {
    let meter = Meter::start(std::process::id());
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "bare").set("enable.auto.commit", "false");
    // As the engine's consumers.
    config.set("fetch.message.max.bytes", "1048576").set("queued.max.messages.kbytes", "4096");
    config.set("queued.min.messages", "10000").set("fetch.queue.backoff.ms", "10");
    config.set("fetch.max.bytes", "4194304");
    let consumer: StreamConsumer = config.create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(0)).expect("an offset");
    consumer.assign(&list).expect("assigned");
    say("ready -");
    let mut bytes = 0;
    for _ in 0..count {
        bytes += consumer.recv().await.expect("a message").payload().map_or(0, <[u8]>::len);
    }
    assert_eq!(bytes, count * PAYLOAD, "all of them");
    done(&meter);
    std::process::exit(0); // closing takes a while and is not measured
}

fn write_frames(to: SocketAddr, count: usize) {
    let mut socket = std::net::TcpStream::connect(to).expect("somebody listens");
    socket.set_nodelay(true).expect("an option of every TCP socket");
    say("ready -");
    let meter = Meter::start(std::process::id());
    let payload = payload();
    let (mut left, mut out) = (count, Vec::new());
    while left > 0 {
        out.clear();
        let batch = left.min(128);
        for _ in 0..batch {
            out.extend([0x81, 126]);
            out.extend(u16::try_from(PAYLOAD).expect("small").to_be_bytes());
            out.extend_from_slice(&payload);
        }
        socket.write_all(&out).expect("sent");
        left -= batch;
    }
    done(&meter);
}

async fn produce(bootstrap: &str, topic: &str, count: usize, in_flight: usize) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("acks", "all").set("enable.idempotence", "true");
    config.set("linger.ms", "1"); // as the engine's producer
    let producer: FutureProducer = config.create().expect("a producer");
    let payload: Arc<[u8]> = payload().into();
    let send = async |producer: &FutureProducer, topic: &str| {
        let record = FutureRecord::<[u8], [u8]>::to(topic).payload(&payload);
        producer.send(record, Duration::from_secs(30)).await.expect("confirmed");
    };
    send(&producer, topic).await; // the first one waits for metadata
    say("ready -");
    let meter = Meter::start(std::process::id());
    let left = AtomicUsize::new(count);
    let one = async || {
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            send(&producer, topic).await;
        }
    };
    futures_util::future::join_all((0..in_flight).map(|_| one())).await;
    done(&meter);
}

async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    say(&format!("ready {}", listener.local_addr().expect("bound")));
    listener
}

async fn serve() {
    let listener = listen().await;
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        socket.set_nodelay(true).expect("an option of every TCP socket");
        tokio::spawn(async move {
            let service = hyper::service::service_fn(answer);
            // A client that leaves is no error of this one.
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await);
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.expect("a whole body").to_bytes();
    assert_eq!(body.len(), PAYLOAD, "1 KiB");
    let text = r#"{"status":"published","id":"01890a5d-ac96-774b-bcce-b302099a8057"}"#;
    let answer = Response::builder().header("content-type", "application/json").header("cache-control", "no-store");
    Ok(answer.body(Full::from(text)).expect("plain"))
}

async fn hold() {
    let listener = listen().await;
    loop {
        let (socket, _) = listener.accept().await.expect("a connection");
        tokio::spawn(sink(socket));
    }
}

async fn sink(socket: TcpStream) {
    while socket.readable().await.is_ok() {
        let mut buffer = [0; 1024];
        match socket.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
