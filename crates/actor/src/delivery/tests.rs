//! The drivers over real stores, with a wall clock that the test moves and no peers but the test.

use std::sync::Mutex;

use alys_stream_messaging::outbox::{Budget, OutboxConfig, Refusal};
use alys_stream_messaging::{Buffer, BufferConfig};
use alys_stream_protocol::message::Priority;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_telemetry::metrics::Metrics;
use alys_stream_transport::endpoint::EndpointConfig;
use bytes::Bytes;
use prost::Message as _;
use tokio::task::JoinSet;

use super::*;
use crate::collector::fixture;
use crate::config::{Bounds, StreamConfig};
use crate::federation::{Root, Version};
use crate::letters::{self, LetterFilter, LettersPage, PageBounds};
use crate::neighbours::NeighbourActors;
use crate::supervision::restart::RestartLimits;
use crate::system::Surroundings;

mod answers;
mod audited;
mod backlog;
mod balance;
mod bounds;
mod classes;
mod damaged;
mod deaths;
mod ended;
mod gate;
mod held;
mod holes;
mod hostile;
mod pushed;
mod rollback;
mod room;
mod said;
mod targets;
mod tries;
mod urgent;

const START: UnixMillis = UnixMillis(1_700_000_000_000);

/// The first endpoint.
const ONE: EndpointId = EndpointId(0);

/// Wall time that stands still until it is moved.
#[derive(Debug)]
struct Clock(Mutex<UnixMillis>);

impl Clock {
    fn pass(&self, time: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.saturating_add(time);
    }
}

impl WallClock for Clock {
    fn now(&self) -> UnixMillis {
        *self.0.lock().unwrap()
    }
}

/// A node in a folder, without links.
struct Site {
    dir: tempfile::TempDir,
    clock: Arc<Clock>,
    config: StreamConfig,
}

/// One life of it.
struct Life {
    delivery: Arc<Delivery>,
    metrics: Arc<Metrics>,
    drivers: JoinSet<Result<(), String>>,
}

impl Site {
    fn new(endpoints: u16, bounds: Bounds) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = |index: u16| {
            let url = format!("https://gov-{index}.example:9443").parse().unwrap();
            EndpointConfig::new(format!("gov-{index}"), url)
        };
        let config = StreamConfig {
            node: alys_stream_transport::grpc::NodeIdentity {
                node_id: "node-1".into(),
                software: "test/1".into(),
                public_key: String::new(),
                node_type: alys_stream_protocol::governance::NodeType::Bridge,
                region: None,
                auth: None,
            },
            data_dir: dir.path().to_owned(),
            buffer: BufferConfig::default(),
            router: Default::default(),
            endpoints: (0..endpoints).map(endpoint).collect(),
            settings: Default::default(),
            dials: Default::default(),
            tls: None,
            tls_files: None,
            federation: Some(Root { version: Version(0), federation: fixture::federation() }),
            network: bitcoin::Network::Regtest,
            agreement: Default::default(),
            neighbours: NeighbourActors::in_memory(bitcoin::Network::Regtest),
            gate: Arc::new(crate::gate::Open),
            bounds,
            restarts: RestartLimits::default(),
            seed: 11,
            faults: Default::default(),
            ground: Default::default(),
        };
        let clock = Arc::new(Clock(Mutex::new(START)));
        Self { dir, clock, config }
    }

    /// Opens everything and starts the drivers.
    async fn start(&self) -> Life {
        self.start_with(Neighbours::default()).await
    }

    /// The same with these neighbours.
    async fn start_with(&self, neighbours: Neighbours) -> Life {
        let around = Surroundings { neighbours, ..self.surroundings() };
        let metrics = Arc::clone(&around.metrics);
        let opened = Delivery::open(&self.config, around).unwrap();
        let delivery = opened.resume().await.unwrap();
        let drivers = delivery.drivers();
        Life { delivery, metrics, drivers }
    }

    fn surroundings(&self) -> Surroundings {
        let clock: Arc<dyn WallClock> = self.clock.clone();
        Surroundings::new(Arc::new(Metrics::new()), clock)
    }

    /// The buffer, while no life has it.
    fn buffer(&self) -> Buffer {
        let dir = self.dir.path().join("buffer");
        Buffer::open(&dir, self.config.buffer, Arc::clone(&self.config.ground.storage)).unwrap().0
    }
}

impl Life {
    /// Accepts messages; they are in the outbox then.
    async fn accept(&self, messages: Vec<Message>) -> Vec<Accepted> {
        let accepted = self.delivery.accept(messages).await.unwrap();
        let last = accepted.iter().map(|accepted| accepted.seq).max().unwrap();
        while !self.delivery.lock().outbox.contains(last) {
            tokio::task::yield_now().await;
        }
        accepted
    }

    fn connect(&self, endpoint: EndpointId) {
        self.delivery.handle_connected(endpoint, None, &SeqSet::new());
    }

    /// The next batch of an endpoint; waits until there is one.
    async fn batch(&self, endpoint: EndpointId) -> Vec<Seq> {
        let slot = &self.delivery.endpoints[usize::from(endpoint.0)];
        loop {
            let budget = Budget::new(64, 1 << 20);
            let batch = self.delivery.poll_batch(endpoint, budget);
            if !batch.is_empty() {
                return batch;
            }
            slot.ready.notified().await;
        }
    }

    fn ack(&self, endpoint: EndpointId, seqs: &[Seq]) {
        let ranges = seqs.iter().copied().collect();
        self.delivery.handle_ack(endpoint, 1, &ranges);
    }

    /// Takes and acknowledges messages until there were so many.
    async fn drain(&self, endpoint: EndpointId, count: usize) -> Vec<Seq> {
        let mut seen = Vec::with_capacity(count);
        while seen.len() < count {
            let batch = self.batch(endpoint).await;
            self.ack(endpoint, &batch);
            seen.extend(batch);
        }
        seen
    }

    async fn ended(&self, id: MessageId) -> OutcomeState {
        let mut follow = self.delivery.follow(id).unwrap();
        follow.finished_outcome().await.unwrap().state()
    }

    /// The dead letters.
    fn letters(&self) -> LettersPage {
        let bounds = PageBounds { after: None, count_max: 100, bytes_max: usize::MAX };
        letters::page(&self.delivery.dead_letters, &LetterFilter::default(), bounds)
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|l| l == line)
    }

    async fn stop(mut self) {
        self.drivers.shutdown().await;
        self.delivery.close().await;
    }
}

fn id(number: u64) -> MessageId {
    MessageId::new(u128::from(number + 1).to_be_bytes())
}

/// An application's message.
fn message(number: u64, kind: u32, priority: Priority) -> Message {
    Message {
        id: id(number),
        kind: MessageKind(kind),
        priority,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: Bytes::from(number.to_le_bytes().to_vec()),
    }
}

fn messages(numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers.map(|number| message(number, 1000, Priority::Normal)).collect()
}
