//! `bench backlog`: what piles up while nobody is there, and how it drains.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::durable::print;
use super::end::{End, Order, Stat};
use super::load::{Load, Loaded};
use super::stage::{Common, Special, Stage, part_millis};
use super::stats::{float, ratio, thousandths};
use crate::failure::Failure;

/// Messages that are accepted between two looks at the progress.
const FILL: u64 = 250_000;

/// How often the first message that arrives is looked for.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Messages in the backlog; each takes about 340 bytes on the disk of either side
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1000..=12_000_000))]
    messages: u64,
}

/// Measures and prints.
///
/// # Errors
///
/// When a process fails, or a message was lost or applied twice.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let common = &args.common;
    let endpoints = usize::from(common.endpoints);
    let mut stage = Stage::prepare(common)?;
    let mut node = stage.start(common, Special::default()).await?;
    let bar = common.bar(args.messages, "filling");
    // The rate without a backlog, in the same run.
    let load = Load {
        millis: part_millis(common.seconds, 4),
        producers: 1024,
        together: 1,
        payload: common.payload_bytes(),
        window: 32_768,
    };
    node.ask::<Loaded>(&Order::Load(load.clone())).await?;
    let without: Loaded = node.ask(&Order::Load(load)).await?;
    for process in &mut stage.governance {
        process.kill().await?;
    }
    let filled = fill(&mut node, &args, &bar).await?;
    let before: Stat = node.ask(&Order::Stat).await?;
    let filling = node.usage();
    node.stop().await;
    bar.set_message("draining");
    for process in &mut stage.governance {
        process.start_again()?;
        process.ready().await?;
    }
    let received = "alys_stream_governance_applied_total";
    let started = Instant::now();
    let mut node = stage.start_node(common, Special::default()).await?;
    let open_ms = started.elapsed().as_secs_f64() * 1000.0;
    // Polled from outside: the first message is there at the latest when it is seen.
    while stage.governance_metric(received).await < 1.0 {
        tokio::time::sleep(LOOK).await;
    }
    let first_ms = started.elapsed().as_secs_f64() * 1000.0;
    node.ask::<f64>(&Order::AwaitUp { endpoints }).await?;
    let drained: Loaded = node.ask(&Order::Drain).await?;
    bar.finish_and_clear();
    let draining = node.usage();
    let after: Stat = node.ask(&Order::Stat).await?;
    let governance = stage.governance_usage();
    let applied = stage.finish(node).await?;
    let lost = applied.lost(&before);
    let millions = float(args.messages) / 1e6;
    let value = json!({
        "rss_mib": filling.peak_mib().max(draining.peak_mib()),
        "drain_ratio": ratio(drained.rate(), without.rate()),
        "restart_ms_per_million": thousandths(first_ms / millions),
        "messages": args.messages,
        "filled_msgs_per_s": filled.rate().round(),
        "drained_msgs_per_s": drained.rate().round(),
        "without_backlog_msgs_per_s": without.rate().round(),
        "open_ms": open_ms.round(),
        "first_message_ms": first_ms.round(),
        "rss_filling_mib": filling.peak_mib(),
        "rss_draining_mib": draining.peak_mib(),
        "rss_governance_mib": governance.peak_mib(),
        "lost": lost,
        "twice": applied.twice,
        "dead_letters": after.dead,
        "payload_bytes": common.payload,
        "endpoints": common.endpoints,
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    print(common.json, &value)?;
    judge(lost, applied.twice)
}

fn judge(lost: u64, twice: u64) -> Result<(), Failure> {
    if lost == 0 && twice == 0 {
        return Ok(());
    }
    Err(Failure::other(format_args!("{lost} messages were lost, {twice} applied twice")))
}

async fn fill(
    node: &mut End,
    args: &Args,
    bar: &indicatif::ProgressBar,
) -> Result<Loaded, Failure> {
    let mut filled = Loaded::default();
    while filled.messages < args.messages {
        let messages = FILL.min(args.messages - filled.messages);
        let payload = args.common.payload_bytes();
        let part: Loaded = node.ask(&Order::Fill { messages, payload }).await?;
        filled.messages += part.messages;
        filled.seconds += part.seconds;
        bar.inc(part.messages);
    }
    Ok(filled)
}
