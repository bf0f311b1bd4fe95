//! `alys-stream governance`: a governance node that really signs.

mod check;

use std::net::SocketAddr;
use std::path::PathBuf;

use alys_stream_governance::misbehaviour::{DisconnectMidBatch, Misbehaviour, Refuse as Refusing};
use alys_stream_governance::{GovernanceConfig, GovernanceNode};
use alys_stream_telemetry::logs;

use crate::failure::{EXIT_CODES, Failure};
use crate::output;
use crate::stop::{Asked, Stop};

const AFTER_HELP: &str = "\
Examples:
  alys-stream governance --config dev/governance-1/governance.yaml
  alys-stream governance --config dev/governance-1/governance.yaml --check
  alys-stream governance --config dev/governance-2/governance.yaml --delay-ms 500 --wrong-signatures

It can be told to misbehave while it runs, too: POST a JSON object to /misbehave of its admin port,
as GET /misbehave shows it.";

#[derive(Debug, clap::Args)]
#[command(
    about = "Run a governance node that really signs",
    long_about = "Runs a governance node: TLS 1.3 with client certificates, sessions and the plain \
                  published protocol, a durable inbox that applies each message once, and a member \
                  of the signing federation. For development, tests and demonstrations.",
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
    /// Listen here instead of where the configuration says
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Serve the admin port here instead of where the configuration says
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    #[command(flatten, next_help_heading = "Misbehaviour from the start")]
    misbehave: Misbehave,
}

#[derive(Debug, clap::Args)]
struct Misbehave {
    /// Wait so long before signing
    #[arg(long, value_name = "MILLISECONDS")]
    delay_ms: Option<u64>,
    /// Store messages but never acknowledge them
    #[arg(long)]
    drop_acks: bool,
    /// Refuse everything
    #[arg(long, value_enum, value_name = "HOW")]
    refuse: Option<Refuse>,
    /// Do not read from streams
    #[arg(long)]
    stop_reading: bool,
    /// Send signatures that do not verify
    #[arg(long)]
    wrong_signatures: bool,
    /// Ask peers to send nothing
    #[arg(long)]
    suspended: bool,
    /// Cut the first stream after so many records
    #[arg(long, value_name = "RECORDS")]
    disconnect_after: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Refuse {
    /// For now: the peer sends it again later
    Retryable,
    /// For good: the message becomes a dead letter
    Terminal,
}

/// Runs until it is stopped.
///
/// # Errors
///
/// When the configuration is wrong, an address or the data directory is in use, or the node fails.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut config = GovernanceConfig::load(&args.config)?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(listen) = args.admin_listen {
        config.admin.listen = listen;
    }
    args.misbehave.apply(&mut config.misbehave);
    config.validate().map_err(Failure::from)?;
    if args.check {
        check::files(&config)?;
        return report(&args, &config);
    }
    logs::init(&config.log).map_err(Failure::config)?;
    let mut stop = Stop::try_new(args.exit_with_stdin)?;
    let drain = config.drain;
    let mut running = GovernanceNode::start(config).await?;
    tracing::info!(listen = %running.local_addr(), admin = %running.admin_addr(), "governance node runs");
    let asked = tokio::select! {
        asked = stop.asked() => asked,
        why = running.stopped() => {
            return Err(Failure::other(format_args!("the governance node stopped by itself: {why}")));
        }
    };
    if asked == Asked::Abandoned {
        return Ok(());
    }
    tracing::info!(?drain, "stopping: streams finish first; a second signal stops at once");
    tokio::select! {
        () = running.shutdown(drain) => {}
        _ = stop.asked() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

fn report(args: &Args, config: &GovernanceConfig) -> Result<(), Failure> {
    output::line(format_args!("{}: ok: governance node {}", args.config.display(), config.id))
}

impl Misbehave {
    fn apply(&self, flags: &mut Misbehaviour) {
        flags.delay_ms = self.delay_ms.unwrap_or(flags.delay_ms);
        flags.drop_acks |= self.drop_acks;
        flags.stop_reading |= self.stop_reading;
        flags.wrong_signatures |= self.wrong_signatures;
        flags.suspended |= self.suspended;
        if let Some(refuse) = self.refuse {
            flags.refuse = Some(match refuse {
                Refuse::Retryable => Refusing::Retryable { after_ms: 0 },
                Refuse::Terminal => Refusing::Terminal,
            });
        }
        if let Some(after_records) = self.disconnect_after {
            flags.disconnect_mid_batch = Some(DisconnectMidBatch { after_records });
        }
    }
}
