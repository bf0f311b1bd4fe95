//! `alys-stream bench`: how fast this machine and its disk let the parts be.
//!
//! Every rate comes with the limit that was measured in the same run, since disks differ from one
//! minute to the next.
//!
//! `buffer` measures the buffer alone. The others measure a link, with every end a process of its
//! own: [`stage`] makes and starts what they need, [`end`] gives orders to the ends ([`node_end`],
//! [`limit_ends`], [`streams_end`]), [`load`] and [`pace`] are what is sent, [`limit`] is what they
//! are measured against.

mod backlog;
mod disk;
mod durable;
mod end;
mod failover;
mod halt;
mod idle;
mod latency;
mod limit;
mod limit_ends;
mod load;
mod memory;
mod node_end;
mod outage;
mod pace;
mod part;
mod policy;
mod producers;
mod rounds;
mod stage;
mod stats;
mod streams_end;
mod usage;

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
  alys-stream bench durable --dir /var/lib/alys
  alys-stream bench durable --endpoints 3 --policy quorum:2 --payload 1024 --json
  alys-stream bench latency --rate 1000
  alys-stream bench backlog --messages 10000000
  alys-stream bench idle --streams 10000

The limit of the buffer is a loop that does nothing but write and fdatasync, on a file that was
written before, in the batches that the buffer wrote. The limit of a link is a bare group-committed
log in front of a bare gRPC stream over the same TLS, with the same batches, both ends on the same
disk. A debug build measures the build, not the machine.";

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
    /// Messages per second, durable at both ends and applied once
    Durable(durable::Args),
    /// Messages per second of the memory class
    Memory(memory::Args),
    /// From the call until the acknowledgement, at a steady rate
    Latency(latency::Args),
    /// A backlog of an outage: its memory, the restart in front of it, and how it drains
    Backlog(outage::Args),
    /// Governance nodes are killed: how long until others have acknowledged
    Failover(failover::Args),
    /// Memory of a quiet node, or of a governance node for each quiet stream
    Idle(idle::Args),
    /// From the frame of an emergency halt until the Chain is told, under full load
    Halt(halt::Args),
    #[command(hide = true)]
    EndNode(node_end::Args),
    #[command(hide = true)]
    EndNear(limit::Args),
    #[command(hide = true)]
    EndFar(limit::Args),
    #[command(hide = true)]
    EndStreams(streams_end::Args),
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
    match args.what {
        What::Buffer(buffer) => run_buffer(buffer).await,
        What::Durable(args) => Box::pin(durable::run(args)).await,
        What::Memory(args) => Box::pin(memory::run(args)).await,
        What::Latency(args) => Box::pin(latency::run(args)).await,
        What::Backlog(args) => Box::pin(outage::run(args)).await,
        What::Failover(args) => Box::pin(failover::run(args)).await,
        What::Idle(args) => Box::pin(idle::run(args)).await,
        What::Halt(args) => Box::pin(halt::run(args)).await,
        What::EndNode(args) => Box::pin(node_end::run(args)).await,
        What::EndNear(args) => Box::pin(limit_ends::near(args)).await,
        What::EndFar(args) => Box::pin(limit_ends::far(args)).await,
        What::EndStreams(args) => Box::pin(streams_end::run(args)).await,
    }
}

async fn run_buffer(buffer: Buffer) -> Result<(), Failure> {
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
