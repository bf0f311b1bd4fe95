//! `bench idle`: what nothing costs. A node with its endpoints connected and quiet, or a governance
//! node with many quiet streams.

use std::ffi::OsString;

use serde_json::json;

use super::durable::print;
use super::end::{End, Order, Stat};
use super::stage::{Common, Stage, seconds};
use super::stats::{float, ratio};
use super::usage::Usage;
use crate::demo::process::Process;
use crate::failure::Failure;
use crate::{http, mint, output};

/// Streams that are opened between two looks at the memory.
const STEPS: u32 = 5;

/// How long everything is left alone before memory is read.
const QUIET: u64 = 5;

/// Descriptors beside those of the streams.
const OTHER_FILES: u64 = 256;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Quiet streams on one governance node, instead of quiet endpoints of one node
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    streams: Option<u32>,
}

/// Measures and prints.
///
/// # Errors
///
/// When a process fails.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    match args.streams {
        Some(streams) => many_streams(&args.common, streams).await,
        None => quiet_node(&args.common).await,
    }
}

/// A node as anyone runs it, nothing embedded.
async fn quiet_node(common: &Common) -> Result<(), Failure> {
    let mut stage = Stage::prepare(common)?;
    stage.start_governance().await?;
    let admin = stage.minted.node.admin.to_string();
    let config = &stage.minted.node.config;
    let log = stage.log("node");
    let mut node = Process::start(mint::NODE_ID, "node", config, log, admin.clone())?;
    node.ready().await?;
    let give_up = tokio::time::Instant::now() + seconds(60);
    while up(&admin).await < usize::from(common.endpoints) {
        if tokio::time::Instant::now() > give_up {
            return Err(Failure::unavailable("the endpoints do not come up"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let bar = common.bar(common.seconds, "quiet");
    let before = Usage::of(node.pid());
    for _ in 0..common.seconds {
        tokio::time::sleep(seconds(1)).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let usage = Usage::of(node.pid());
    let governance = stage.governance_usage();
    let value = json!({
        "rss_mib": usage.rss_mib(),
        "peak_mib": usage.peak_mib(),
        "cpu_percent": ratio(float(usage.cpu_us - before.cpu_us), float(common.seconds * 10_000)),
        "rss_governance_mib": governance.rss_mib(),
        "endpoints": common.endpoints,
        "seconds": common.seconds,
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    node.stop().await;
    for process in stage.governance {
        process.stop().await;
    }
    print(common.json, &value)
}

/// How many endpoints of a node are connected.
async fn up(admin: &str) -> usize {
    let text = http::get(admin, "/status").await.unwrap_or_default();
    let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let is_up = |endpoint: &&serde_json::Value| {
        let state = endpoint["state"].as_str().unwrap_or_default();
        ["streaming", "healthy"].iter().any(|word| state.eq_ignore_ascii_case(word))
    };
    status["endpoints"].as_array().map_or(0, |endpoints| endpoints.iter().filter(is_up).count())
}

/// Quiet streams, opened in steps, so that what each costs is a slope and not a quotient.
async fn many_streams(common: &Common, wanted: u32) -> Result<(), Failure> {
    let files = raise_files();
    let room = files.saturating_sub(OTHER_FILES);
    let streams = wanted.min(u32::try_from(room).unwrap_or(u32::MAX));
    if streams < wanted {
        output::note(format_args!("file descriptors allow {streams} streams here"));
    }
    let mut stage = Stage::prepare(common)?;
    stage.start_governance().await?;
    let governance = stage.minted.governance.first();
    let url = governance.map(|one| one.listen.to_string()).unwrap_or_default();
    let args: Vec<OsString> = vec![
        "end-streams".into(),
        "--config".into(),
        stage.minted.node.config.clone().into(),
        "--address".into(),
        url.into(),
    ];
    let mut clients = End::start("streams", args, &stage.log("streams")).await?;
    let bar = common.bar(u64::from(STEPS), "streams");
    let empty = stage.governance_usage();
    let mut steps = Vec::new();
    for step in 1..=STEPS {
        let endpoints = usize::try_from(streams / STEPS * step).unwrap_or(0);
        clients.ask::<f64>(&Order::AwaitUp { endpoints }).await?;
        tokio::time::sleep(seconds(QUIET)).await;
        steps.push((float(u64::try_from(endpoints).unwrap_or(0)), stage.governance_usage()));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let live: Stat = clients.ask(&Order::Stat).await?;
    let of = |index: usize| {
        steps.get(index).map_or((0.0, 0.0), |(count, usage)| (*count, float(usage.rss_kib)))
    };
    let (first, last) = (of(0), of(steps.len().saturating_sub(1)));
    let value = json!({
        "kib_per_stream": ratio(last.1 - float(empty.rss_kib), last.0),
        "slope_kib_per_stream": ratio(last.1 - first.1, last.0 - first.0),
        "streams": live.accepted,
        "streams_wanted": wanted,
        "rss_governance_mib": steps.last().map_or(0.0, |(_, usage)| usage.rss_mib()),
        "rss_empty_mib": empty.rss_mib(),
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    clients.stop().await;
    for process in stage.governance {
        process.stop().await;
    }
    print(common.json, &value)
}

/// Lets this process and those that it starts have as many files open as the system allows; how
/// many that is.
fn raise_files() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limits = getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limits.maximum, maximum: limits.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        output::note(format_args!("the bound on open files stays as it is: {error}"));
        return limits.current.unwrap_or(u64::MAX);
    }
    limits.maximum.unwrap_or(u64::MAX)
}
