//! `bench failover`: governance nodes are killed under load; how long until what was on its way is
//! acknowledged by another one.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::durable::print;
use super::end::{Order, Stat};
use super::node_end::NodeEnd;
use super::pace::Acknowledges as _;
use super::stage::{Common, Special, Stage};
use super::stats;
use crate::failure::Failure;

/// Longest time for one kill and what follows.
const STRIKE_MAX: Duration = Duration::from_secs(60);

/// Load that goes on before the kill.
const LEAD: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// How many governance nodes are killed, one after the other
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: u32,
    /// Messages per second meanwhile
    #[arg(long, value_name = "R", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    rate: u32,
}

/// What a kill led to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Struck {
    /// Which endpoint, by its place.
    victim: usize,
    /// What it had not acknowledged when it was killed.
    on_its_way: usize,
    /// From the kill until everything that was accepted before it, and was on its way to anybody, is
    /// acknowledged, in microseconds.
    micros: u32,
}

/// Measures and prints.
///
/// # Errors
///
/// When a process fails, or a message was lost.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut common = args.common.clone();
    // One is killed, another one takes over.
    common.endpoints = common.endpoints.max(3);
    let endpoints = usize::from(common.endpoints);
    let mut stage = Stage::prepare(&common)?;
    let mut node = stage.start(&common, Special::default()).await?;
    let bar = common.bar(u64::from(args.kills), "kills");
    let mut struck: Vec<Struck> = Vec::new();
    for _ in 0..args.kills {
        let pids = stage.governance.iter().map(crate::demo::process::Process::pid).collect();
        let payload = common.payload_bytes();
        let one: Struck = node.ask(&Order::Strike { pids, rate: args.rate, payload }).await?;
        let victim = stage.governance.get_mut(one.victim);
        let victim = victim.ok_or_else(|| Failure::other("nobody was killed"))?;
        victim.gone().await?;
        victim.start_again()?;
        victim.ready().await?;
        node.ask::<f64>(&Order::AwaitUp { endpoints }).await?;
        struck.push(one);
        bar.inc(1);
    }
    bar.finish_and_clear();
    node.ask::<super::load::Loaded>(&Order::Drain).await?;
    let accepted: Stat = node.ask(&Order::Stat).await?;
    let applied = stage.finish(node).await?;
    let lost = applied.lost(&accepted) + accepted.dead;
    let mut micros: Vec<u32> = struck.iter().map(|one| one.micros).collect();
    micros.sort_unstable();
    let millis = |percent| stats::thousandths(stats::quantile(&micros, percent) / 1000.0);
    let value = json!({
        "p50_ms": millis(50),
        "p99_ms": millis(99),
        "max_ms": millis(100),
        "lost": lost,
        "kills": args.kills,
        "on_their_way": struck.iter().map(|one| one.on_its_way).sum::<usize>(),
        "accepted": accepted.accepted,
        "applied": applied.messages,
        "twice": applied.twice,
        "rate": args.rate,
        "payload_bytes": common.payload,
        "endpoints": common.endpoints,
        "policy": super::policy::word(common.policy),
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    print(common.json, &value)?;
    if lost > 0 {
        return Err(Failure::other(format_args!("{lost} messages were lost")));
    }
    Ok(())
}

/// Messages by their number.
#[derive(Debug, Default)]
struct UnderWay {
    /// Handed over, and not acknowledged.
    live: BTreeSet<u64>,
    /// Those of them that were handed over before the kill.
    awaited: BTreeSet<u64>,
    /// When the last of those was acknowledged.
    recovered_at: Option<Instant>,
}

impl UnderWay {
    fn finished(&mut self, number: u64) {
        self.live.remove(&number);
        if self.awaited.remove(&number) && self.awaited.is_empty() {
            self.recovered_at = Some(Instant::now());
        }
    }
}

/// Sends at a steady rate, kills whoever has the most on its way, and goes on until everything that
/// was handed over before is acknowledged.
///
/// # Errors
///
/// When a message is not accepted, or nobody ever has anything on its way.
pub(super) async fn strike(
    node: &NodeEnd,
    pids: &[u32],
    rate: u32,
    payload: usize,
) -> Result<Struck, Failure> {
    let under_way = Arc::new(Mutex::new(UnderWay::default()));
    let mut tasks = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    let started = Instant::now();
    let mut killed: Option<(Struck, Instant)> = None;
    for number in 0.. {
        ticks.tick().await;
        let recovered_at = lock(&under_way).recovered_at;
        if let Some((struck, at)) = &killed
            && let Some(recovered_at) = recovered_at
        {
            let took = recovered_at.saturating_duration_since(*at).as_micros();
            let micros = u32::try_from(took).unwrap_or(u32::MAX);
            finish(tasks).await?;
            return Ok(Struck { micros, ..struck.clone() });
        }
        lock(&under_way).live.insert(number);
        let (node_of, under) = (node.clone(), Arc::clone(&under_way));
        let payload = Bytes::from(vec![0x5a; payload]);
        tasks.spawn(async move {
            node_of.through(payload).await?;
            lock(&under).finished(number);
            Ok::<_, Failure>(())
        });
        while let Some(done) = tasks.try_join_next() {
            done.map_err(|error| Failure::other(format_args!("a message: {error}")))??;
        }
        if killed.is_none() && started.elapsed() > LEAD {
            killed = aim(node, pids, &under_way)?;
        }
        if started.elapsed() > STRIKE_MAX {
            break;
        }
    }
    Err(Failure::other("what was on its way when an endpoint was killed is not acknowledged"))
}

async fn finish(mut tasks: JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| Failure::other(format_args!("a message: {error}")))??;
    }
    Ok(())
}

/// Kills the process behind the endpoint with the most on its way; nobody while none has any.
fn aim(
    node: &NodeEnd,
    pids: &[u32],
    under_way: &Mutex<UnderWay>,
) -> Result<Option<(Struck, Instant)>, Failure> {
    let status = node.status();
    let owed = status.endpoints.iter().map(|endpoint| endpoint.unacknowledged).enumerate();
    let Some((victim, on_its_way)) = owed.max_by_key(|(_, owed)| *owed) else { return Ok(None) };
    if on_its_way == 0 {
        return Ok(None);
    }
    let pid = pids.get(victim).and_then(|pid| i32::try_from(*pid).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::other("a governance node has no process"))?;
    let mut under = lock(under_way);
    under.awaited = under.live.clone();
    let at = Instant::now();
    kill_process(pid, Signal::KILL).map_err(|error| {
        Failure::other(format_args!("a governance node cannot be killed: {error}"))
    })?;
    Ok(Some((Struck { victim, on_its_way, micros: 0 }, at)))
}

fn lock(under_way: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}
