//! Two drivers over channels, on paused time.

mod proofs;
mod urgent;

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::limits;
use alys_stream_protocol::message::{
    Epoch, Forgotten, LogId, Message, MessageKind, Opening, Priority, Settled,
};
use alys_stream_protocol::session::RefuseCode;
use alys_stream_protocol::time::SystemClock;
use bytes::Bytes;
use futures::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::exchange::{
    Budget, Load, LocalLog, NackKind, PeerLog, ReceiveCursor, ReceiveError, Verdict,
};
use crate::session::credential::SessionAuth;
use crate::session::features::Features;
use crate::session::handshake::{Limits, Terms};
use crate::session::rotation::StreamAge;
use crate::session::tests::message;
use crate::session::{Compression, SessionConfig, SessionViolation, credit::Credits};

/// A queue in memory on one side, a set on the other. As every owner of messages: what was sent and
/// not acknowledged when its stream is lost goes back to the queue, and what arrives again is known.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) queue: Mutex<VecDeque<u64>>,
    /// Sent from the queue in this session, and not acknowledged.
    pub(crate) in_flight: Mutex<BTreeSet<u64>>,
    /// Held by the one session there is: the next one begins when everything of the last is back.
    pub(crate) turn: tokio::sync::Mutex<()>,
    pub(crate) bytes: usize,
    pub(crate) notify: Notify,
    /// Told of every acknowledgement and refusal.
    pub(crate) progress: Notify,
    pub(crate) acked: Mutex<BTreeSet<u64>>,
    pub(crate) received: Mutex<Vec<u64>>,
    pub(crate) nacks: Mutex<Vec<Nack>>,
    pub(crate) losses: AtomicU32,
    /// What is sent, when not an application's own kind.
    pub(crate) kind: Option<MessageKind>,
    pub(crate) delivered: AtomicU32,
    pub(crate) acks_durable: AtomicU64,
    /// Storing takes for ever.
    pub(crate) stuck: AtomicBool,
    pub(crate) refuse: AtomicBool,
    /// Sent before the queue: numbers and sizes by priority, low first.
    pub(crate) lanes: Mutex<[VecDeque<(u64, usize)>; 4]>,
    /// What the peer said of its load.
    pub(crate) loads: Mutex<Vec<Load>>,
}

impl Memory {
    pub(crate) fn with(count: u64, bytes: usize) -> Arc<Self> {
        let queue = Mutex::new((1..=count).collect());
        Arc::new(Self { queue, bytes, ..Self::default() })
    }

    pub(crate) fn push(&self, priority: Priority, seq: u64, bytes: usize) {
        crate::lock(&self.lanes)[priority.index()].push_back((seq, bytes));
        self.notify.notify_one();
    }

    /// The most urgent first, within everything that a budget says.
    fn poll_lanes(&self, budget: Budget) -> Vec<OutboundRecord> {
        let mut lanes = crate::lock(&self.lanes);
        let (mut batch, mut sum) = (Vec::new(), 0);
        for priority in Priority::ALL.into_iter().rev() {
            let (messages, bytes_max) = budget.of(priority);
            let critical = priority == Priority::Critical;
            while let Some((seq, bytes)) = lanes[priority.index()].front().copied() {
                let size = u64::try_from(bytes).unwrap();
                let fits = batch.len() < usize::try_from(messages).unwrap()
                    && sum + size <= bytes_max
                    && sum < u64::try_from(limits::BATCH_BYTES_MAX).unwrap()
                    && (critical || size <= budget.large_bytes_max);
                if !fits {
                    break;
                }
                lanes[priority.index()].pop_front();
                sum += size;
                let message = Message { priority, ..message(seq, bytes) };
                batch.push(OutboundRecord { seq: Seq(seq), message });
            }
        }
        batch
    }
}

impl Exchange for Memory {
    fn local(&self) -> LocalLog {
        LocalLog {
            log_id: LogId::new([1; 16]),
            opening: Epoch(1).into(),
            next_seq: Seq(1_000_000),
            settled: Settled::NONE,
        }
    }

    fn receive_cursor(&self, log_id: LogId) -> ReceiveCursor {
        let mut received = SeqSet::new();
        for seq in crate::lock(&self.received).iter() {
            received.insert(Seq(*seq));
        }
        let highest_seen = received.last().unwrap_or(Seq(0));
        ReceiveCursor {
            log_id,
            received,
            highest_seen,
            seen: Opening::NONE,
            forgotten: Forgotten::NONE,
        }
    }

    fn receive_cursors(&self) -> Vec<ReceiveCursor> {
        // Every side of these tests calls its log the same.
        vec![self.receive_cursor(self.local().log_id)]
    }

    fn established(&self, peer: &PeerLog) -> Result<(), Refusal> {
        self.acks_durable.store(0, Ordering::Relaxed);
        // Handshake rule 1: what the peer says that it has is acknowledged.
        crate::lock(&self.queue).retain(|seq| !peer.received.contains(Seq(*seq)));
        crate::lock(&self.acked).extend(peer.received.iter().map(|seq| seq.0));
        self.progress.notify_one();
        Ok(())
    }

    fn established_plain(&self, _peer_id: &str) {}

    fn poll_batch(&self, budget: Budget) -> Vec<OutboundRecord> {
        let urgent = self.poll_lanes(budget);
        if !urgent.is_empty() {
            return urgent;
        }
        let mut queue = crate::lock(&self.queue);
        let fit = budget.bytes / u64::try_from(self.bytes.max(1)).unwrap();
        let count = u64::from(budget.messages).min(fit).min(u64::try_from(queue.len()).unwrap());
        let taken = queue.drain(..usize::try_from(count).unwrap());
        let record = |seq| {
            let mut message = message(seq, self.bytes);
            message.kind = self.kind.unwrap_or(message.kind);
            OutboundRecord { seq: Seq(seq), message }
        };
        let batch: Vec<OutboundRecord> = taken.map(record).collect();
        crate::lock(&self.in_flight).extend(batch.iter().map(|record| record.seq.0));
        batch
    }

    fn ready(&self) -> impl Future<Output = ()> + Send {
        self.notify.notified()
    }

    fn acked(&self, ack_id: u64, ranges: &SeqSet) {
        crate::lock(&self.acked).extend(ranges.iter().map(|seq| seq.0));
        crate::lock(&self.in_flight).retain(|seq| !ranges.contains(Seq(*seq)));
        self.acks_durable.store(ack_id, Ordering::Relaxed);
        self.progress.notify_one();
    }

    fn acks_durable(&self) -> u64 {
        self.acks_durable.load(Ordering::Relaxed)
    }

    fn peer_settled(&self, _settled: Settled, _covered: &SeqSet) {}

    fn nacked(&self, nack: Nack) {
        crate::lock(&self.in_flight).remove(&nack.seq.0);
        crate::lock(&self.nacks).push(nack);
        self.progress.notify_one();
    }

    async fn receive(&self, records: Vec<InboundRecord>) -> Result<Vec<Verdict>, ReceiveError> {
        if self.stuck.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
        let refuse = self.refuse.load(Ordering::Relaxed);
        let mut verdicts = Vec::new();
        for record in records {
            let seq = record.seq.0;
            let mut received = crate::lock(&self.received);
            // D3: it may be known, whatever became of its acknowledgement.
            if !refuse && (record.seq.is_volatile() || !received.contains(&seq)) {
                received.push(seq);
            }
            drop(received);
            verdicts.push(if refuse {
                let kind = NackKind::Retry { after: Some(Duration::from_secs(1)) };
                Verdict::Refused { kind, code: 4, text: "busy".into() }
            } else {
                Verdict::Stored
            });
        }
        Ok(verdicts)
    }

    fn receive_unsequenced(&self, _response: StreamResponse, _encoded: Bytes) {
        self.delivered.fetch_add(1, Ordering::Relaxed);
    }

    fn gap(&self, _range: RangeInclusive<Seq>, _cause: GapCause, _text: &str) {}

    fn peer_load(&self, load: Load) {
        crate::lock(&self.loads).push(load);
        self.progress.notify_one();
    }

    /// T1: in order, before everything that was never sent.
    fn lost(&self) {
        let in_flight = std::mem::take(&mut *crate::lock(&self.in_flight));
        let mut queue = crate::lock(&self.queue);
        for seq in in_flight.into_iter().rev() {
            queue.push_front(seq);
        }
        drop(queue);
        self.notify.notify_one();
        self.losses.fetch_add(1, Ordering::Relaxed);
    }
}

type Incoming = futures::stream::BoxStream<'static, Result<Frame, Infallible>>;

struct Running {
    tasks: JoinSet<(usize, SessionEnd<Infallible>)>,
    shutdown: [CancellationToken; 2],
    controls: [mpsc::Sender<Control>; 2],
}

fn terms(limits: Limits) -> Terms {
    Terms {
        session_id: "s".into(),
        peer_id: "p".into(),
        send: limits,
        receive: limits,
        heartbeat_interval: None,
        features: vec![],
        software: "test".into(),
        highest_sent: Seq(0),
        peer_settled_below: Seq(1),
    }
}

/// Runs two sides; `cut` drops every frame of the first one.
fn run_pair(sides: [&Arc<Memory>; 2], limits: Limits, cut: bool) -> Running {
    run_sides(sides, &terms(limits), SessionConfig::default(), cut)
}

fn run_sides(sides: [&Arc<Memory>; 2], terms: &Terms, config: SessionConfig, cut: bool) -> Running {
    let ([a_out, b_out], [a_in, b_in]) = {
        let (a_out, b_in) = mpsc::channel(FRAMES_OUT_MAX);
        let (b_out, a_in) = mpsc::channel(FRAMES_OUT_MAX);
        ([a_out, b_out], [a_in, b_in])
    };
    let shutdown = [CancellationToken::new(), CancellationToken::new()];
    let mut tasks = JoinSet::new();
    let mut controls = Vec::new();
    let directions = [(a_out, a_in), (b_out, b_in)];
    for (index, ((out, incoming), exchange)) in directions.into_iter().zip(sides).enumerate() {
        let (sender, orders) = mpsc::channel(4);
        controls.push(sender);
        let parts = SessionParts {
            session: Session::new(now(), terms.clone(), config),
            exchange: Arc::clone(exchange),
            observer: Arc::new(Unobserved),
            clock: Arc::new(SystemClock),
            auth: SessionAuth::none(),
            controls: orders,
            shutdown: shutdown[index].clone(),
            drain: Duration::from_secs(5),
        };
        let frames =
            ReceiverStream::new(incoming).filter(move |_| std::future::ready(!(cut && index == 1)));
        let frames: Incoming = frames.map(Ok).boxed();
        tasks.spawn(async move { (index, run(parts, frames, out).await) });
    }
    let controls: [_; 2] = controls.try_into().unwrap();
    Running { tasks, shutdown, controls }
}

/// Waits until `what` holds of a side; each of its changes wakes the wait.
pub(crate) async fn until(side: &Memory, what: impl Fn(&Memory) -> bool) {
    let wait = async {
        while !what(side) {
            side.progress.notified().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("in time");
}

async fn ends(mut running: Running) -> Vec<String> {
    let mut ends = vec![String::new(), String::new()];
    while let Some(ended) = running.tasks.join_next().await {
        let (index, end) = ended.unwrap();
        ends[index] = end.to_string();
    }
    ends
}

#[tokio::test(start_paused = true)]
async fn both_sides_send_at_once_and_close_politely() {
    let sides = [&Memory::with(5000, 200), &Memory::with(5000, 200)];
    let running = run_pair(sides, Limits::default(), false);
    for side in sides {
        until(side, |side| crate::lock(&side.acked).len() == 5000).await;
    }
    for side in sides {
        assert_eq!(*crate::lock(&side.received), (1..=5000).collect::<Vec<_>>(), "in order, once");
    }
    running.shutdown[0].cancel();
    assert_eq!(
        ends(running).await,
        ["closed politely by this side", "closed politely by the peer"]
    );
    for side in sides {
        assert_eq!(side.losses.load(Ordering::Relaxed), 1, "T1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_of_one_large_message_makes_progress() {
    let limits = Limits { credits: Credits { messages: 2, bytes: 1000 }, message_bytes_max: 1000 };
    let sides = [&Memory::with(50, 900), &Memory::with(0, 0)];
    let running = run_pair(sides, limits, false);
    until(sides[0], |side| crate::lock(&side.acked).len() == 50).await;
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn compressed_batches_and_long_records_arrive_like_any_other() {
    let terms = Terms { features: Features::ALL.names(), ..terms(Limits::default()) };
    let config = SessionConfig { compression: Compression::Always, ..SessionConfig::default() };
    let sides = [&Memory::with(3000, 200), &Memory::with(3000, 50)];
    for seq in 10_001..=10_012 {
        sides[0].push(Priority::Normal, seq, 300_000);
    }
    let running = run_sides(sides, &terms, config, false);
    until(sides[0], |side| crate::lock(&side.acked).len() == 3012).await;
    until(sides[1], |side| crate::lock(&side.acked).len() == 3000).await;
    let mut received = crate::lock(&sides[1].received).clone();
    received.sort_unstable();
    assert_eq!(received, (1..=3000).chain(10_001..=10_012).collect::<Vec<_>>(), "once");
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn both_sides_hear_how_busy_the_other_one_is() {
    let sides = [&Memory::with(0, 0), &Memory::with(0, 0)];
    sides[1].stuck.store(true, Ordering::Relaxed);
    let running = run_pair(sides, Limits::default(), false);
    crate::lock(&sides[0].queue).extend(1..=7);
    sides[0].notify.notify_one();
    let busy = Load { queued_messages: 7, busy_permille: 1000 };
    until(sides[0], |side| crate::lock(&side.loads).contains(&busy)).await;
    until(sides[1], |side| crate::lock(&side.loads).contains(&Load::default())).await;
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_reached_its_age_is_drained_and_says_so() {
    let age = StreamAge { max: Duration::from_secs(3600), drain: Duration::from_secs(30) };
    let config = SessionConfig { age: Some(age), ..SessionConfig::default() };
    let begun = tokio::time::Instant::now();
    let sides = [&Memory::with(100, 10), &Memory::with(100, 10)];
    let running = run_sides(sides, &terms(Limits::default()), config, false);
    let ends = ends(running).await;
    assert_eq!(begun.elapsed().as_secs(), 3600);
    assert!(ends.iter().all(|end| end == "closed politely for its age"), "{ends:?}");
    assert!(sides.iter().all(|side| crate::lock(&side.acked).len() == 100));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_hears_nothing_is_found_dead() {
    let sides = [&Memory::with(10, 10), &Memory::with(0, 0)];
    let begun = tokio::time::Instant::now();
    let running = run_pair(sides, Limits::default(), true);
    let ends = ends(running).await;
    assert!(begun.elapsed() <= Duration::from_secs(61), "T5: {:?}", begun.elapsed());
    // It has something in flight, so silence shows as a missing acknowledgement first.
    assert!(ends[0].contains("has not acknowledged message 1 for 30 s"), "{ends:?}");
    assert_eq!(sides[0].losses.load(Ordering::Relaxed), 1, "T1");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_stops_reading_and_nothing_else() {
    let sides = [&Memory::with(5000, 200), &Memory::with(100, 10)];
    sides[1].stuck.store(true, Ordering::Relaxed);
    let running = run_pair(sides, Limits::default(), false);
    until(sides[1], |side| crate::lock(&side.acked).len() == 100).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(crate::lock(&sides[0].acked).len(), 0);
    assert_eq!(running.tasks.len(), 2, "heartbeats keep it alive");
}

#[tokio::test(start_paused = true)]
async fn refusals_suspensions_and_late_acknowledgements_pass() {
    let sides = [&Memory::with(3, 10), &Memory::with(0, 0)];
    sides[1].refuse.store(true, Ordering::Relaxed);
    let running = run_pair(sides, Limits::default(), false);
    until(sides[0], |side| crate::lock(&side.nacks).len() == 3).await;
    assert_eq!(
        crate::lock(&sides[0].nacks)[0].kind,
        NackKind::Retry { after: Some(Duration::from_secs(1)) }
    );
    sides[1].refuse.store(false, Ordering::Relaxed);
    let order = |control| running.controls[1].send(control);
    order(Control::Suspend { reason: "upgrade".into() }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    crate::lock(&sides[0].queue).extend(4..=6);
    sides[0].notify.notify_one();
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(crate::lock(&sides[0].acked).len(), 0, "T14");
    order(Control::Resume { reason: "done".into() }).await.unwrap();
    until(sides[0], |side| crate::lock(&side.acked).len() == 3).await;
    let refusal = Refusal::new(RefuseCode::CredentialExpired, "too old");
    order(Control::Refuse(refusal)).await.unwrap();
    assert_eq!(
        ends(running).await,
        [
            "refused by the peer: REFUSE_CODE_CREDENTIAL_EXPIRED: too old",
            "refused by this side: REFUSE_CODE_CREDENTIAL_EXPIRED: too old"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_violation_is_told_to_the_peer() {
    let side = Memory::with(0, 0);
    let (out, mut frames_out) = mpsc::channel(FRAMES_OUT_MAX);
    let (sender, frames_in) = mpsc::channel(1);
    let (_orders, controls) = mpsc::channel(1);
    let parts = SessionParts {
        session: Session::new(now(), terms(Limits::default()), SessionConfig::default()),
        exchange: Arc::clone(&side),
        observer: Arc::new(Unobserved),
        clock: Arc::new(SystemClock),
        auth: SessionAuth::none(),
        controls,
        shutdown: CancellationToken::new(),
        drain: Duration::from_secs(5),
    };
    sender.send(Frame { kind: None }).await.unwrap();
    let frames: Incoming = ReceiverStream::new(frames_in).map(Ok).boxed();
    let mut tasks = JoinSet::new();
    tasks.spawn(run(parts, frames, out));
    let mut last = None;
    while let Some(frame) = frames_out.recv().await {
        last = frame.kind;
    }
    let Some(alys_stream_protocol::session::frame::Kind::Refuse(refuse)) = last else {
        panic!("{last:?}");
    };
    assert_eq!(refuse.code(), RefuseCode::ProtocolViolation);
    let end = tasks.join_next().await.unwrap().unwrap();
    assert!(matches!(end, SessionEnd::Violation(SessionViolation::UnknownFrame)), "{end}");
}
