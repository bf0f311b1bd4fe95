//! `alys-stream bench`: how fast this machine and its disk let the parts be.
//!
//! Every rate comes with the limit that was measured in the same run, since disks differ from one
//! minute to the next.

mod disk;
mod open;
mod producers;
mod rounds;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use crate::failure::{EXIT_CODES, Failure};
use crate::output;

const AFTER_HELP: &str = "\
Examples:
  alys-stream bench buffer
  alys-stream bench buffer --json --seconds 10 --dir /var/lib/alys

The limit is a loop that does nothing but write and fdatasync, on a file that was written before, in
the batches that the buffer wrote. A debug build measures the build, not the disk.";

#[derive(Debug, clap::Args)]
#[command(
    about = "Measure this machine and its disk",
    long_about = "Measures parts of a node on this machine and its disk, each beside the limit of what \
                  the disk can do, in one run.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Durable appends, beside a bare loop of write and fdatasync; opening a large backlog
    Buffer(Buffer),
}

#[derive(Debug, clap::Args)]
struct Buffer {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How long to append, in all
    #[arg(long, value_name = "S", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Callers that append at the same time, each waiting for its own message
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    producers: u32,
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    payload: u32,
    /// Unsettled messages in the backlog that is opened
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    records: u64,
    /// Make a temporary directory here, on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Open the buffer in this directory, say how long that took, and end
    #[arg(long, value_name = "DIR", hide = true)]
    open: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
///
/// When the directory cannot be used.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let What::Buffer(buffer) = args.what;
    match &buffer.open {
        Some(dir) => output::line(open::here(dir)?),
        None => bench_buffer(&buffer).await,
    }
}

async fn bench_buffer(args: &Buffer) -> Result<(), Failure> {
    let made = tempfile::Builder::new().prefix("alys-bench-").tempdir_in(&args.dir);
    let dir = made.map_err(|error| Failure::file("make a directory in", &args.dir, &error))?;
    if cfg!(debug_assertions) {
        output::note("warning: this is a debug build: it measures the build, not the disk");
    }
    let payload_bytes = usize::try_from(args.payload).unwrap_or(usize::MAX);
    let seconds = Duration::from_secs(args.seconds);
    let append = rounds::run(dir.path(), args.producers, payload_bytes, seconds).await?;
    let opened = backlog(dir.path(), args.records, payload_bytes).await?;
    let value = json!({
        "limit_msgs_per_s": rounded(append.limit),
        "append_msgs_per_s": rounded(append.append),
        "ratio": hundredths(append.append / append.limit),
        "accept_us": { "p50": append.accept.p50, "p99": append.accept.p99 },
        "fdatasync_us": { "p50": append.sync.p50, "p99": append.sync.p99 },
        "accept_ratio": hundredths(append.accept.p50 / append.sync.p50),
        "batch_messages": hundredths(append.batch_messages),
        "open_records": args.records,
        "open_1m_ms": opened.open_ms,
        "rss_mib": opened.rss_mib,
        "producers": args.producers,
        "payload_bytes": args.payload,
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    if args.json {
        return output::line(value);
    }
    print(&append, &opened, args)
}

async fn backlog(dir: &Path, records: u64, payload_bytes: usize) -> Result<open::Opened, Failure> {
    let dir = dir.join("backlog");
    producers::fill(&dir, records, payload_bytes).await?;
    open::in_a_process_of_its_own(&dir).await
}

fn print(append: &rounds::Rates, opened: &open::Opened, args: &Buffer) -> Result<(), Failure> {
    output::line(format_args!(
        "{} producers: {:.0} msg/s, of a limit of {:.0} ({:.2}), {:.1} messages a batch",
        args.producers,
        append.append,
        append.limit,
        append.append / append.limit,
        append.batch_messages
    ))?;
    output::line(format_args!(
        "one producer: p50 {} us, p99 {} us; bare fdatasync of the same bytes: p50 {} us",
        append.accept.p50, append.accept.p99, append.sync.p50
    ))?;
    let rss = opened.rss_mib.map_or_else(|| "unknown".to_owned(), |mib| format!("{mib} MiB"));
    output::line(format_args!(
        "opening {} unsettled messages: {} ms, at most {rss} resident",
        args.records, opened.open_ms
    ))
}

fn rounded(value: f64) -> f64 {
    value.round()
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
