//! `alys-stream node`: runs a node.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_actor::{StopReason, StreamConfig, StreamSystem};
use alys_stream_config::{Loaded, NodeConfig};
use alys_stream_protocol::time::{SystemClock, WallClock as _};
use alys_stream_telemetry::admin::serve as serve_admin;
use alys_stream_telemetry::logs;
use alys_stream_telemetry::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::reload::{InForce, Reload};
use crate::admin::Admin;
use crate::failure::{EXIT_CODES, Failure};
use crate::output;
use crate::stop::{Asked, Stop};
use crate::submission::listen::Listener;
use crate::submission::server::serve as serve_submissions;

pub(crate) mod reload;

const AFTER_HELP: &str = "\
Examples:
  alys-stream init --dir dev
  alys-stream node --config dev/node/node.yaml --check
  alys-stream node --config dev/node/node.yaml

SIGTERM or Ctrl-C finishes what is in flight (shutdown.drain, 30 s by default); a second one stops
at once. Neither loses anything: what was accepted is on disk.

SIGHUP reads the file again: `balance` comes into force at once, and the log names what else differs
and needs a restart. A file that is wrong changes nothing.";

/// What this program calls itself toward governance.
pub(crate) const SOFTWARE: &str = concat!("alys-stream/", env!("CARGO_PKG_VERSION"));

/// Longest stop of a node whose parent is gone.
const ABANDONED_STOP_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(
    about = "Run a node",
    long_about = "Runs a node: holds streams to all configured governance nodes, accepts messages \
                  on its submission interface once they are on disk, delivers them, and collects \
                  signatures. Metrics, health and status are on the admin port; logs go to \
                  standard error.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    /// Configuration file (YAML); `init` writes one
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and everything that it names, then exit
    #[arg(long)]
    check: bool,
    /// Stop when standard input ends, for programs that start this one
    #[arg(long)]
    exit_with_stdin: bool,
}

/// Runs until it is stopped.
///
/// # Errors
///
/// When the configuration is wrong, an address or the data directory is in use, or the actor tree
/// gives up.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let loaded = NodeConfig::load(&args.config)?;
    if args.check {
        return report(&args, &loaded);
    }
    logs::init(&loaded.config.log).map_err(Failure::config)?;
    let stop = Stop::try_new(args.exit_with_stdin)?;
    let listen = loaded.config.admin.listen;
    let admin = TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::listen("admin port (admin.listen)", listen, &error))?;
    let metrics = Arc::new(Metrics::new());
    let drain = loaded.config.shutdown.drain;
    // From here on the signal does not end the process.
    let hangup = reload::hangup()?;
    let (in_force, shown) =
        watch::channel(InForce::new(loaded.config.redacted_json(), SystemClock.now()));
    let socket = loaded.config.submission_socket();
    let config = StreamConfig::from_loaded(loaded, SOFTWARE);
    let system = StreamSystem::start(config, Arc::clone(&metrics), Arc::new(SystemClock)).await?;
    // After the data directory is ours: it may hold the socket, and nobody else may replace it.
    let submissions = match Listener::bind(&socket).await {
        Ok(listener) => listener,
        Err(failure) => {
            system.shutdown(Duration::ZERO).await;
            return Err(failure);
        }
    };
    tracing::info!(admin = %listen, submission = %socket, "the node runs");
    let closing = CancellationToken::new();
    let mut servers = JoinSet::new();
    servers.spawn(serve_submissions(submissions, system.handle(), closing.clone()));
    let reload = Reload::new(hangup, args.config, system.handle(), Arc::clone(&metrics), in_force);
    servers.spawn(reload.run(closing.clone()));
    let source = Arc::new(Admin::new(system.handle(), shown));
    let closed = closing.clone().cancelled_owned();
    servers.spawn(async move {
        serve_admin(admin, metrics, source, closed)
            .await
            .map_err(|error| Failure::other(format_args!("admin port: {error}")))
    });
    let result = supervise(system, stop, &mut servers, drain).await;
    closing.cancel();
    while servers.join_next().await.is_some() {}
    result
}

/// Waits for the first reason to stop, and stops.
async fn supervise(
    system: StreamSystem,
    mut stop: Stop,
    servers: &mut JoinSet<Result<(), Failure>>,
    drain: Duration,
) -> Result<(), Failure> {
    let asked = tokio::select! {
        asked = stop.asked() => asked,
        reason = system.stopped() => return Err(gave_up(&reason)),
        Some(server) = servers.join_next() => {
            system.shutdown(Duration::ZERO).await;
            return Err(match server {
                Ok(Ok(())) => Failure::other("a server of the node ended by itself"),
                Ok(Err(failure)) => failure,
                Err(error) => Failure::other(format_args!("a server of the node: {error}")),
            });
        }
    };
    if asked == Asked::Abandoned {
        // Nobody is left who could ask again.
        let stopped = tokio::time::timeout(ABANDONED_STOP_MAX, system.shutdown(Duration::ZERO));
        return stopped.await.map_err(|_| {
            Failure::other("the node did not stop in time after standard input ended")
        });
    }
    tracing::info!(
        ?drain,
        "stopping: messages in flight finish first; a second signal stops at once"
    );
    // Nothing new is accepted meanwhile: submissions are refused, and `/readyz` says so.
    tokio::select! {
        () = system.shutdown(drain) => {}
        _ = stop.asked() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

fn gave_up(reason: &StopReason) -> Failure {
    match reason {
        StopReason::GaveUp(why) => {
            Failure::other(format_args!("the node gave up: {why} (its log says what went before)"))
        }
        StopReason::Shutdown => Failure::other("the node stopped without being told to"),
    }
}

fn report(args: &Args, loaded: &Loaded) -> Result<(), Failure> {
    let Loaded { config, federation, .. } = loaded;
    let federation = federation.as_ref().map_or_else(
        || "no federation".to_owned(),
        |known| format!("federation {} of {}", known.threshold(), known.members().len()),
    );
    output::line(format_args!(
        "{}: ok: node {}, {} endpoints, {federation}",
        args.config.display(),
        config.node.id,
        config.endpoints.len(),
    ))
}

#[cfg(test)]
mod tests;
