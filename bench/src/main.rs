//! The benchmark of `make bench`: it starts a Kafka and the engine, loads them on loopback and ends by itself.
//!
//! Each figure stands beside bare clients that do the same work without the engine, in the same run. It has no
//! thresholds: it prints, the reader judges. docs/benchmarks.md says how.
//!
//! - `downstream` Kafka to one WebSocket client
//! - `publish` POST to Kafka, confirmed
//! - `idle` memory of sessions
//! - `bare` the baselines, each a process of its own: this program, called with a sub-command
//! - `kafka`, `frames`, `client` the load
//! - `proc` CPU and memory from /proc
//! - `report` the tables

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark that cannot go on ends")]
#![allow(clippy::indexing_slicing, reason = "lengths are known; a miss ends the benchmark")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report is its output")]

mod bare;
mod client;
mod downstream;
mod frames;
mod idle;
mod kafka;
mod proc;
mod publish;
mod report;

use clap::Parser as _;
use mediation_tests::Kafka;

use crate::report::Report;

/// What one event is: 1 KiB.
pub(crate) const PAYLOAD: usize = 1024;

/// Measures the engine named by MEDIATION_ENGINE.
#[derive(clap::Parser)]
struct Args {
    /// Small counts and one run: shows that it works, its figures say nothing.
    #[arg(long)]
    smoke: bool,
    /// Runs of each measurement.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only this part.
    #[arg(long)]
    only: Option<Part>,
    /// KEY=VALUE for librdkafka, as the engine's endpoint has it under `properties`.
    #[arg(long = "property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
    /// Writes the results into docs/benchmarks.md.
    #[arg(long)]
    write: bool,
    #[command(subcommand)]
    bare: Option<bare::Bare>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Downstream,
    Publish,
    Idle,
}

/// How much of everything.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// Runs of each measurement.
    pub(crate) runs: usize,
    /// Events from Kafka to the client.
    pub(crate) events: usize,
    /// Confirmed POSTs.
    pub(crate) requests: usize,
    /// Idle sessions.
    pub(crate) sessions: usize,
    /// Under `properties` of the engine's endpoint.
    pub(crate) properties: serde_json::Value,
}

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("runtime");
    match &args.bare {
        Some(bare) => runtime.block_on(bare::run(bare)),
        None => runtime.block_on(measure(&args)),
    }
    runtime.shutdown_background();
}

async fn measure(args: &Args) {
    let pairs = args.properties.iter().map(|pair| pair.split_once('=').expect("KEY=VALUE"));
    let properties = pairs.map(|(key, value)| (key.to_owned(), serde_json::Value::from(value))).collect();
    let scale = if args.smoke {
        Scale { runs: 1, events: 5_000, requests: 1_000, sessions: 100, properties }
    } else {
        Scale { runs: args.runs.max(1), events: 500_000, requests: 150_000, sessions: 5_000, properties }
    };
    let wants = |part| args.only.is_none_or(|only| only == part);
    let mut report = Report::new(scale.clone());
    if wants(Part::Downstream) || wants(Part::Publish) {
        let kafka = tokio::task::spawn_blocking(Kafka::start).await.expect("Kafka starts");
        if wants(Part::Downstream) {
            downstream::measure(&kafka, &scale, &mut report).await;
        }
        if wants(Part::Publish) {
            publish::measure(&kafka, &scale, &mut report).await;
        }
    }
    if wants(Part::Idle) {
        idle::measure(&scale, &mut report).await;
    }
    println!("\n{report}");
    if args.smoke {
        println!("(--smoke: too few to mean anything)");
    }
    if args.write {
        report.write();
    }
}
