//! The command line: `[run]`, `check`, `healthcheck`.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Loaded, Source};
use crate::engine::{Engine, Watched};
use crate::observe::log::EngineLog;
use crate::observe::metrics::Metrics;

/// Gateway between web clients and event brokers.
#[derive(Debug, Parser)]
#[command(name = "mediation-engine", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine (the default).
    Run(RunOptions),
    /// Check a configuration: its errors all at once, or each route with its effective settings.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Ask a running engine whether it is ready; for containers without a shell.
    Healthcheck(RunOptions),
}

#[derive(Debug, Clone, Default, clap::Args)]
struct RunOptions {
    /// Configuration file. Else CONFIG_PATH, ./config.yaml, /etc/mediation/config.yaml, or the built-in demo.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of plugins; beats `plugins_dir` of the configuration.
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

/// Runs what the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => run(&cli.run),
        Some(Command::Run(options)) => run(&options),
        Some(Command::Check { file }) => check(&Source::File(file)),
        Some(Command::Healthcheck(options)) => healthcheck(&options),
    };
    match done {
        Ok(code) => code,
        // Nobody reads any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            if writeln!(io::stderr(), "mediation-engine: {error}").is_err() {
                return ExitCode::from(2);
            }
            ExitCode::FAILURE
        }
    }
}

fn load(options: &RunOptions) -> io::Result<(Source, Loaded)> {
    let source = config::find(options.config.clone());
    let mut loaded =
        source.load().map_err(|errors| io::Error::other(format!("the configuration is refused\n{errors}")))?;
    if let Some(dir) = &options.plugins {
        loaded.config.plugins_dir.clone_from(dir);
    }
    Ok((source, loaded))
}

fn check(source: &Source) -> io::Result<ExitCode> {
    match source.load() {
        Ok(loaded) => {
            if let Err(errors) = Engine::verify(&loaded.config) {
                writeln!(io::stderr(), "{}", errors.join("\n"))?;
                return Ok(ExitCode::FAILURE);
            }
            write!(io::stdout(), "{}", config::report(&loaded))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            writeln!(io::stderr(), "{errors}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn run(options: &RunOptions) -> io::Result<ExitCode> {
    let (source, loaded) = load(options)?;
    let Loaded { config, warnings, text } = loaded;
    let log = EngineLog::start(&config.log_level).map_err(|error| io::Error::other(error.to_string()))?;
    let log = Arc::new(log);
    tracing::info!(config = %source, "configuration");
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let metrics = Metrics::new();
        metrics.show_engine_log(log.dropped());
        let engine = Engine::start(config, metrics).map_err(|errors| io::Error::other(errors.join("\n")))?;
        if let Source::File(path) = source {
            let log = log.clone();
            let set_level = Box::new(move |level: &str| log.set_level(level).map_err(|error| error.to_string()));
            engine.watch(Watched { path, text: text.0, plugins_dir: options.plugins.clone(), set_level });
        }
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        let clean = tokio::select! {
            clean = engine.drain() => clean,
            _ = int.recv() => false,
        };
        Ok::<_, io::Error>(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    });
    // A client library that does not let go must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    if !log.flush(Duration::from_millis(500)) {
        writeln!(io::stderr(), "mediation-engine: the end of the engine log was not written")?;
    }
    code
}

fn healthcheck(options: &RunOptions) -> io::Result<ExitCode> {
    let (_, loaded) = load(options)?;
    let admin = &loaded.config.admin;
    let host = admin.bind.as_deref().map(|bind| bind.trim_matches(['[', ']']));
    let host = match host {
        None | Some("::" | "0.0.0.0") => "127.0.0.1",
        Some(host) => host,
    };
    let asked = format!("{host}:{}", admin.port);
    let mut stream = TcpStream::connect((host, admin.port)).map_err(|error| {
        io::Error::other(format!(
            "nobody answers on {asked} ({error}): is the engine running, and with this configuration?"
        ))
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let ready = answer.split(' ').nth(1) == Some("200");
    writeln!(io::stdout(), "{}", answer.split("\r\n\r\n").nth(1).unwrap_or("no answer"))?;
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
