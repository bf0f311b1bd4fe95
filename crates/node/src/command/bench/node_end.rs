//! The end of a link that is a whole node: the actor tree with its buffer, its metrics and its TLS,
//! and load that is handed over where an application of the same process would.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_actor::neighbours::Plug;
use alys_stream_actor::{Status, StreamConfig, StreamHandle, StreamSystem};
use alys_stream_config::NodeConfig;
use alys_stream_messaging::router::{Durability, KindConfig, Policy};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority};
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::SystemClock;
use alys_stream_telemetry::logs;
use alys_stream_telemetry::metrics::Metrics;
use bytes::Bytes;
use tokio::time::Instant;

use super::end::{self, Digest, Order, Orders, Stat};
use super::load::{self, Link, Load, Loaded};
use super::pace::{self, Acknowledges};
use super::{failover, halt, policy};
use crate::command::node::SOFTWARE;
use crate::failure::{Exit, Failure};

/// The kind of what is sent.
const KIND: MessageKind = MessageKind(1000);

/// The kinds of the memory class, one after the other: newest replaces older of the same kind, so
/// it takes several to fill a batch.
const VOLATILE: std::ops::Range<u32> = 2000..4048;

/// So many of them are offered at once, while no more than twice as many wait.
const VOLATILE_TOGETHER: usize = 512;

/// How often it is looked whether endpoints are up.
const LOOK: Duration = Duration::from_millis(2);

/// Longest wait for endpoints to come up.
const UP_MAX: Duration = Duration::from_secs(120);

/// Messages handed over at once while a backlog is made, and how many such calls wait at a time.
const FILL_TOGETHER: u64 = 512;
const FILL_AT_ONCE: usize = 8;

/// Pause while enough of the memory class waits.
const BLAST_LOOK: Duration = Duration::from_micros(500);

/// What the node is told on its command line.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The minted configuration
    #[arg(long)]
    config: PathBuf,
    /// When a message is settled
    #[arg(long, default_value = "any", value_parser = policy::parse)]
    policy: Policy,
    /// Take times of halts; nothing else is logged then
    #[arg(long)]
    halts: bool,
    /// Priorities in turn instead of normal ones
    #[arg(long)]
    mixed: bool,
}

/// The node, and what was handed to it.
#[derive(Clone)]
pub(super) struct NodeEnd {
    handle: StreamHandle,
    metrics: Arc<Metrics>,
    accepted: Arc<Mutex<Accepted>>,
    mixed: bool,
}

#[derive(Debug, Default)]
struct Accepted {
    messages: u64,
    ids: Digest,
}

/// Runs a node until the parent has no more orders.
///
/// # Errors
///
/// When it cannot start, or an order does not succeed.
pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let loaded = NodeConfig::load(&args.config)?;
    let heard = halt::Ear::default();
    if args.halts {
        heard.listen()?;
    } else {
        logs::init(&loaded.config.log).map_err(Failure::config)?;
    }
    let mut config = StreamConfig::from_loaded(loaded, SOFTWARE);
    let application = KindConfig { policy: Some(args.policy), ..KindConfig::default() };
    config.router.kinds.insert("application".to_owned(), application);
    let volatile = KindConfig {
        policy: Some(Policy::All),
        durability: Some(Durability::Memory),
        ..KindConfig::default()
    };
    config.router.kinds.extend(VOLATILE.map(|kind| (kind.to_string(), volatile)));
    let ear = heard.clone();
    config.neighbours.chain = Plug::actor(move |_| (halt::Chain::new(ear.clone()), ()));
    let metrics = Arc::new(Metrics::new());
    let system = StreamSystem::start(config, Arc::clone(&metrics), Arc::new(SystemClock)).await?;
    let node =
        NodeEnd { handle: system.handle(), metrics, accepted: Arc::default(), mixed: args.mixed };
    let mut orders = Orders::begin()?;
    while let Some(order) = orders.next().await {
        node.obey(order, &heard).await?;
    }
    system.shutdown(Duration::from_secs(1)).await;
    Ok(())
}

impl NodeEnd {
    async fn obey(&self, order: Order, heard: &halt::Ear) -> Result<(), Failure> {
        match order {
            Order::Load(load) => end::answer(&load::run(self, &load).await?),
            Order::Pace(pace) => end::answer(&pace::run(self, &pace).await?),
            Order::Fill { messages, payload } => end::answer(&self.fill(messages, payload).await?),
            Order::Blast(load) => end::answer(&self.blast(&load).await?),
            Order::Drain => {
                let started = Instant::now();
                let messages = self.handle.unsettled();
                load::acknowledged(self).await?;
                let seconds = started.elapsed().as_secs_f64();
                end::answer(&Loaded { messages, seconds })
            }
            Order::AwaitUp { endpoints } => end::answer(&self.up(endpoints).await?),
            Order::Strike { pids, rate, payload } => {
                end::answer(&failover::strike(self, &pids, rate, payload).await?)
            }
            Order::Heard => end::answer(&heard.take()),
            Order::Stat => end::answer(&self.stat()),
        }
    }

    pub(super) fn status(&self) -> Status {
        self.handle.status()
    }

    /// Waits until so many endpoints take messages; how long that took, in seconds.
    async fn up(&self, endpoints: usize) -> Result<f64, Failure> {
        let started = Instant::now();
        loop {
            let status = self.handle.status();
            let up = status.endpoints.iter().filter(|endpoint| is_up(endpoint)).count();
            if up >= endpoints {
                return Ok(started.elapsed().as_secs_f64());
            }
            if started.elapsed() > UP_MAX {
                return Err(Failure::unavailable(format_args!(
                    "{up} of {endpoints} endpoints are up"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn message(&self, kind: MessageKind, index: usize, payload: Bytes) -> Message {
        let priority = match (self.mixed, index % 4) {
            (true, 0) => Priority::High,
            (true, 3) => Priority::Low,
            _ => Priority::Normal,
        };
        Message {
            id: MessageId::mint(),
            kind,
            priority,
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload,
        }
    }

    async fn accept(&self, messages: Vec<Message>) -> Result<(), Failure> {
        let accepted = self.handle.send_all(messages).await;
        let accepted = accepted.map_err(|error| Failure::new(Exit::Io, error))?;
        let mut ids = Digest::default();
        for message in &accepted {
            ids.add(message.id.as_bytes());
        }
        let mut counted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.messages += u64::try_from(accepted.len()).unwrap_or(0);
        counted.ids.merge(ids);
        Ok(())
    }

    /// Accepts so many, several calls at a time, and waits for nothing else.
    async fn fill(&self, messages: u64, payload: usize) -> Result<Loaded, Failure> {
        let started = Instant::now();
        let left = Arc::new(Mutex::new(messages));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..FILL_AT_ONCE {
            let (node, left) = (self.clone(), Arc::clone(&left));
            let bytes = vec![0x5a; payload];
            tasks.spawn(async move {
                loop {
                    let together = {
                        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
                        let together = FILL_TOGETHER.min(*left);
                        *left -= together;
                        usize::try_from(together).unwrap_or(0)
                    };
                    if together == 0 {
                        return Ok::<_, Failure>(());
                    }
                    let payloads = (0..together).map(|_| Bytes::copy_from_slice(&bytes)).collect();
                    node.send(payloads).await?;
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|error| Failure::other(format_args!("filling: {error}")))??;
        }
        Ok(Loaded { messages, seconds: started.elapsed().as_secs_f64() })
    }

    /// Offers messages of the memory class, one of each kind at a time, as fast as they are written;
    /// how many were written.
    async fn blast(&self, load: &Load) -> Result<Loaded, Failure> {
        let payload = vec![0x5a; load.payload];
        let written = || metric(&self.metrics.encode(), "alys_governance_messages_sent_total");
        let started = Instant::now();
        let (before, span) = (written(), Duration::from_millis(load.millis));
        let mut kinds = VOLATILE.cycle().enumerate();
        while started.elapsed() < span {
            if self.handle.volatile_waiting() > 2 * VOLATILE_TOGETHER {
                tokio::time::sleep(BLAST_LOOK).await;
                continue;
            }
            let messages = kinds.by_ref().take(VOLATILE_TOGETHER).map(|(index, kind)| {
                self.message(MessageKind(kind), index, Bytes::copy_from_slice(&payload))
            });
            let offered = self.handle.send_all(messages.collect()).await;
            offered.map_err(|error| Failure::new(Exit::Io, error))?;
        }
        while self.handle.volatile_waiting() > 0 && started.elapsed() < 2 * span {
            tokio::time::sleep(BLAST_LOOK).await;
        }
        let seconds = started.elapsed().as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let messages = (written() - before).max(0.0) as u64;
        Ok(Loaded { messages, seconds })
    }

    fn stat(&self) -> Stat {
        let text = self.metrics.encode();
        let counted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        let status = self.handle.status();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let count = |name: &str| metric(&text, name).max(0.0) as u64;
        Stat {
            accepted: counted.messages,
            ids: counted.ids,
            owed: self.handle.unsettled(),
            dead: status.queues.map_or(0, |queues| queues.dead_letters),
            syncs: count("alys_stream_fsync_seconds_count"),
            synced: count("alys_stream_records_per_fsync_sum"),
            sync_seconds: metric(&text, "alys_stream_fsync_seconds_sum"),
        }
    }
}

fn is_up(endpoint: &alys_stream_actor::status::LinkStatus) -> bool {
    use alys_stream_transport::connection::StateKind;
    matches!(
        endpoint.connection.state,
        StateKind::Streaming | StateKind::Healthy | StateKind::Warning
    )
}

/// The sum of all series of a family, in the text of an exposition.
pub(super) fn metric(text: &str, name: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit_once(' ')?.1.parse::<f64>().ok())?
    });
    values.sum()
}

impl Link for NodeEnd {
    async fn send(&self, payloads: Vec<Bytes>) -> Result<(), Failure> {
        let messages = payloads.into_iter().enumerate();
        let messages = messages.map(|(index, payload)| self.message(KIND, index, payload));
        self.accept(messages.collect()).await
    }

    fn owed(&self) -> u64 {
        self.handle.unsettled()
    }
}

impl Acknowledges for NodeEnd {
    async fn through(&self, payload: Bytes) -> Result<(), Failure> {
        let message = self.message(KIND, 1, payload);
        let id = message.id;
        self.accept(vec![message]).await?;
        let followed = self.handle.follow(id).await;
        let followed = followed.map_err(|error| Failure::new(Exit::Io, error))?;
        let mut follow =
            followed.ok_or_else(|| Failure::other("an accepted message is unknown"))?;
        while let Some(outcome) = follow.next().await {
            match outcome.state() {
                OutcomeState::Accepted | OutcomeState::Unspecified => {}
                OutcomeState::Pending | OutcomeState::Complete => return Ok(()),
                OutcomeState::Failed | OutcomeState::TimedOut => break,
            }
        }
        Err(Failure::other("a message was not acknowledged"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_summed_over_its_labels() {
        let text =
            "# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_total_more 7\nb 1.5\n";
        assert!((metric(text, "a_total") - 5.0).abs() < 1e-9);
        assert!((metric(text, "b") - 1.5).abs() < 1e-9);
        assert!(metric(text, "c").abs() < 1e-9);
    }
}
