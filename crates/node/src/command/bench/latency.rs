//! `bench latency`: from the call until the acknowledgement, at a steady rate; by turns with the
//! limit.

use serde_json::json;

use super::durable::print;
use super::end::Order;
use super::pace::{Pace, Paced};
use super::stage::{Common, Special, Stage, part_millis};
use super::stats::{median, ratio, thousandths};
use crate::failure::Failure;

/// How often link and limit take turns.
const ROUNDS: u64 = 7;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Messages per second
    #[arg(long, value_name = "R", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
}

/// Measures and prints.
///
/// # Errors
///
/// When a process fails.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let common = &args.common;
    let mut stage = Stage::prepare(common)?;
    let mut node = stage.start(common, Special::default()).await?;
    let mut limit = stage.start_limit(true).await?;
    let pace =
        |millis| Order::Pace(Pace { millis, rate: args.rate, payload: common.payload_bytes() });
    let bar = common.bar(ROUNDS, "rounds");
    let warm = pace(part_millis(common.seconds, 8 * ROUNDS));
    node.ask::<Paced>(&warm).await?;
    limit.near.ask::<Paced>(&warm).await?;
    let order = pace(part_millis(common.seconds, 2 * ROUNDS));
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let cpu = |node: u64, limit: u64| [node, limit];
    let before = cpu(node.usage().cpu_us + stage.governance_usage().cpu_us, limit.cpu_us());
    for _ in 0..ROUNDS {
        ours.push(node.ask::<Paced>(&order).await?);
        bare.push(limit.near.ask::<Paced>(&order).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let after = cpu(node.usage().cpu_us + stage.governance_usage().cpu_us, limit.cpu_us());
    let messages: usize = ours.iter().map(|paced| paced.micros.len()).sum();
    let per_message = |end: usize| {
        let messages = u64::try_from(messages).unwrap_or(1);
        ratio(super::stats::float(after[end] - before[end]), super::stats::float(messages))
    };
    let of = |turns: &[Paced], percent| {
        thousandths(median(turns.iter().map(|paced| paced.quantile(percent))) / 1000.0)
    };
    let against = |percent| {
        let pairs = ours.iter().zip(&bare);
        let ratios = pairs.map(|(our, bare)| our.quantile(percent) / bare.quantile(percent));
        thousandths(median(ratios))
    };
    let value = json!({
        "p50_ratio": against(50),
        "p99_ratio": against(99),
        "p50_ms": of(&ours, 50),
        "p99_ms": of(&ours, 99),
        "limit_p50_ms": of(&bare, 50),
        "limit_p99_ms": of(&bare, 99),
        "rate": args.rate,
        "messages": messages,
        "cpu_us_per_msg": per_message(0),
        "limit_cpu_us_per_msg": per_message(1),
        "rss_mib": node.usage().peak_mib(),
        "bound_by": "two fdatasync calls one after the other, and the wake-ups between them",
        "payload_bytes": common.payload,
        "endpoints": common.endpoints,
        "rounds": ROUNDS,
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    limit.stop().await;
    stage.finish(node).await?;
    print(common.json, &value)
}
