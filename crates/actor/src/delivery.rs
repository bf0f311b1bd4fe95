//! Where the layers meet: the buffer that owns accepted messages, the machines that decide what is
//! sent to whom, and the stores of what came of it.
//!
//! One value per life of the StreamActor. All decisions are taken by pure machines under one short
//! lock; everything that waits (disk, peers, clocks) happens outside of it, in the drivers below.
//!
//! - `accept`: messages in, from callers (D1, D7).
//! - `feed`: what became durable goes to the outbox, and its timers; `load`: what the outbox knows in
//!   bits alone is read back when its turn comes.
//! - `settle`: what ended goes to the outcome store, the dead letters, the buffer, in that order (D2).
//! - `inbound`: what governance sends, to the collector or to subscribers; `duties`: what actors have
//!   to deal with; `governed`, `news`: what neighbours are told besides; `report`: what they say.
//! - `damage`: what a start cannot read back is told to operators (D5).
//! - `holes`: what cannot be read back is told to the peers (D5).
//! - `letters`: dead letters, shown, accepted again, removed; `expiry`: their bounds.
//!
//! Invariants:
//! - A6: nothing is offered to a peer before it is durable.
//! - A7: an outcome or a dead letter is durable before its message is settled in the buffer, and both
//!   before anybody is told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use alys_stream_messaging::buffer::{Buffer, RecordGap};
use alys_stream_messaging::dead_letter::DeadLetters;
use alys_stream_messaging::inbox::{Inbox, InboxId};
use alys_stream_messaging::log::Position;
use alys_stream_messaging::outbox::{Action, Attempt, Cause, EndpointId, Outbox, RefusalTicket};
use alys_stream_messaging::outcome::Outcomes;
use alys_stream_messaging::refusals::Refusals;
use alys_stream_messaging::router::Router;
use alys_stream_messaging::storage::Workers;
use alys_stream_protocol::message::{LogId, Message, MessageId, MessageKind, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::submission::{OutcomeState, SubscribeResponse};
use alys_stream_protocol::time::{UnixMillis, WallClock};
use alys_stream_telemetry::metrics::Metrics;
use tokio::sync::{Notify, OwnedMutexGuard, broadcast, watch};

use crate::ack_ledger::AckLedger;
use crate::balance::SharedBalancer;
use crate::collector::{Collector, Source};
use crate::failure::FailureLog;
use crate::gate::Gate;
use crate::letters::deaths::{Settling, end_of};
use crate::neighbours::Neighbours;
use crate::outcome::{Followers, Outcome};
use crate::tally::Tally;

mod accept;
mod audit;
mod damage;
mod duties;
mod expiry;
mod feed;
mod fence;
mod gauges;
mod governed;
mod holes;
mod inbound;
mod letters;
mod links;
mod load;
mod news;
mod open;
mod report;
mod rollback;
mod settle;

use duties::Duties;
use expiry::LettersWatch;
use holes::Holes;
use news::News;

pub use accept::{Accepted, SendError};
pub(crate) use audit::Audited;
pub(crate) use damage::StoreGap;
#[cfg(test)]
pub(crate) use duties::ITEMS_MAX as LANE_ITEMS_MAX;
pub(crate) use duties::{LaneName, Origin, is_pushed, run as run_lane};
pub(crate) use gauges::OutboxFill;
pub(crate) use holes::run as tell_holes;
pub(crate) use inbound::Disposal;
pub use open::StartError;
pub(crate) use report::run as report_status;

/// Everything that outlives a stream and dies with the StreamActor.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) buffer: Buffer,
    pub(crate) inbox: Inbox,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) outcomes: Outcomes,
    refusals: Refusals,
    pub(crate) balancer: SharedBalancer,
    pub(crate) workers: Workers,
    pub(crate) router: Router,
    /// What looks at everything that arrives.
    pub(crate) gate: Arc<dyn Gate>,
    /// What governance pushed, and who deals with it.
    pub(crate) duties: Duties,
    /// What the Bridge is told.
    news: News,
    pub(crate) neighbours: Neighbours,
    pub(crate) failures: Arc<FailureLog>,
    /// The highest height that Chain told; outlives this delivery.
    heights: watch::Sender<Option<u64>>,
    /// The last append failed for good.
    disk_failed: AtomicBool,
    pub(crate) endpoints: Vec<EndpointSlot>,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) events: broadcast::Sender<Arc<SubscribeResponse>>,
    state: Mutex<State>,
    /// Messages accepted since the start; beside the state, which callers need not wait for.
    accepted: AtomicU64,
    /// Something ended: work for the `settle` driver.
    settle: Notify,
    /// Held while ends become durable, and while dead letters are accepted again: between a dead
    /// letter and its settlement the message has both, and a replay would take it for one that lives
    /// (D1). True where that was cut short: the next start finishes it.
    ending: Arc<tokio::sync::Mutex<bool>>,
    /// What the start settled of them, and the lock: until that is durable no letter may go (A20).
    held_letters: Mutex<Option<(OwnedMutexGuard<bool>, Settling)>>,
    /// Somebody waits for what ended.
    settle_now: Notify,
    /// The outbox wants to know more of messages: work for the `load` driver.
    load: Notify,
    /// The outbox has an earlier timer than the one that is waited for.
    timer: Notify,
    /// Somebody panicked while holding the machines.
    broken: Notify,
    /// `dead_letters.age_max`.
    pub(crate) letters_age_max: Option<Duration>,
    letters_watch: Mutex<LettersWatch>,
    /// What the buffer could not read when it was opened.
    pub(crate) gaps: Vec<RecordGap>,
    /// What the stores beside it could not.
    pub(crate) store_gaps: Vec<StoreGap>,
    /// What the peers have to be told about that.
    holes: Holes,
    /// Messages below were accepted by an earlier process.
    resumed_below: Seq,
    /// Which peers found the log to be rolled back.
    fence: fence::Fence,
}

/// What belongs to one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointSlot {
    pub(crate) name: String,
    pub(crate) ready: Notify,
    pub(crate) tally: Tally,
}

/// The machines, under one lock that is never held across an await.
#[derive(Debug)]
struct State {
    outbox: Outbox,
    /// Everything that was accepted below is in the outbox, or was.
    fed_below: Seq,
    collector: Collector,
    followers: Followers,
    /// Live messages that somebody follows, to tell them when they settle.
    followed: BTreeMap<Seq, MessageId>,
    /// Where the outcome store says of the last replayed message that it lives again.
    marked: Option<Position>,
    /// Messages that were replayed, and live.
    replayed: SeqSet,
    ledgers: Vec<AckLedger>,
    /// For each endpoint the newest message of each kind of the memory class.
    volatile: Vec<BTreeMap<MessageKind, Message>>,
    /// What the outbox wants to know more of; it bounds how much that is.
    wanted: VecDeque<Vec<Seq>>,
    ended: Ended,
    /// Inbox entries whose contents an open signature request still needs.
    kept: BTreeMap<MessageId, Vec<InboxId>>,
    /// Which endpoint a peer's log belongs to.
    peers: BTreeMap<LogId, EndpointId>,
    /// Everything that this process sent to a peer is below.
    sent_below: BTreeMap<LogId, Seq>,
    wake_at: Option<UnixMillis>,
    counts: Counts,
}

/// What ended since the `settle` driver last looked.
#[derive(Debug, Default)]
struct Ended {
    settled: SeqSet,
    dead: Vec<Death>,
    lost: Vec<Loss>,
    concluded: Vec<(Seq, MessageId, Outcome)>,
    /// The last refusal that is to be remembered: what it lets go, and where it is stored.
    refused: Option<(RefusalTicket, Position)>,
}

impl Ended {
    fn is_empty(&self) -> bool {
        self.settled.is_empty()
            && self.dead.is_empty()
            && self.lost.is_empty()
            && self.concluded.is_empty()
            && self.refused.is_none()
    }
}

#[derive(Debug)]
struct Death {
    seq: Seq,
    cause: Cause,
    tries: Tries,
    /// How far a signature request got.
    collected: Option<Outcome>,
}

/// What was tried.
#[derive(Debug, Default)]
struct Tries {
    /// Every refusal; none of a message that was not in memory.
    refusals: Vec<Attempt>,
    unanswered: Vec<Attempt>,
}

/// A message that cannot be read back: nobody can be sent it, and it is no dead letter, since nobody
/// can read it.
#[derive(Debug)]
struct Loss {
    seq: Seq,
    /// How far a signature request got.
    collected: Option<Outcome>,
}

/// What `/status` counts since the start.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub(crate) struct Counts {
    pub(crate) accepted: u64,
    pub(crate) settled: u64,
    pub(crate) dead_letters: u64,
    pub(crate) signatures_complete: u64,
    pub(crate) signatures_failed: u64,
    pub(crate) signatures_invalid: u64,
    pub(crate) inbound: u64,
    pub(crate) inbound_duplicates: u64,
    pub(crate) inbound_refused: u64,
}

impl Delivery {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // A panic under the lock: what the machines know is not to be trusted any more. The
            // StreamActor fails and is built again from the disk; until then the status may look.
            self.broken.notify_one();
            poisoned.into_inner()
        })
    }

    /// The name of an endpoint, for metrics and answers.
    pub(crate) fn endpoint_name(&self, endpoint: EndpointId) -> &str {
        self.endpoints.get(usize::from(endpoint.0)).map_or("unknown", |slot| slot.name.as_str())
    }

    /// What is counted of an endpoint.
    pub(crate) fn tally(&self, endpoint: EndpointId) -> Option<&Tally> {
        self.endpoints.get(usize::from(endpoint.0)).map(|slot| &slot.tally)
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { accepted: self.accepted.load(Ordering::Relaxed), ..self.lock().counts }
    }

    pub(crate) fn signatures_open(&self) -> usize {
        self.lock().collector.open_count()
    }

    pub(crate) fn in_flight(&self, endpoint: EndpointId) -> usize {
        self.lock().outbox.in_flight(endpoint)
    }

    pub(crate) fn queued(&self, endpoint: EndpointId) -> usize {
        self.lock().outbox.queued(endpoint)
    }

    /// Carries out what the outbox decided. Called under the lock after every event.
    fn pump(&self, state: &mut State) {
        while let Some(action) = state.outbox.poll_action() {
            match action {
                Action::Settle { seqs } => {
                    for range in seqs.ranges() {
                        state.ended.settled.insert_range(range);
                    }
                }
                Action::Dead { seq, cause, attempts, unanswered } => {
                    self.die(state, seq, cause, Tries { refusals: attempts, unanswered });
                }
                Action::Lost { seq } => {
                    tracing::error!(%seq, "a buffered message cannot be read back: it is a gap");
                    self.metrics.gap();
                    self.holes.add(seq..=seq);
                    let collected = self.stop_collecting(state, seq, OutcomeState::Failed);
                    state.ended.lost.push(Loss { seq, collected });
                }
                Action::Ready(endpoint) => self.wake(endpoint),
                Action::Load { seqs } => {
                    state.wanted.push_back(seqs);
                    self.load.notify_one();
                }
                Action::Remember { seq, history, ticket } => {
                    let position = self.refusals.put(seq, &history);
                    state.ended.refused = Some((ticket, position));
                }
            }
        }
        if !state.ended.is_empty() {
            self.settle.notify_one();
            if state.is_end_awaited() {
                self.settle_now.notify_one();
            }
        }
        let next = state.outbox.poll_timeout();
        if next.is_some_and(|next| state.wake_at.is_none_or(|at| next < at)) {
            self.timer.notify_one();
        }
    }

    /// Takes a death in: from here on no answer can complete it any more (D2).
    fn die(&self, state: &mut State, seq: Seq, cause: Cause, tries: Tries) {
        let cause = match cause {
            // The process before this one may have sent it.
            Cause::Expired if seq < self.resumed_below => {
                Cause::TimedOut { may_have_been_seen: true }
            }
            cause @ (Cause::Expired
            | Cause::TimedOut { .. }
            | Cause::Refused { .. }
            | Cause::Evicted) => cause,
        };
        let collected = self.stop_collecting(state, seq, end_of(&cause));
        state.ended.dead.push(Death { seq, cause, tries, collected });
    }

    /// How far a signature request got that ends so; `None` for other messages.
    fn stop_collecting(&self, state: &mut State, seq: Seq, end: OutcomeState) -> Option<Outcome> {
        let State { collector, peers, .. } = state;
        collector.handle_dead(seq, end, |source| State::source_name(peers, self, source))
    }

    fn wake(&self, endpoint: EndpointId) {
        if let Some(slot) = self.endpoints.get(usize::from(endpoint.0)) {
            slot.ready.notify_one();
        }
    }
}

impl State {
    /// Whether somebody is told of what ended, or may be, or waits for it in the order of a key.
    fn is_end_awaited(&self) -> bool {
        let Ended { dead, lost, concluded, refused, .. } = &self.ended;
        let is_told = !dead.is_empty()
            || !lost.is_empty()
            || !concluded.is_empty()
            || !self.followed.is_empty();
        is_told || refused.is_some() || self.outbox.awaits_ends()
    }

    /// The endpoint behind a source of answers, when it is known.
    fn endpoint_of(&self, source: Source) -> Option<EndpointId> {
        match source {
            Source::Plain(endpoint) => Some(EndpointId(endpoint)),
            Source::Log(log_id) => self.peers.get(&log_id).copied(),
        }
    }

    /// Names a source of answers by its endpoint.
    fn source_name(
        peers: &BTreeMap<LogId, EndpointId>,
        delivery: &Delivery,
        source: Source,
    ) -> String {
        match source {
            Source::Plain(endpoint) => delivery.endpoint_name(EndpointId(endpoint)).to_owned(),
            Source::Log(log_id) => peers.get(&log_id).map_or_else(
                || format!("peer {log_id}"),
                |endpoint| delivery.endpoint_name(*endpoint).to_owned(),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
