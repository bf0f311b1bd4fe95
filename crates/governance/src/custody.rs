//! Taking custody: what was received is stored before it is acknowledged, and applied once.
//!
//! Both dialects meet here, over one inbox and one ledger. Not the application itself: see
//! [`crate::engine`].
//!
//! Invariants:
//! - G10: nothing is acknowledged before it is on stable storage.
//! - G11: a message id is applied once, in whichever dialect and however often it arrives (D3).
//! - G19: a record that is not taken into the inbox keeps its id from no other record (D2).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alys_stream_messaging::buffer::Buffer;
use alys_stream_messaging::inbox::{Inbox, InboxRecord, Received};
use alys_stream_messaging::log::Position;
use alys_stream_messaging::storage::Workers;
use alys_stream_protocol::governance::{ErrorCode, StreamRequest};
use alys_stream_protocol::message::{LogId, Message, MessageId, MessageKind, Seq};
use alys_stream_protocol::time::{UnixMillis, WallClock};
use alys_stream_protocol::validate;
use prost::Message as _;
use tokio::sync::Notify;

use crate::content;
use crate::desk::{AnswerTo, Desk, Item, SignWork, Work};
use crate::ledger::{Application, Ledger, Standing};
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::peers::Peers;
use crate::session::order::KeyOrder;
use crate::streams::{StreamKey, Streams};
use crate::sync::lock;

/// What the node owns, shared by its streams and its engine.
#[derive(Debug)]
pub(crate) struct Custody {
    pub(crate) own_id: String,
    pub(crate) clock: Arc<dyn WallClock>,
    /// Who does what waits for the disk.
    pub(crate) workers: Workers,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Buffer,
    pub(crate) ledger: Arc<Ledger>,
    /// Held from asking whose an id is until its record is taken, or the id is given back (G19).
    pub(crate) taking: Mutex<()>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) desk: Desk,
    pub(crate) outbound: Mutex<Outbound>,
    /// Wakes the session of a node when something is owed to it.
    pub(crate) wakes: Mutex<BTreeMap<String, Arc<Notify>>>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) plain: PlainLine,
}

/// Gives messages of plain streams, which have no numbers, a number line of our own.
#[derive(Debug)]
pub(crate) struct PlainLine {
    log: LogId,
    next: Mutex<Seq>,
}

impl PlainLine {
    /// Continues the line where the inbox has it.
    pub(crate) fn new(own_id: &str, inbox: &Inbox) -> Self {
        let log = Self::log_of(own_id);
        let next = Mutex::new(inbox.cursor(log).highest_seen.next());
        Self { log, next }
    }

    /// Which log plain messages are filed under.
    pub(crate) fn log_of(own_id: &str) -> LogId {
        LogId::new(*content::message_id(own_id, "log of plain streams").as_bytes())
    }
}

/// A record that is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Declined {
    /// Not now.
    Busy,
    /// Never: it breaks the protocol.
    Invalid(String),
    /// Never: its id belongs to something else.
    Conflict(MessageId),
}

impl Declined {
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Busy => ErrorCode::ServiceUnavailable,
            Self::Invalid(_) | Self::Conflict(_) => ErrorCode::InvalidRequest,
        }
    }
}

impl Declined {
    /// A word for metrics.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Invalid(_) => "invalid",
            Self::Conflict(_) => "conflict",
        }
    }
}

impl std::fmt::Display for Declined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Busy => f.write_str("too much is waiting to be applied; try again later"),
            Self::Invalid(text) => f.write_str(text),
            Self::Conflict(id) => {
                write!(f, "metadata.request_id: {id} was used for another content; use a new one")
            }
        }
    }
}

/// A message that may be taken.
struct Examined {
    application: Application,
    work: Work,
}

/// A record of a session that may be taken when its id is free.
struct Candidate {
    /// Which verdict is about it.
    index: usize,
    record: InboxRecord,
    examined: Examined,
}

/// A plain request in our custody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// It is stored once this is durable.
    pub(crate) position: Position,
    /// Whether the engine answers it.
    pub(crate) is_answered_later: bool,
}

impl Custody {
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Stores records of a session, in order. The result is ready once they are durable; what
    /// happens before its first suspension keeps the order of the wire.
    ///
    /// # Errors
    ///
    /// When the inbox cannot store anything any more.
    pub(crate) async fn receive(
        &self,
        sender: LogId,
        node_id: &Arc<str>,
        order: &Mutex<KeyOrder>,
        records: Vec<InboxRecord>,
    ) -> Result<Vec<Result<(), Declined>>, String> {
        let (verdicts, position) = self.take(sender, node_id, order, records);
        if let Some(position) = position {
            self.inbox.durable(position).await.map_err(|error| error.to_string())?;
        }
        Ok(verdicts)
    }

    /// Takes records into the inbox and puts them on the desk. Says when they are durable.
    fn take(
        &self,
        sender: LogId,
        node_id: &Arc<str>,
        order: &Mutex<KeyOrder>,
        records: Vec<InboxRecord>,
    ) -> (Vec<Result<(), Declined>>, Option<Position>) {
        let (mut verdicts, candidates) = self.look_at(sender, order, records);
        let mut taken = Vec::with_capacity(candidates.len());
        let mut examined = Vec::with_capacity(candidates.len());
        let taking = lock(&self.taking);
        let standings = self.ledger.claim(candidates.iter().map(|it| &it.examined.application));
        for (candidate, standing) in candidates.into_iter().zip(standings) {
            let Candidate { index, record, examined: item } = candidate;
            match standing {
                Standing::New | Standing::Own { .. } => {}
                Standing::Duplicate { .. } => self.metrics.duplicates_by_id(1),
                Standing::Conflict => {
                    if let Some(verdict) = verdicts.get_mut(index) {
                        *verdict = Err(Declined::Conflict(record.message.id));
                    }
                    continue;
                }
            }
            examined.push((record.seq, item, standing == Standing::New));
            taken.push(record);
        }
        if taken.is_empty() {
            return (verdicts, None);
        }
        let receipt = self.inbox.receive(sender, taken);
        self.metrics.duplicates_by_seq(receipt.duplicates);
        let position = receipt.position;
        let (mut items, mut left) = (Vec::with_capacity(receipt.fresh.len()), Vec::new());
        // In the same order; what is not fresh was there already, or is over by its own log.
        let mut fresh = receipt.fresh.iter().peekable();
        for (seq, Examined { application, work }, is_new) in examined {
            if let Some(fresh) = fresh.next_if(|fresh| fresh.seq == seq) {
                let (inbox, node_id) = (Some((fresh.id, position)), Arc::clone(node_id));
                items.push(Item { application, inbox, node_id, work });
            } else if is_new {
                left.push(application);
            }
        }
        self.ledger.release(&left);
        drop(taking);
        self.desk.push(items);
        (verdicts, Some(position))
    }

    /// What may be said of records before it is known whose their ids are, and those that may be
    /// taken: after what was refused of their key (G18).
    fn look_at(
        &self,
        sender: LogId,
        order: &Mutex<KeyOrder>,
        records: Vec<InboxRecord>,
    ) -> (Vec<Result<(), Declined>>, Vec<Candidate>) {
        let (now, has_room) = (self.now(), self.desk.has_room());
        let mut order = lock(order);
        let mut verdicts = Vec::with_capacity(records.len());
        let mut candidates = Vec::with_capacity(records.len());
        for record in records {
            if record.seq.is_volatile() {
                verdicts.push(self.pass(&record.message));
                continue;
            }
            let examined = if order.handle_arrived(&record) && has_room {
                self.examine(now, sender, &record)
            } else {
                order.handle_refused(&record);
                Err(Declined::Busy)
            };
            let index = verdicts.len();
            verdicts.push(
                examined.map(|examined| candidates.push(Candidate { index, record, examined })),
            );
        }
        (verdicts, candidates)
    }

    /// Stores one request of a plain stream; wait for its position to be durable before saying so
    /// to the peer.
    ///
    /// # Errors
    ///
    /// When the request is not taken.
    pub(crate) fn receive_plain(
        &self,
        node_id: &Arc<str>,
        stream: StreamKey,
        kind: MessageKind,
        request: &StreamRequest,
    ) -> Result<Taken, Declined> {
        let request_id =
            request.metadata.as_ref().map_or("", |metadata| metadata.request_id.as_str());
        let priority = request.metadata.as_ref().map_or(0, |metadata| metadata.priority);
        let message = Message {
            id: content::message_id(node_id, request_id),
            kind,
            priority: alys_stream_protocol::governance::RequestPriority::try_from_wire(priority)
                .unwrap_or_default(),
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload: request.encode_to_vec().into(),
        };
        let mut next = lock(&self.plain.next);
        let seq = *next;
        let application = application(self.now(), self.plain.log, seq, &message, Some(request));
        let work = work(&message, AnswerTo::Plain(stream));
        let is_answered_later = matches!(work, Work::Sign(_));
        if !self.desk.has_room() {
            return Err(Declined::Busy);
        }
        let taking = lock(&self.taking);
        let standing = self.claim(&application);
        drop(taking);
        match standing {
            Standing::New | Standing::Own { .. } => {}
            Standing::Conflict => return Err(Declined::Conflict(message.id)),
            Standing::Duplicate { received } => {
                self.metrics.duplicates_by_id(1);
                let application = Application { received, ..application };
                self.desk.push([Item {
                    application,
                    inbox: None,
                    node_id: Arc::clone(node_id),
                    work,
                }]);
                return Ok(Taken {
                    position: self.inbox.receive(self.plain.log, Vec::new()).position,
                    is_answered_later,
                });
            }
        }
        *next = seq.next();
        let receipt = self.inbox.receive(self.plain.log, vec![InboxRecord { seq, message }]);
        let items = receipt.fresh.iter().map(|fresh| Item {
            application,
            inbox: Some((fresh.id, receipt.position)),
            node_id: Arc::clone(node_id),
            work: work.clone(),
        });
        self.desk.push(items.collect::<Vec<_>>());
        Ok(Taken { position: receipt.position, is_answered_later })
    }

    /// Takes up what was stored before a restart and not handled.
    pub(crate) fn recover(&self, unhandled: Vec<Received>) {
        let items: Vec<Item> = unhandled
            .into_iter()
            .map(|received| {
                let node_id = self.peers.node_of(received.sender);
                let answer_to = node_id.as_ref().map_or(AnswerTo::Nobody, |_| AnswerTo::Session);
                let request = StreamRequest::decode(received.message.payload.clone()).ok();
                let mut application = application(
                    self.now(),
                    received.sender,
                    received.seq,
                    &received.message,
                    request.as_ref(),
                );
                // Its time runs from when it was first received, if that is known.
                if let Standing::Own { received, .. } | Standing::Duplicate { received } =
                    self.claim(&application)
                {
                    application.received = received;
                }
                Item {
                    application,
                    inbox: Some((received.id, Position::default())),
                    node_id: node_id.unwrap_or_default().into(),
                    work: work(&received.message, answer_to),
                }
            })
            .collect();
        if !items.is_empty() {
            tracing::info!(
                messages = items.len(),
                "messages of before the restart are taken up again"
            );
        }
        self.desk.push(items);
    }

    /// The wake-up of a node's session.
    pub(crate) fn wake_of(&self, node_id: &str) -> Arc<Notify> {
        Arc::clone(lock(&self.wakes).entry(node_id.to_owned()).or_default())
    }

    fn claim(&self, application: &Application) -> Standing {
        self.ledger.claim([application]).pop().unwrap_or(Standing::New)
    }

    /// Takes a message of the memory class: it has no number, is stored nowhere and is never
    /// acknowledged, and the next one of its kind replaces it.
    fn pass(&self, message: &Message) -> Result<(), Declined> {
        if !message.kind.is_application() {
            read(message)?;
        }
        self.metrics.applied(message.kind, 1);
        Ok(())
    }

    /// Checks a record of a session.
    fn examine(
        &self,
        now: UnixMillis,
        sender: LogId,
        record: &InboxRecord,
    ) -> Result<Examined, Declined> {
        let InboxRecord { seq, message } = record;
        let request = if message.kind.is_application() { None } else { Some(read(message)?) };
        let application = application(now, sender, *seq, message, request.as_ref());
        Ok(Examined { application, work: work(message, AnswerTo::Session) })
    }
}

fn application(
    now: UnixMillis,
    sender: LogId,
    seq: Seq,
    message: &Message,
    request: Option<&StreamRequest>,
) -> Application {
    let request = request.filter(|_| !message.kind.is_application());
    Application {
        id: message.id,
        kind: message.kind,
        sender,
        seq,
        received: now,
        digest: content::digest(message.kind, &message.payload, request),
    }
}

/// Reads and checks the payload of a record.
fn read(message: &Message) -> Result<StreamRequest, Declined> {
    let invalid = |text: String| Declined::Invalid(text);
    let request = StreamRequest::decode(message.payload.clone())
        .map_err(|error| invalid(format!("payload: not a StreamRequest ({error})")))?;
    let kind = validate::request(&request).map_err(|error| invalid(error.to_string()))?;
    if kind != message.kind {
        return Err(invalid(format!("kind: {} is announced, {kind} is inside", message.kind)));
    }
    let request_id = request.metadata.as_ref().map_or("", |metadata| metadata.request_id.as_str());
    if request_id.parse() != Ok(message.id) {
        return Err(invalid(format!("metadata.request_id: is not the message id {}", message.id)));
    }
    Ok(request)
}

fn work(message: &Message, answer_to: AnswerTo) -> Work {
    if message.kind == MessageKind::SIGNATURE_REQUEST {
        Work::Sign(Arc::new(SignWork {
            payload: message.payload.clone(),
            priority: message.priority,
            traceparent: message.traceparent.clone(),
            answer_to,
        }))
    } else {
        Work::Apply
    }
}
