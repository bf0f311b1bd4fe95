//! What a simulated governance node keeps of one node, on its disk: what it received, and what it is
//! still to push. It outlives every session and every crash.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::message::{
    Epoch, Forgotten, LogId, Message, MessageId, MessageKind, Opening, Priority, Seq, Settled,
};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::GapCause;
use alys_stream_transport::exchange::{
    Budget, Exchange, InboundRecord, LocalLog, Nack, OutboundRecord, PeerLog, ReceiveCursor,
    ReceiveError, Refusal, Verdict,
};
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::network::elapsed;

/// How long storing a batch takes.
const SYNC: Duration = Duration::from_millis(2);

#[derive(Debug, Default)]
struct Books {
    /// The node's log and what came of it.
    received: SeqSet,
    applied: BTreeMap<MessageId, u32>,
    /// Every batch: when it came, and how many records were in it.
    batches: Vec<(Duration, usize)>,
    /// To be pushed, in order, and what is under way.
    queue: VecDeque<u64>,
    in_flight: BTreeSet<u64>,
    pushed: u64,
    acks: u64,
    /// The number of the session in charge.
    session: u64,
}

/// What is kept of one node.
#[derive(Debug)]
pub(crate) struct Shelf {
    log_id: LogId,
    books: Mutex<Books>,
    ready: Notify,
    /// Storing waits as long as it is so.
    stuck: watch::Receiver<bool>,
}

impl Shelf {
    pub(crate) fn new(log_id: LogId, stuck: watch::Receiver<bool>) -> Arc<Self> {
        Arc::new(Self { log_id, books: Mutex::default(), ready: Notify::new(), stuck })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more message for the node.
    pub(crate) fn push(&self) {
        let mut books = self.books();
        books.pushed += 1;
        let seq = books.pushed;
        books.queue.push_back(seq);
        drop(books);
        self.ready.notify_one();
    }

    /// How often each message was applied.
    pub(crate) fn applied(&self) -> BTreeMap<MessageId, u32> {
        self.books().applied.clone()
    }

    /// When batches came, and how many records were in each.
    pub(crate) fn batches(&self) -> Vec<(Duration, usize)> {
        self.books().batches.clone()
    }

    /// What was pushed, and whether all of it was taken.
    pub(crate) fn pushes(&self) -> (LogId, u64, bool) {
        let books = self.books();
        (self.log_id, books.pushed, books.queue.is_empty() && books.in_flight.is_empty())
    }

    /// Another session takes over; what the last one had under way goes back.
    pub(crate) fn open(self: &Arc<Self>) -> Sitting {
        let mut books = self.books();
        books.session += 1;
        books.acks = 0;
        let back = std::mem::take(&mut books.in_flight);
        for seq in back.into_iter().rev() {
            books.queue.push_front(seq);
        }
        Sitting { shelf: Arc::clone(self), session: books.session }
    }
}

/// One session with a node.
#[derive(Debug)]
pub(crate) struct Sitting {
    shelf: Arc<Shelf>,
    session: u64,
}

impl Sitting {
    /// The books, as long as this session is in charge.
    fn books(&self) -> Option<MutexGuard<'_, Books>> {
        let books = self.shelf.books();
        (books.session == self.session).then_some(books)
    }
}

fn message(log: LogId, seq: u64) -> Message {
    let mut id = *log.as_bytes();
    for (to, from) in id.iter_mut().zip(seq.to_be_bytes()) {
        *to = from;
    }
    Message {
        id: MessageId::new(id),
        kind: MessageKind(1001),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: vec![9; 64].into(),
    }
}

impl Exchange for Sitting {
    fn local(&self) -> LocalLog {
        let books = self.shelf.books();
        let unsettled = books.queue.iter().chain(&books.in_flight).min();
        LocalLog {
            log_id: self.shelf.log_id,
            opening: Epoch(1).into(),
            next_seq: Seq(books.pushed + 1),
            settled: Settled::known_below(Seq(unsettled.copied().unwrap_or(books.pushed + 1))),
        }
    }

    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor {
        let received = self.shelf.books().received.clone();
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
        Vec::new()
    }

    fn established(&self, peer: &PeerLog) -> Result<(), Refusal> {
        if let Some(mut books) = self.books() {
            books.queue.retain(|seq| !peer.received.contains(Seq(*seq)));
        }
        Ok(())
    }

    fn established_plain(&self, peer_id: &str) {
        panic!("{peer_id} speaks sessions");
    }

    fn poll_batch(&self, budget: Budget) -> Vec<OutboundRecord> {
        let Some(mut books) = self.books() else { return Vec::new() };
        let most = usize::try_from(budget.messages).unwrap().min(books.queue.len());
        let taken: Vec<u64> = books.queue.drain(..most).collect();
        books.in_flight.extend(&taken);
        let record =
            |seq| OutboundRecord { seq: Seq(seq), message: message(self.shelf.log_id, seq) };
        taken.into_iter().map(record).collect()
    }

    async fn ready(&self) {
        self.shelf.ready.notified().await;
    }

    fn acked(&self, ack_id: u64, ranges: &SeqSet) {
        if let Some(mut books) = self.books() {
            books.in_flight.retain(|seq| !ranges.contains(Seq(*seq)));
            books.acks = ack_id;
        }
    }

    fn acks_durable(&self) -> u64 {
        self.books().map_or(0, |books| books.acks)
    }

    fn peer_settled(&self, _settled: Settled, _covered: &SeqSet) {}

    fn nacked(&self, nack: Nack) {
        panic!("a node refuses nothing: {nack:?}");
    }

    async fn receive(&self, records: Vec<InboundRecord>) -> Result<Vec<Verdict>, ReceiveError> {
        tokio::time::sleep(SYNC).await;
        let mut stuck = self.shelf.stuck.clone();
        // The governance node lives as long as the simulation.
        drop(stuck.wait_for(|stuck| !stuck).await);
        let mut books = self.shelf.books();
        books.batches.push((elapsed(), records.len()));
        for record in &records {
            if books.received.insert(record.seq) {
                *books.applied.entry(record.message.id).or_default() += 1;
            }
        }
        Ok(records.iter().map(|_| Verdict::Stored).collect())
    }

    fn receive_unsequenced(&self, response: StreamResponse, _encoded: Bytes) {
        panic!("nothing here is plain: {response:?}");
    }

    fn gap(&self, range: RangeInclusive<Seq>, cause: GapCause, text: &str) {
        panic!("a gap {range:?}: {} {text}", cause.as_str_name());
    }

    fn lost(&self) {
        let Some(mut books) = self.books() else { return };
        let back = std::mem::take(&mut books.in_flight);
        for seq in back.into_iter().rev() {
            books.queue.push_front(seq);
        }
        drop(books);
        self.shelf.ready.notify_one();
    }
}
