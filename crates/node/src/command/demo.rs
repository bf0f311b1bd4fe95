//! `alys-stream demo`: the whole system, attacked and counted.

use std::path::PathBuf;
use std::time::Duration;

use alys_stream_protocol::time::{SystemClock, WallClock as _};

use super::init::Script;
use crate::demo::{self, Options};
use crate::failure::{EXIT_CODES, Failure};
use crate::output;
use crate::stop::Stop;

const AFTER_HELP: &str = "\
Examples:
  alys-stream demo
  alys-stream demo --seconds 60 --rate 200 --json | jq .
  alys-stream demo --keep /tmp/demo --hold

Exits with 0 only when nothing was lost, nothing was applied twice, and every completed transaction
satisfies Bitcoin's consensus rules.";

#[derive(Debug, clap::Args)]
#[command(
    about = "Run the whole system, break it on purpose, and count what was lost (nothing)",
    long_about = "Mints a CA, certificates and a 2-of-3 federation, starts three governance nodes \
                  and a node as processes of their own on free loopback ports, and runs a bridge \
                  workload: peg-out transactions to be signed, peg-ins and status updates beside \
                  them. One third in, a governance node is killed (kill -9); two thirds in, it is \
                  started again; near the end the node itself is killed and started from its \
                  buffer, with requests in flight. Then it counts.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    /// How long the load lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u64).range(3..=86_400))]
    seconds: u64,
    /// Signature requests per second; as many peg-ins beside them
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How the federation locks its outputs
    #[arg(long, value_enum, default_value_t = Script::P2wsh)]
    script: Script,
    /// Print one JSON object on standard output, and nothing else
    #[arg(long)]
    json: bool,
    /// Keep all files in this new folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Makes the workload repeatable [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// When the load is over, keep everything running until Ctrl-C
    #[arg(long)]
    hold: bool,
}

/// Runs and prints.
///
/// # Errors
///
/// When it cannot run, is interrupted, or the system broke a promise.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut stop = Stop::try_new(false)?;
    let options = Options {
        run: Duration::from_secs(args.seconds),
        rate: args.rate,
        seed: args.seed.unwrap_or_else(|| SystemClock.now().0),
        script: args.script.into(),
        keep: args.keep,
        json: args.json,
        hold: args.hold,
    };
    let report = demo::run(&options, &mut stop).await?;
    if options.json {
        let json = serde_json::to_string(&report)
            .map_err(|error| Failure::other(format_args!("cannot write JSON: {error}")))?;
        output::line(json)?;
    } else {
        output::line(report.table())?;
    }
    if let Some(dir) = &options.keep {
        output::note(format_args!("kept: {}", dir.display()));
    }
    if report.ok { Ok(()) } else { Err(Failure::other(report.shortcoming())) }
}
