//! The owner of a node's messages: the outbox and the balancer of the product over a log in memory.
//!
//! It does what the actor layer does over a log on disk, without the threads of that log: they know
//! no virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_messaging::outbox::{self, Action, EndpointId, Intake, Loaded, Outbox};
use alys_stream_messaging::{History, OutboxConfig, Policy, RecordMeta, Refusal, Route};
use alys_stream_protocol::limits;
use alys_stream_protocol::message::{
    Epoch, LogId, Message, MessageId, MessageKind, Priority, Seq, Settled,
};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::WallClock as _;
use alys_stream_transport::exchange::{LocalLog, OutboundRecord};
use tokio::sync::Notify;

use super::balancing::Balancing;
use super::network::{SimClock, elapsed};

/// The kind of all messages: one that only the application understands.
const KIND: MessageKind = MessageKind(1000);

/// One message of so many is for all governance nodes.
const FOR_ALL: u64 = 8;

/// How often the outbox and the balancer look at the time.
const LOOK: Duration = Duration::from_millis(250);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is known of a message.
#[derive(Debug, Clone)]
struct Kept {
    meta: RecordMeta,
    message: Message,
    policy: Policy,
    accepted: Duration,
}

#[derive(Debug)]
struct State {
    outbox: Outbox,
    /// The log: what is not settled.
    kept: BTreeMap<Seq, Kept>,
    histories: BTreeMap<Seq, History>,
    next: Seq,
    settled: BTreeMap<MessageId, bool>,
    /// When each message for any was accepted, and when it had settled.
    times: Vec<(Duration, Duration)>,
    /// What each peer acknowledged.
    acked: BTreeSet<(EndpointId, Seq)>,
    /// Stored by a peer whose acknowledgement never came.
    resumed: u64,
    /// What ended otherwise; must stay empty.
    failed: Vec<String>,
}

/// One node's messages.
#[derive(Debug)]
pub(crate) struct Owner {
    log_id: LogId,
    state: Mutex<State>,
    balancer: Balancing,
    /// One for each endpoint.
    ready: Vec<Notify>,
}

impl Owner {
    pub(crate) fn new(seed: u64, endpoints: &[String]) -> Arc<Self> {
        let mut outbox = Outbox::new(OutboxConfig { seed, ..OutboxConfig::default() });
        for (id, name) in (0..).map(EndpointId).zip(endpoints) {
            outbox.handle_endpoint_added(id, name).unwrap();
        }
        let balancer = Balancing::new(seed, endpoints.len());
        outbox.set_balance(Box::new(balancer.clone()));
        let mut log_id = [0; 16];
        fastrand::Rng::with_seed(seed).fill(&mut log_id);
        let state = State {
            outbox,
            kept: BTreeMap::new(),
            histories: BTreeMap::new(),
            next: Seq(1),
            settled: BTreeMap::new(),
            times: Vec::new(),
            acked: BTreeSet::new(),
            resumed: 0,
            failed: Vec::new(),
        };
        Arc::new(Self {
            log_id: LogId::new(log_id),
            state: Mutex::new(state),
            balancer,
            ready: endpoints.iter().map(|_| Notify::new()).collect(),
        })
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.log_id
    }

    /// Accepts one message.
    pub(crate) fn accept(&self) {
        let mut state = lock(&self.state);
        let seq = state.next;
        state.next = seq.next();
        let mut id = *self.log_id.as_bytes();
        for (to, from) in id.iter_mut().zip(seq.0.to_be_bytes()) {
            *to = from;
        }
        let message = Message {
            id: MessageId::new(id),
            kind: KIND,
            priority: Priority::ALL.into_iter().nth(usize::try_from(seq.0 % 4).unwrap()).unwrap(),
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload: vec![7; 256].into(),
        };
        let policy = if seq.0.is_multiple_of(FOR_ALL) { Policy::All } else { Policy::Any };
        let now = SimClock.now();
        let meta = RecordMeta::new(seq, now, &message);
        state.kept.insert(seq, Kept { meta: meta.clone(), message, policy, accepted: elapsed() });
        state.outbox.handle_accepted(now, meta, Route { policy, awaits_answer: false });
        self.pump(&mut state);
    }

    /// Messages that were accepted, and those of them that have settled.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.next.0 - 1, u64::try_from(state.settled.len()).unwrap())
    }

    /// How many messages were found to be stored by a handshake alone.
    pub(crate) fn resumed(&self) -> u64 {
        lock(&self.state).resumed
    }

    /// When messages for any were accepted, and when they had settled.
    pub(crate) fn times(&self) -> Vec<(Duration, Duration)> {
        lock(&self.state).times.clone()
    }

    /// What has settled: the messages for all, and those for any.
    pub(crate) fn settled(&self) -> [BTreeSet<MessageId>; 2] {
        let state = lock(&self.state);
        assert!(state.failed.is_empty(), "{:?}", state.failed);
        let of = |for_all| {
            state.settled.iter().filter(move |(_, all)| **all == for_all).map(|(id, _)| *id)
        };
        [of(true).collect(), of(false).collect()]
    }

    /// Carries out what the outbox wants.
    fn pump(&self, state: &mut State) {
        while let Some(action) = state.outbox.poll_action() {
            match action {
                Action::Settle { seqs } => {
                    for seq in seqs.iter() {
                        let kept = state.kept.remove(&seq).unwrap();
                        let for_all = kept.policy == Policy::All;
                        state.settled.insert(kept.meta.id, for_all);
                        if !for_all {
                            state.times.push((kept.accepted, elapsed()));
                        }
                    }
                    state.outbox.handle_ends_durable(&seqs);
                }
                Action::Dead { seq, cause, .. } => state.failed.push(format!("{seq}: {cause:?}")),
                Action::Lost { seq } => state.failed.push(format!("{seq} was lost")),
                Action::Ready(id) => self.ready[usize::from(id.0)].notify_one(),
                Action::Load { seqs } => {
                    let histories = &state.histories;
                    let loaded = seqs.iter().filter_map(|seq| {
                        let kept = state.kept.get(seq)?;
                        Some(Loaded {
                            meta: kept.meta.clone(),
                            route: Route { policy: kept.policy, awaits_answer: false },
                            history: histories.get(seq).cloned().unwrap_or_default(),
                        })
                    });
                    let loaded: Vec<_> = loaded.collect();
                    state.outbox.handle_loaded(SimClock.now(), loaded);
                    for seq in seqs {
                        if !state.kept.contains_key(&seq) {
                            state.outbox.handle_forgotten(seq);
                        }
                    }
                }
                Action::Remember { seq, history, ticket } => {
                    state.histories.insert(seq, history);
                    state.outbox.handle_remembered(ticket);
                }
            }
        }
    }

    /// Lets time act, until it is dropped.
    pub(crate) async fn keep_time(&self) {
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            self.look();
        }
    }

    fn look(&self) {
        let mut state = lock(&self.state);
        state.outbox.handle_timeout(SimClock.now());
        let owed = (0..).map(EndpointId).take(self.ready.len());
        self.balancer.look(owed.map(|id| (id, state.outbox.in_flight(id))));
        self.pump(&mut state);
    }
}

/// What the streams of the endpoints do.
impl Owner {
    pub(crate) fn local(&self) -> LocalLog {
        let state = lock(&self.state);
        let settled_below = state.kept.keys().next().copied().unwrap_or(state.next);
        LocalLog {
            log_id: self.log_id,
            opening: Epoch(1).into(),
            next_seq: state.next,
            settled: Settled::known_below(settled_below),
        }
    }

    pub(crate) fn connected(&self, id: EndpointId, received: &SeqSet, intake: Intake) {
        let mut state = lock(&self.state);
        self.balancer.up(id);
        let acked = &state.acked;
        let is_new = |seq: &&Seq| received.contains(**seq) && !acked.contains(&(id, **seq));
        let known = state.kept.keys().filter(is_new).count();
        state.resumed += u64::try_from(known).unwrap();
        state.outbox.handle_connected(id, received);
        state.outbox.handle_intake(SimClock.now(), id, intake);
        self.pump(&mut state);
    }

    pub(crate) fn intake(&self, id: EndpointId, intake: Intake) {
        let mut state = lock(&self.state);
        state.outbox.handle_intake(SimClock.now(), id, intake);
        self.pump(&mut state);
    }

    pub(crate) fn disconnected(&self, id: EndpointId) {
        let mut state = lock(&self.state);
        self.balancer.down(id, state.outbox.in_flight(id) > 0);
        state.outbox.handle_disconnected(id);
        self.pump(&mut state);
    }

    pub(crate) fn batch(&self, id: EndpointId, budget: outbox::Budget) -> Vec<OutboundRecord> {
        let mut state = lock(&self.state);
        let (records, bytes) = (limits::BATCH_RECORDS_MAX, limits::BATCH_BYTES_MAX);
        let seqs = state.outbox.poll_batch(SimClock.now(), id, budget, records, bytes);
        self.pump(&mut state);
        let record = |seq: Seq| {
            let message = state.kept.get(&seq)?.message.clone();
            Some(OutboundRecord { seq, message })
        };
        seqs.into_iter().filter_map(record).collect()
    }

    pub(crate) async fn ready(&self, id: EndpointId) {
        self.ready[usize::from(id.0)].notified().await;
    }

    pub(crate) fn acked(&self, id: EndpointId, ranges: &SeqSet, latency: Duration) {
        self.balancer.latency(id, latency);
        let mut state = lock(&self.state);
        state.acked.extend(ranges.iter().map(|seq| (id, seq)));
        state.outbox.handle_ack(id, ranges);
        self.pump(&mut state);
    }

    pub(crate) fn refused(&self, id: EndpointId, seq: Seq, refusal: Refusal, text: &str) {
        if matches!(refusal, Refusal::Retry { .. }) {
            self.balancer.failed(id);
        }
        let mut state = lock(&self.state);
        state.outbox.handle_nack(SimClock.now(), id, seq, refusal, 0, text);
        self.pump(&mut state);
    }
}
