//! What governance pushed and actors have to deal with: updates of the federation, halts,
//! proposals. Acknowledged once they did (D8).
//!
//! ```text
//! inbox ─▶ lane (halts │ updates │ proposals) ─▶ federation, proposals ─▶ actors ─▶ handled ─▶ acknowledged
//!                    ▲─────── backoff ◀── not now ──┘        └── never, or too often ─▶ dead letter
//! ```
//!
//! Each lane deals with one thing at a time, so actors hear of things in order; halts have a lane
//! of their own, which nothing else holds up. The peer is told `in progress` meanwhile, and to come
//! again later when a lane is full. Emergencies do not wait for the disk of the inbox either.
//!
//! Not here: what an update or a proposal leads to ([`crate::federation`], [`crate::proposals`]).
//!
//! Invariants:
//! - A19: a record of a peer is acknowledged only when the actor it is for has dealt with it, when it
//!   is refused for good, when it is kept for an agreement, or when it is a durable dead letter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_messaging::inbox::{InboxId, Received};
use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::governance::{
    FederationUpdate, FederationUpdateType, ProposalNotification, StreamResponse,
    stream_response::Payload,
};
use alys_stream_protocol::message::{LogId, Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{Delivery, Disposal};
use crate::collector::Source;
use crate::failure::{Classified, Context, FailureKind};
use crate::federation::{EmergencyKind, FederationDriver, Moment, kind_of};
use crate::proposals::ProposalDriver;

mod again;
mod attempt;
mod end;
mod lane;

pub(crate) use again::is_pushed;
pub(crate) use end::run;
#[cfg(test)]
pub(crate) use lane::ITEMS_MAX;
use lane::Lane;

/// Something pushed that was not dealt with, and not for its own sake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DutyError {
    /// A plain peer pushes faster than actors deal with it; it keeps nothing to send again.
    #[error("too much is waiting for the actors: what a plain peer pushed is dropped")]
    Full,
    /// No federation is configured.
    #[error("no federation is configured: federation updates cannot be verified")]
    NoFederation,
    /// Nobody knows yet which endpoint a log belongs to.
    #[error("the peer of log {0} is not connected: what it pushed waits")]
    Unattributed(LogId),
}

impl Classified for DutyError {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Full => FailureKind::NoRoom,
            Self::NoFederation => FailureKind::NoFederation,
            Self::Unattributed(_) => FailureKind::LinkBroken,
        }
    }
}

/// Where something pushed came from, besides its endpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// It is in the inbox.
    Stored(&'a Received),
    /// It is nowhere else: its bytes.
    Passing(&'a Bytes),
}

impl Origin<'_> {
    pub(super) const fn entry(self) -> Option<InboxId> {
        match self {
            Self::Stored(received) => Some(received.id),
            Self::Passing(_) => None,
        }
    }
}

/// The lanes, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LaneName {
    Halts,
    Updates,
    Proposals,
}

impl LaneName {
    pub(crate) const ALL: [Self; 3] = [Self::Halts, Self::Updates, Self::Proposals];

    /// The word used in metrics and output.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Halts => "halts",
            Self::Updates => "updates",
            Self::Proposals => "proposals",
        }
    }

    /// The lane of something pushed; `None` of everything else.
    fn of(response: &StreamResponse) -> Option<Self> {
        match &response.payload {
            Some(Payload::FederationUpdate(update)) => Some(match update.update_type() {
                // To go on is not urgent, and must not hold up the next halt.
                FederationUpdateType::EmergencyHalt => match kind_of(update) {
                    EmergencyKind::Halt => Self::Halts,
                    EmergencyKind::Resume => Self::Updates,
                },
                FederationUpdateType::MemberAdd
                | FederationUpdateType::MemberRemove
                | FederationUpdateType::ConfigChange
                | FederationUpdateType::Unspecified => Self::Updates,
            }),
            Some(Payload::ProposalNotification(_)) => Some(Self::Proposals),
            Some(
                Payload::RegistrationAck(_)
                | Payload::SignatureResponse(_)
                | Payload::ErrorResponse(_)
                | Payload::HeartbeatAck(_),
            )
            | None => None,
        }
    }
}

#[derive(Debug)]
enum Content {
    Update(Arc<FederationUpdate>),
    Proposal(Box<ProposalNotification>),
}

/// What an actor has to deal with, of what governance sent.
fn content(response: &StreamResponse) -> Option<Content> {
    match &response.payload {
        Some(Payload::FederationUpdate(it)) => Some(Content::Update(Arc::new(it.clone()))),
        Some(Payload::ProposalNotification(it)) => Some(Content::Proposal(Box::new(it.clone()))),
        Some(
            Payload::RegistrationAck(_)
            | Payload::SignatureResponse(_)
            | Payload::ErrorResponse(_)
            | Payload::HeartbeatAck(_),
        )
        | None => None,
    }
}

/// Something pushed that waits.
#[derive(Debug)]
struct Duty {
    content: Content,
    source: Source,
    entry: Option<InboxId>,
    /// Its place in the log of the peer.
    place: Option<(LogId, Seq)>,
    /// As it came, for a dead letter.
    message: Message,
}

/// What waits, and what it is for.
#[derive(Debug)]
pub(crate) struct Duties {
    /// `None` without a configured federation.
    pub(crate) federation: Option<FederationDriver>,
    pub(crate) proposals: ProposalDriver,
    lanes: [Mutex<Lane<Duty>>; 3],
    arrived: [Notify; 3],
    places: Mutex<Places>,
}

/// What peers have not been told the end of.
#[derive(Debug, Default)]
struct Places {
    /// Not dealt with; true when the peer was told so in its present session.
    pending: BTreeMap<LogId, BTreeMap<Seq, bool>>,
    /// Dealt with, and to be acknowledged in the present session.
    owed: BTreeMap<LogId, SeqSet>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Duties {
    pub(super) fn new(federation: Option<FederationDriver>, proposals: ProposalDriver) -> Self {
        Self {
            federation,
            proposals,
            lanes: Default::default(),
            arrived: Default::default(),
            places: Mutex::default(),
        }
    }

    fn lane(&self, name: LaneName) -> MutexGuard<'_, Lane<Duty>> {
        lock(&self.lanes[name as usize])
    }

    /// How much waits in a lane.
    pub(crate) fn waiting(&self, name: LaneName) -> usize {
        self.lane(name).len()
    }

    /// Whether there is room for this of that endpoint, if it is something that waits for an actor.
    pub(crate) fn has_room(&self, owner: Option<EndpointId>, response: &StreamResponse) -> bool {
        LaneName::of(response).is_none_or(|name| self.lane(name).has_room(owner))
    }

    /// What was stored of a log, and is not dealt with, is not acknowledged by a handshake: the peer
    /// sends it again, and is told so.
    pub(crate) fn withhold(&self, log: LogId, received: &mut SeqSet) {
        for seq in lock(&self.places).pending.get(&log).into_iter().flat_map(BTreeMap::keys) {
            received.remove_range(*seq..=*seq);
        }
    }

    /// A session of this log begins: nothing was said in it yet.
    pub(crate) fn handle_session(&self, log: LogId) {
        let mut places = lock(&self.places);
        places.owed.remove(&log);
        for is_told in places.pending.get_mut(&log).into_iter().flat_map(BTreeMap::values_mut) {
            *is_told = false;
        }
    }

    /// The peer sent this record in its present session. Whether it is not dealt with yet, and is
    /// to be told so.
    pub(crate) fn is_pending(&self, log: LogId, seq: Seq) -> bool {
        let mut places = lock(&self.places);
        let is_told = places.pending.get_mut(&log).and_then(|seqs| seqs.get_mut(&seq));
        is_told.is_some_and(|is_told| {
            *is_told = true;
            true
        })
    }

    /// What the present session of this log is still to be told.
    #[cfg(test)]
    pub(super) fn owed(&self, log: LogId) -> Vec<Seq> {
        lock(&self.places).owed.get(&log).map(|seqs| seqs.iter().collect()).unwrap_or_default()
    }

    /// Whether a record waits for its end.
    #[cfg(test)]
    pub(super) fn is_open(&self, log: LogId, seq: Seq) -> bool {
        lock(&self.places).pending.get(&log).is_some_and(|seqs| seqs.contains_key(&seq))
    }

    fn handle_ended(&self, (log, seq): (LogId, Seq)) {
        let mut places = lock(&self.places);
        let is_told = places.pending.get_mut(&log).and_then(|seqs| seqs.remove(&seq));
        // Who was not told in this session sends it again, and gets its answer then.
        if is_told == Some(true) {
            places.owed.entry(log).or_default().insert(seq);
        }
    }
}

impl Delivery {
    /// Takes something pushed in, when it is something that an actor deals with.
    pub(super) fn take_on(
        &self,
        source: Source,
        response: &StreamResponse,
        origin: Origin<'_>,
    ) -> Option<Disposal> {
        let name = LaneName::of(response)?;
        let content = content(response)?;
        let (message, place) = match origin {
            Origin::Stored(received) => {
                (received.message.clone(), Some((received.sender, received.seq)))
            }
            Origin::Passing(bytes) => (self.passing(name, response, bytes), None),
        };
        let (owner, endpoint) = {
            let state = self.lock();
            let name = super::State::source_name(&state.peers, self, source);
            (state.endpoint_of(source), name)
        };
        if place.is_none() && !self.duties.has_room(owner, response) {
            self.failures.record(&DutyError::Full, Context::endpoint(&endpoint));
            return Some(Disposal::Handled);
        }
        if let Some((log, seq)) = place {
            lock(&self.duties.places).pending.entry(log).or_default().insert(seq, false);
        }
        let bytes = message.payload.len();
        let duty = Duty { content, source, entry: origin.entry(), place, message };
        self.duties.lane(name).handle_arrived(duty, owner, bytes);
        self.duties.arrived[name as usize].notify_one();
        Some(Disposal::Pending)
    }

    fn passing(&self, name: LaneName, response: &StreamResponse, bytes: &Bytes) -> Message {
        let request_id = response.metadata.as_ref().and_then(|it| it.request_id.parse().ok());
        let kind = match name {
            LaneName::Halts | LaneName::Updates => MessageKind::FEDERATION_UPDATE,
            LaneName::Proposals => MessageKind::PROPOSAL_NOTIFICATION,
        };
        Message {
            id: request_id.unwrap_or_else(MessageId::mint),
            kind,
            priority: Priority::Normal,
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload: bytes.clone(),
        }
    }

    /// Now, on both lines.
    pub(crate) fn moment(&self) -> Moment {
        Moment { at: self.clock.now(), next_seq: self.buffer.next_seq() }
    }
}
