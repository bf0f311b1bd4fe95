//! `bench memory`: messages of the memory class beside a raw stream, nothing stored on either side.

use serde_json::json;

use super::durable::print;
use super::end::Order;
use super::load::{Load, Loaded};
use super::stage::{Common, Special, Stage, part_millis};
use super::stats::{float, median, ratio, thousandths};
use crate::failure::Failure;

/// How often link and limit take turns.
const ROUNDS: u64 = 5;

/// Records that are handed over at once on the raw stream, as many as fill a batch.
const TOGETHER: usize = 128;

/// Records that the raw stream may have under way.
const WINDOW: u64 = 4096;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
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
    let mut limit = stage.start_limit(false).await?;
    let bar = common.bar(ROUNDS, "rounds");
    let load = |millis| {
        let (together, payload) = (TOGETHER, common.payload_bytes());
        Order::Blast(Load { millis, producers: 1, together, payload, window: WINDOW })
    };
    let warm = load(part_millis(common.seconds, 8 * ROUNDS));
    node.ask::<Loaded>(&warm).await?;
    limit.near.ask::<Loaded>(&warm).await?;
    let order = load(part_millis(common.seconds, 2 * ROUNDS));
    let (mut ours, mut bare, mut cpu) = (Vec::new(), Vec::new(), [0, 0]);
    let (mut sent, mut bare_sent) = (0, 0);
    let applied = "alys_stream_governance_applied_total";
    let before = stage.governance_metric(applied).await;
    for _ in 0..ROUNDS {
        let used = node.usage().cpu_us + stage.governance_usage().cpu_us;
        let loaded: Loaded = node.ask(&order).await?;
        cpu[0] += node.usage().cpu_us + stage.governance_usage().cpu_us - used;
        sent += loaded.messages;
        ours.push(loaded.rate());
        let used = limit.cpu_us();
        let loaded: Loaded = limit.near.ask(&order).await?;
        cpu[1] += limit.cpu_us() - used;
        bare_sent += loaded.messages;
        bare.push(loaded.rate());
        bar.inc(1);
    }
    bar.finish_and_clear();
    let received = stage.governance_metric(applied).await - before;
    let per_message = [ratio(float(cpu[0]), float(sent)), ratio(float(cpu[1]), float(bare_sent))];
    let value = json!({
        "ratio": thousandths(median(ours.iter().zip(&bare).map(|(our, bare)| our / bare))),
        "cpu_ratio": ratio(per_message[0], per_message[1]),
        "msgs_per_s": median(ours).round(),
        "limit_msgs_per_s": median(bare).round(),
        "sent": sent,
        "received": received,
        "cpu_us_per_msg": per_message[0],
        "limit_cpu_us_per_msg": per_message[1],
        "rss_mib": {
            "node": node.usage().peak_mib(),
            "governance": stage.governance_usage().peak_mib(),
        },
        "bound_by": "the processor",
        "payload_bytes": common.payload,
        "endpoints": common.endpoints,
        "rounds": ROUNDS,
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    limit.stop().await;
    stage.finish(node).await?;
    print(common.json, &value)
}
