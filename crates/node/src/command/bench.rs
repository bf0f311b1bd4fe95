//! `alys-stream bench`: how fast this machine and its disk let the parts be.
//!
//! Every rate comes with the limit that was measured in the same run, since disks differ from one
//! minute to the next.

mod backlog;
mod disk;
mod part;
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
  alys-stream bench buffer --backlog 10000000 --seconds 2

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
    /// Messages that are appended, left unsettled, found again by a new process, read and settled;
    /// with how much memory. Each takes about 340 bytes on disk. 0 for none
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=15_000_000))]
    backlog: u64,
    /// Make a temporary directory here, on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Do this with the buffer in a directory, say how long it took, and end
    #[arg(long, value_name = "PART", hide = true, requires = "at")]
    part: Option<part::Part>,
    /// The directory for `--part`
    #[arg(long, value_name = "DIR", hide = true)]
    at: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
///
/// When the directory cannot be used.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let What::Buffer(buffer) = args.what;
    match (buffer.part, &buffer.at) {
        (Some(part), Some(dir)) => {
            output::line(part::here(part, dir, buffer.backlog, buffer.payload).await?)
        }
        (_, _) => bench_buffer(&buffer).await,
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
    let opened = opened(dir.path(), args.records, payload_bytes).await?;
    let backlog = match args.backlog {
        0 => None,
        messages => Some(backlog::run(dir.path(), messages, args.payload).await?),
    };
    let value = json!({
        "limit_msgs_per_s": rounded(append.limit),
        "append_msgs_per_s": rounded(append.append),
        "ratio": hundredths(append.append / append.limit),
        "accept_us": { "p50": append.accept.p50, "p99": append.accept.p99 },
        "fdatasync_us": { "p50": append.sync.p50, "p99": append.sync.p99 },
        "accept_ratio": hundredths(append.accept.p50 / append.sync.p50),
        "batch_messages": hundredths(append.batch_messages),
        "open_records": args.records,
        "open_1m_ms": opened.ms,
        "rss_mib": opened.rss_mib,
        "backlog": backlog,
        "producers": args.producers,
        "payload_bytes": args.payload,
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    if args.json {
        return output::line(value);
    }
    print(&append, &opened, args)?;
    backlog.map_or(Ok(()), |backlog| backlog.print())
}

async fn opened(dir: &Path, records: u64, payload_bytes: usize) -> Result<part::Took, Failure> {
    let dir = dir.join("unsettled");
    producers::fill(&dir, records, payload_bytes).await?;
    part::in_a_process_of_its_own(part::Part::Open, &dir, 0, 0).await
}

fn print(append: &rounds::Rates, opened: &part::Took, args: &Buffer) -> Result<(), Failure> {
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
    let rss = opened.rss();
    output::line(format_args!(
        "opening {} unsettled messages: {} ms, at most {rss} resident",
        args.records, opened.ms
    ))
}

fn rounded(value: f64) -> f64 {
    value.round()
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
