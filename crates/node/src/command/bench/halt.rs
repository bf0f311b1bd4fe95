//! `bench halt`: governance halts the chain while full load runs; how long from the frame until the
//! Chain is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_actor::neighbours::chain::{ChainMessage, NodeReport};
use alys_stream_protocol::governance::NodeStatus;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::durable::print;
use super::end::{End, Order};
use super::load::{Load, Loaded};
use super::stage::{Common, Special, Stage};
use super::stats;
use crate::failure::Failure;

/// The event that a session logs for every batch that arrives.
const ARRIVED: &str = alys_stream_transport::session::driver::ARRIVED;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    common: Common,
    /// Pause between two halts
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=10_000))]
    every_ms: u64,
    /// Callers that send meanwhile
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    producers: u32,
}

/// What was heard since the last time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Heard {
    /// From the frame until the Chain was told, in microseconds.
    micros: Vec<u32>,
}

/// Takes the times: as a subscriber of the log when a batch arrives, as the Chain when it is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Ear(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    /// When a batch arrived whose halt was not told yet.
    arrived_at: Option<Instant>,
    heard: Heard,
}

impl Ear {
    /// Takes the place of the log.
    ///
    /// # Errors
    ///
    /// When there is one already.
    pub(super) fn listen(&self) -> Result<(), Failure> {
        let subscriber = tracing_subscriber::registry().with(Frames(self.clone()));
        tracing::subscriber::set_global_default(subscriber).map_err(Failure::config)
    }

    /// What was heard since the last time.
    pub(super) fn take(&self) -> Heard {
        std::mem::take(&mut self.lock().heard)
    }

    fn arrived(&self) {
        self.lock().arrived_at.get_or_insert_with(Instant::now);
    }

    /// What arrived was no halt.
    fn forget(&self) {
        self.lock().arrived_at = None;
    }

    fn told(&self) {
        let mut times = self.lock();
        if let Some(arrived_at) = times.arrived_at.take() {
            let micros = u32::try_from(arrived_at.elapsed().as_micros()).unwrap_or(u32::MAX);
            times.heard.micros.push(micros);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hears of batches that arrive, and of nothing else.
struct Frames(Ear);

impl<S: tracing::Subscriber> Layer<S> for Frames {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _ctx: Context<'_, S>) -> bool {
        metadata.target() == ARRIVED
    }

    fn on_event(&self, _event: &tracing::Event<'_>, _ctx: Context<'_, S>) {
        self.0.arrived();
    }
}

/// A Chain that says yes to everything, and takes the time of halts.
pub(super) struct Chain(Ear);

impl Chain {
    pub(super) const fn new(ear: Ear) -> Self {
        Self(ear)
    }
}

impl Actor for Chain {
    type Msg = ChainMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<ChainMessage>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<ChainMessage>,
        message: ChainMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let answer = match message {
            ChainMessage::Halt { answer, .. } => {
                self.0.told();
                answer
            }
            ChainMessage::Resume { answer, .. } => {
                self.0.forget();
                answer
            }
            ChainMessage::Scheduled { answer, .. }
            | ChainMessage::InForce { answer, .. }
            | ChainMessage::Proposal { answer, .. }
            | ChainMessage::ProposalClosed { answer, .. } => answer,
            ChainMessage::NodeStatus(reply) => {
                drop(reply.send(NodeReport { status: NodeStatus::Active, block_height: 0 }));
                return Ok(());
            }
            ChainMessage::Snapshot(reply) => {
                drop(reply.send(alys_stream_actor::neighbours::chain::ChainSnapshot::default()));
                return Ok(());
            }
        };
        // Whoever asked may have given up waiting.
        drop(answer.send(Ok(())));
        Ok(())
    }
}

/// Measures and prints.
///
/// # Errors
///
/// When a process fails, or a halt is not heard of.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let common = &args.common;
    let mut stage = Stage::prepare(common)?;
    let mut node = stage.start(common, Special { halts: true, ..Special::default() }).await?;
    let pushing = stage.minted.governance.first().map(|one| one.admin.to_string());
    let admin = pushing.ok_or_else(|| Failure::other("there is no governance node"))?;
    let load = |millis| Load {
        millis,
        producers: args.producers,
        together: 1,
        payload: common.payload_bytes(),
        window: 32_768,
    };
    // Under load of its own, so that nothing is cold.
    load_and_push(&mut node, load(1000), &admin, &args, 1).await?;
    node.ask::<Heard>(&Order::Heard).await?;
    let (loaded, pushed) =
        load_and_push(&mut node, load(common.seconds * 1000), &admin, &args, 1001).await?;
    let heard: Heard = node.ask(&Order::Heard).await?;
    stage.finish(node).await?;
    let mut micros = heard.micros;
    micros.sort_unstable();
    if micros.is_empty() {
        return Err(Failure::other(format_args!("none of {pushed} halts was heard of")));
    }
    let millis = |percent| stats::thousandths(stats::quantile(&micros, percent) / 1000.0);
    let value = json!({
        "p50_ms": millis(50),
        "p99_ms": millis(99),
        "max_ms": millis(100),
        "load_msgs_per_s": loaded.rate().round(),
        "halts_pushed": pushed.div_ceil(2),
        "halts_heard": micros.len(),
        "payload_bytes": common.payload,
        "endpoints": common.endpoints,
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
    });
    print(common.json, &value)
}

/// Load, and a halt every now and then until it ends; how many were pushed.
async fn load_and_push(
    node: &mut End,
    load: Load,
    admin: &str,
    args: &Args,
    first_version: u64,
) -> Result<(Loaded, u64), Failure> {
    let mut ticks = tokio::time::interval(Duration::from_millis(args.every_ms));
    let order = Order::Load(load);
    let mut loading = std::pin::pin!(node.ask::<Loaded>(&order));
    let mut pushed = 0;
    loop {
        tokio::select! {
            biased;
            loaded = &mut loading => return Ok((loaded?, pushed)),
            _ = ticks.tick() => {
                push(admin, first_version + pushed).await?;
                pushed += 1;
            }
        }
    }
}

/// Has a governance node push a signed halt.
async fn push(admin: &str, version: u64) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::other(format_args!("pushing a halt to {admin}: {why}"))
    };
    // Every other one ends the halt before it: what halts already is not told again.
    let body = json!({ "version": version, "resume": version.is_multiple_of(2) }).to_string();
    let request = format!(
        "POST /push/halt HTTP/1.0\r\nHost: {admin}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(admin).await.map_err(|error| failed(&error))?;
    stream.write_all(request.as_bytes()).await.map_err(|error| failed(&error))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(|error| failed(&error))?;
    let is_well = answer.split_ascii_whitespace().nth(1).is_some_and(|code| code.starts_with('2'));
    if is_well { Ok(()) } else { Err(failed(&answer.lines().last().unwrap_or_default())) }
}
