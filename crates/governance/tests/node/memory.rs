//! An Alys node with its messages in memory, as the session of the transport sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_stream_protocol::governance::{SignatureStatus, StreamResponse, stream_response};
use alys_stream_protocol::message::{
    Epoch, Forgotten, LogId, Message, MessageKind, Opening, Seq, Settled,
};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::GapCause;
use alys_stream_transport::exchange::{
    Budget, Exchange, InboundRecord, LocalLog, Nack, NackKind, OutboundRecord, PeerLog,
    ReceiveCursor, ReceiveError, Refusal, Verdict,
};
use alys_stream_transport::session::driver::{Observed, SessionObserver};
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{Notify, watch};

use crate::requests::{message, pegin};
use crate::world::LONG;

/// What the node of the test has sent, and what it got.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) settled: BTreeSet<Seq>,
    pub(crate) refused: Vec<(Seq, NackKind)>,
    pub(crate) answers: Vec<StreamResponse>,
    /// What the peer said that it had stored when the session opened.
    pub(crate) resumed: u64,
    /// How often the peer asked to send nothing, and to go on.
    pub(crate) suspended: (u32, u32),
}

#[derive(Default)]
struct Queue {
    queued: BTreeSet<Seq>,
    in_flight: BTreeSet<Seq>,
    received: BTreeMap<LogId, SeqSet>,
}

/// An Alys node with its messages in memory.
pub(crate) struct Node {
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
    pub(crate) messages: BTreeMap<Seq, Message>,
    /// So many batches from the peer are refused for now.
    pub(crate) refusals: AtomicU32,
    queue: Mutex<Queue>,
    ready: Notify,
    pub(crate) progress: watch::Sender<Progress>,
}

impl Node {
    pub(crate) fn new(messages: Vec<Message>) -> Arc<Self> {
        let messages = (1..).map(Seq).zip(messages).collect();
        let (queue, ready, progress) = (Mutex::default(), Notify::new(), watch::Sender::default());
        let (log, epoch, refusals) = (LogId::new([7; 16]), Epoch(1), AtomicU32::new(0));
        Arc::new(Self { log, epoch, messages, refusals, queue, ready, progress })
    }

    /// Waits until something is true of the progress.
    pub(crate) async fn until(&self, what: impl FnMut(&Progress) -> bool) -> Progress {
        let mut progress = self.progress.subscribe();
        let reached = tokio::time::timeout(LONG, progress.wait_for(what)).await;
        reached.expect("in time").expect("the node lives").clone()
    }
}

impl Exchange for Node {
    fn local(&self) -> LocalLog {
        let next_seq = self.messages.last_key_value().map_or(Seq::FIRST, |(seq, _)| seq.next());
        let (log_id, opening) = (self.log, self.epoch.into());
        LocalLog { log_id, opening, next_seq, settled: Settled::NONE }
    }

    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor {
        let received =
            self.queue.lock().unwrap().received.get(&peer_log).cloned().unwrap_or_default();
        let highest_seen = received.last().unwrap_or(Seq(0));
        ReceiveCursor {
            log_id: peer_log,
            received,
            highest_seen,
            seen: Opening::NONE,
            forgotten: Forgotten::NONE,
        }
    }

    fn receive_cursors(&self) -> Vec<ReceiveCursor> {
        let logs: Vec<LogId> = self.queue.lock().unwrap().received.keys().copied().collect();
        logs.into_iter().map(|log| self.receive_cursor(log)).collect()
    }

    fn established(&self, peer: &PeerLog) -> Result<(), Refusal> {
        let mut queue = self.queue.lock().unwrap();
        queue.received.entry(peer.log_id).or_default();
        queue.queued =
            self.messages.keys().copied().filter(|seq| !peer.received.contains(*seq)).collect();
        drop(queue);
        self.progress.send_modify(|progress| {
            progress.resumed = peer.received.count();
            progress.settled.extend(peer.received.iter());
        });
        self.ready.notify_one();
        Ok(())
    }

    fn established_plain(&self, _peer_id: &str) {}

    fn poll_batch(&self, budget: Budget) -> Vec<OutboundRecord> {
        let mut queue = self.queue.lock().unwrap();
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < usize::try_from(budget.messages).unwrap() && bytes < 60_000 {
            let Some(seq) = queue.queued.pop_first() else {
                break;
            };
            let message = self.messages[&seq].clone();
            bytes += message.payload.len();
            queue.in_flight.insert(seq);
            records.push(OutboundRecord { seq, message });
        }
        records
    }

    async fn ready(&self) {
        self.ready.notified().await;
    }

    fn acked(&self, _ack_id: u64, ranges: &SeqSet) {
        self.queue.lock().unwrap().in_flight.retain(|seq| !ranges.contains(*seq));
        self.progress.send_modify(|progress| progress.settled.extend(ranges.iter()));
    }

    fn acks_durable(&self) -> u64 {
        0
    }

    fn peer_settled(&self, _settled: Settled, _covered: &SeqSet) {}

    fn nacked(&self, nack: Nack) {
        self.queue.lock().unwrap().in_flight.remove(&nack.seq);
        self.progress.send_modify(|progress| progress.refused.push((nack.seq, nack.kind)));
    }

    async fn receive(&self, records: Vec<InboundRecord>) -> Result<Vec<Verdict>, ReceiveError> {
        let is_refused = self
            .refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if is_refused.is_ok() {
            let kind = NackKind::Retry { after: Some(Duration::from_millis(20)) };
            let refused = |_| Verdict::Refused { kind, code: 5, text: "not now".to_owned() };
            return Ok(records.iter().map(refused).collect());
        }
        let verdicts = records.iter().map(|_| Verdict::Stored).collect();
        let mut fresh = Vec::new();
        let mut queue = self.queue.lock().unwrap();
        let received = queue.received.values_mut().next().unwrap();
        for record in records {
            if received.insert(record.seq) {
                fresh.push(StreamResponse::decode(record.message.payload).unwrap());
            }
        }
        drop(queue);
        self.progress.send_modify(|progress| progress.answers.extend(fresh));
        Ok(verdicts)
    }

    fn receive_unsequenced(&self, _response: StreamResponse, _encoded: Bytes) {}

    fn gap(&self, _range: RangeInclusive<Seq>, _cause: GapCause, _text: &str) {}

    fn lost(&self) {
        let mut queue = self.queue.lock().unwrap();
        let in_flight = std::mem::take(&mut queue.in_flight);
        queue.queued.extend(in_flight);
    }
}

impl SessionObserver for Node {
    fn observe(&self, _now: std::time::Instant, observed: Observed<'_>) {
        if let Observed::Suspended(_) = observed {
            self.progress.send_modify(|progress| progress.suspended.0 += 1);
        }
        if let Observed::Resumed(_) = observed {
            self.progress.send_modify(|progress| progress.suspended.1 += 1);
        }
    }
}

/// Peg-in notifications, each another one.
pub(crate) fn pegins(count: u64) -> Vec<Message> {
    (1..=count).map(|amount| message(MessageKind::PEGIN_NOTIFICATION, pegin(amount))).collect()
}

/// Which requests were answered for good, and how.
pub(crate) fn final_answers(progress: &Progress) -> Vec<(String, i32)> {
    let pending = i32::from(SignatureStatus::Pending);
    progress
        .answers
        .iter()
        .filter_map(|response| match &response.payload {
            Some(stream_response::Payload::SignatureResponse(answer))
                if answer.status != pending =>
            {
                Some((response.metadata.as_ref().unwrap().request_id.clone(), answer.status))
            }
            _ => None,
        })
        .collect()
}
