//! `bench durable`: accepted after the node's disk, acknowledged after governance's, exactly once;
//! by turns with the limit.

use serde_json::{Value, json};

use super::end::{End, Order, Stat};
use super::load::{Load, Loaded};
use super::policy;
use super::stage::{Common, Limit, Special, Stage, part_millis};
use super::stats::{float, median, ratio, thousandths};
use crate::failure::Failure;
use crate::output;

/// How often link and limit take turns.
const ROUNDS: u64 = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Callers that send at the same time, each waiting until its messages are durable
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    producers: u32,
    /// Messages that each hands over at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    together: u16,
    /// Most messages that are accepted and not settled, before callers wait
    #[arg(long, value_name = "N", default_value_t = 8192)]
    window: u64,
    /// Priorities in turn instead of normal ones
    #[arg(long)]
    mixed: bool,
}

/// One turn of one side.
#[derive(Debug, Clone, Copy)]
struct Turn {
    rate: f64,
    /// Microseconds of the processor for a message: the node or near end, governance or far end.
    cpu: [f64; 2],
}

impl Turn {
    fn cpu_both(&self) -> f64 {
        self.cpu[0] + self.cpu[1]
    }
}

/// Measures and prints.
///
/// # Errors
///
/// When a process fails, or a message was lost or applied twice.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let common = &args.common;
    let mut stage = Stage::prepare(common)?;
    let special = Special { mixed: args.mixed, ..Special::default() };
    let mut node = stage.start(common, special).await?;
    let mut limit = stage.start_limit(true).await?;
    let bar = common.bar(ROUNDS + 1, "rounds");
    let load = args.load(part_millis(common.seconds, 2 * ROUNDS));
    // Not measured: segments are prepared, and the file system learns the pattern.
    let warm = args.load(part_millis(common.seconds, 8 * ROUNDS));
    turn(&stage, &mut node, &warm).await?;
    limit_turn(&mut limit, &warm).await?;
    bar.inc(1);
    let before: Stat = node.ask(&Order::Stat).await?;
    let fsyncs_before = Fsyncs::of(&stage, &mut limit).await?;
    let (mut ours, mut bare, mut messages, mut bare_messages) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..ROUNDS {
        let (turned, sent) = turn(&stage, &mut node, &load).await?;
        ours.push(turned);
        messages += sent;
        let (turned, sent) = limit_turn(&mut limit, &load).await?;
        bare.push(turned);
        bare_messages += sent;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let accepted: Stat = node.ask(&Order::Stat).await?;
    let fsyncs = Fsyncs::of(&stage, &mut limit).await?.since(fsyncs_before);
    let usage = (node.usage(), stage.governance_usage());
    limit.stop().await;
    let applied = stage.finish(node).await?;
    let lost = applied.lost(&accepted);
    let figures = json!({
        "rss_mib": { "node": usage.0.peak_mib(), "governance": usage.1.peak_mib() },
        "messages_per_fsync": {
            "node": ratio(float(messages), float(accepted.syncs - before.syncs)),
            "governance_inbox": ratio(float(messages), fsyncs.governance),
            "limit_near": ratio(float(bare_messages), fsyncs.near),
            "limit_far": ratio(float(bare_messages), fsyncs.far),
        },
        "accepted": accepted.accepted,
        "applied": applied.messages,
        "copies": applied.copies,
        "twice": applied.twice,
        "lost": lost,
        "dead_letters": accepted.dead,
        "exactly_once": lost == 0 && applied.twice == 0 && accepted.dead == 0,
    });
    let value = args.value(&ours, &bare, figures);
    print(common.json, &value)?;
    if lost > 0 || applied.twice > 0 || accepted.dead > 0 {
        return Err(Failure::other(format_args!(
            "{lost} messages were lost, {} applied twice, {} became dead letters",
            applied.twice, accepted.dead
        )));
    }
    Ok(())
}

impl Args {
    fn load(&self, millis: u64) -> Load {
        Load {
            millis,
            producers: self.producers,
            together: usize::from(self.together),
            payload: self.common.payload_bytes(),
            window: self.window,
        }
    }

    fn value(&self, ours: &[Turn], bare: &[Turn], figures: Value) -> Value {
        let pairs = || ours.iter().zip(bare);
        let of =
            |turns: &[Turn], what: fn(&Turn) -> f64| thousandths(median(turns.iter().map(what)));
        let cpus = std::thread::available_parallelism()
            .map_or(1.0, |cpus| f64::from(u32::try_from(cpus.get()).unwrap_or(1)));
        let busy = median(ours.iter().map(|turn| turn.rate * turn.cpu_both() / 1e6 / cpus));
        let mut value = json!({
            "ratio": thousandths(median(pairs().map(|(our, bare)| our.rate / bare.rate))),
            "cpu_ratio":
                thousandths(median(pairs().map(|(our, bare)| our.cpu_both() / bare.cpu_both()))),
            "msgs_per_s": of(ours, |turn| turn.rate).round(),
            "limit_msgs_per_s": of(bare, |turn| turn.rate).round(),
            "ratios": pairs().map(|(our, bare)| ratio(our.rate, bare.rate)).collect::<Vec<_>>(),
            "cpu_us_per_msg": {
                "node": of(ours, |turn| turn.cpu[0]),
                "governance": of(ours, |turn| turn.cpu[1]),
            },
            "limit_cpu_us_per_msg": {
                "near": of(bare, |turn| turn.cpu[0]),
                "far": of(bare, |turn| turn.cpu[1]),
            },
            "cpu_busy": thousandths(busy),
            "bound_by": if busy > 0.8 { "the processor" } else { "waiting: disk and wake-ups" },
            "payload_bytes": self.common.payload,
            "endpoints": self.common.endpoints,
            "policy": policy::word(self.common.policy),
            "producers": self.producers,
            "together": self.together,
            "mixed_priorities": self.mixed,
            "rounds": ROUNDS,
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        });
        if let (Some(value), Value::Object(figures)) = (value.as_object_mut(), figures) {
            value.extend(figures);
        }
        value
    }
}

async fn turn(stage: &Stage, node: &mut End, load: &Load) -> Result<(Turn, u64), Failure> {
    let before = [node.usage().cpu_us, stage.governance_usage().cpu_us];
    let loaded: Loaded = node.ask(&Order::Load(load.clone())).await?;
    let after = [node.usage().cpu_us, stage.governance_usage().cpu_us];
    Ok((Turn::new(&loaded, before, after), loaded.messages))
}

async fn limit_turn(limit: &mut Limit, load: &Load) -> Result<(Turn, u64), Failure> {
    let before = [limit.near.usage().cpu_us, limit.far.usage().cpu_us];
    let loaded: Loaded = limit.near.ask(&Order::Load(load.clone())).await?;
    let after = [limit.near.usage().cpu_us, limit.far.usage().cpu_us];
    Ok((Turn::new(&loaded, before, after), loaded.messages))
}

impl Turn {
    fn new(loaded: &Loaded, before: [u64; 2], after: [u64; 2]) -> Self {
        let messages = float(loaded.messages).max(1.0);
        let cpu = [0, 1].map(|end| float(after[end].saturating_sub(before[end])) / messages);
        Self { rate: loaded.rate(), cpu }
    }
}

/// How often everybody but the node synced.
#[derive(Debug, Clone, Copy)]
struct Fsyncs {
    governance: f64,
    near: f64,
    far: f64,
}

impl Fsyncs {
    async fn of(stage: &Stage, limit: &mut Limit) -> Result<Self, Failure> {
        let near: Stat = limit.near.ask(&Order::Stat).await?;
        let far: Stat = limit.far.ask(&Order::Stat).await?;
        let governance = stage.governance_metric("alys_stream_governance_inbox_syncs_total").await;
        Ok(Self { governance, near: float(near.syncs), far: float(far.syncs) })
    }

    fn since(self, before: Self) -> Self {
        Self {
            governance: self.governance - before.governance,
            near: self.near - before.near,
            far: self.far - before.far,
        }
    }
}

/// JSON for programs; for people, the same values as lines.
pub(super) fn print(as_json: bool, value: &Value) -> Result<(), Failure> {
    if as_json {
        return output::line(value);
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for (name, field) in fields {
        output::line(format_args!("{:<24} {field}", name.replace('_', " ")))?;
    }
    Ok(())
}
