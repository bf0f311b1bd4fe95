//! The outbox: who gets a durable message, in which order, and when it is settled or dead. Pure.
//!
//! It holds references, never payloads. It is fed with what became durable, what endpoints do and
//! what they answer; it says what to send ([`Outbox::poll_batch`]) and what ended
//! ([`Outbox::poll_action`]).
//!
//! # What is in memory
//!
//! Of every live message there are a few bits (`pages`). Only a window of messages is in memory
//! whole (`item`): those that some connected endpoint is about to be sent, has in flight, or is
//! waiting to retry. Each endpoint has a lane for each priority (`lane`), and there is one for each
//! priority of messages under `any`. A lane takes messages in order of seq; what is not in memory
//! it asks for with [`Action::Load`]. New messages at the head of a lane are taken as they come.
//! An endpoint that is away holds nothing: its lanes go back to the first message that is not done
//! there. So memory does not depend on how much waits, nor a fast endpoint on a slow one.
//!
//! Under `all` and `quorum` every endpoint takes the message for itself. Under `any` it is
//! assigned to the connected endpoint that the balancer chooses; what fits into the window of none
//! waits unassigned. One that takes nothing for now ([`Intake`]) gives back what it was not sent.
//!
//! # Invariants
//!
//! - M12: a message ends in exactly one [`Action::Settle`], [`Action::Dead`] or [`Action::Lost`]
//!   (D2).
//! - M13: a message whose deadline has passed is never returned by `poll_batch` (D6).
//! - M14: messages of one key and priority are sent to an endpoint in order of seq, over all
//!   policies (`order`) and over restarts (`ends`); a later one waits while an earlier one waits for
//!   a retry there, and under `any` goes where the earlier one in memory went (D4).
//! - M15: a lost connection puts everything unacknowledged back in order and is no attempt.
//! - M24: a message is in memory only while it is live and somebody took it or asked for it; how
//!   many that are follows from [`OutboxConfig`] and the number of endpoints (D7).
//! - M25: a lane takes messages in order of seq; those of a key that it passed over it takes before
//!   any later one of that key is sent.
//! - M26: a message that does not fit what an endpoint may be sent holds back others of its own
//!   priority alone, but for what [`GATHER_MILLIS`] bounds; nothing ever holds back `Critical`. One
//!   that is longer than the endpoint takes at all (`sizing`) holds back nothing there.
//! - M40: a clock that is set back, while this runs or before it starts again, makes nothing but
//!   deadlines later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use crate::queue::{Entry, PriorityQueue};
use crate::retry::RetryQueue;
use crate::seq_map::SeqMap;

mod asking;
mod assign;
mod balance;
mod budget;
mod config;
mod ending;
mod endpoint;
mod ends;
mod entering;
mod holding;
mod intake;
mod item;
mod keys;
mod lane;
mod loading;
mod order;
mod pages;
mod sending;
mod sizing;
mod stat;
mod taking;
mod unanswered;
mod visiting;
mod words;

pub use balance::{Balance, Candidate, LeastUnacknowledged};
pub use budget::{Budget, GATHER_MILLIS, PASSED_MILLIS};
pub use config::{ASSIGNED_MAX, OutboxConfig, WINDOW_MAX};
pub use intake::Intake;
pub use loading::LOADING_MAX;
pub use words::{
    Action, Attempt, Cause, ENDPOINTS_MAX, EndpointId, LOAD_SEQS_MAX, Loaded, OWN_REFUSAL,
    REFUSAL_TEXT_BYTES_MAX, Refusal, RefusalTicket, TooManyEndpoints,
};

use budget::PassedOver;
use endpoint::Endpoint;
use ends::Ends;
use item::Item;
use keys::{Keys, Name};
use lane::{Hold, Lane, Owner};
use loading::Loading;
use pages::Pages;

/// A clock that is behind by less was not set back: two readers of it passed each other.
const SET_BACK_MIN: Duration = Duration::from_secs(1);

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    config: OutboxConfig,
    balance: Box<dyn Balance>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    /// The bits of all endpoints.
    enabled: u64,
    /// Those that are connected.
    connected: Vec<EndpointId>,
    pages: Pages,
    items: SeqMap<Item>,
    loading: Loading,
    /// Of messages under `any`, by the index of the priority.
    any_lanes: [Lane; 4],
    /// Messages under `any` that no endpoint has, likewise.
    unassigned: [VecDeque<Entry>; 4],
    /// Those without a key that not everybody takes, and whoever does is full; likewise.
    aside: [VecDeque<Entry>; 4],
    /// Endpoints whose room messages with a pinned key wait for, likewise.
    full: [BTreeSet<EndpointId>; 4],
    keys: Keys,
    ends: Ends,
    /// Of which something was done or is over: what waits for that may go on.
    eased: BTreeSet<Name>,
    retries: RetryQueue,
    /// Of messages in memory.
    deadlines: BTreeSet<(UnixMillis, Seq)>,
    /// Pages with messages that may be over, but only the messages themselves tell.
    recheck: BTreeSet<u64>,
    /// Messages that may not be needed in memory any more.
    idle: Vec<Seq>,
    /// Empty; kept so that choosing an endpoint allocates nothing.
    candidates: Vec<Candidate>,
    /// Whether a lane went back since lanes were last looked at.
    is_rewound: bool,
    settled: SeqSet,
    actions: VecDeque<Action>,
    /// The latest time that was told.
    now: UnixMillis,
}

impl Outbox {
    /// An outbox without endpoints and messages.
    #[must_use]
    pub fn new(config: OutboxConfig) -> Self {
        Self {
            config,
            balance: Box::new(LeastUnacknowledged),
            endpoints: BTreeMap::new(),
            enabled: 0,
            connected: Vec::new(),
            pages: Pages::default(),
            items: SeqMap::default(),
            loading: Loading::default(),
            any_lanes: Default::default(),
            unassigned: Default::default(),
            aside: Default::default(),
            full: Default::default(),
            keys: Keys::default(),
            ends: Ends::default(),
            eased: BTreeSet::new(),
            retries: RetryQueue::new(config.seed),
            deadlines: BTreeSet::new(),
            recheck: BTreeSet::new(),
            idle: Vec::new(),
            candidates: Vec::new(),
            is_rewound: false,
            settled: SeqSet::new(),
            actions: VecDeque::new(),
            now: UnixMillis(0),
        }
    }

    /// Names who chooses the endpoints of messages under `any`; unless told,
    /// [`LeastUnacknowledged`].
    pub fn set_balance(&mut self, balance: Box<dyn Balance>) {
        self.balance = balance;
    }

    /// An endpoint is enabled. It gets a copy of everything under `all` and `quorum`. Refusals are
    /// remembered under its name.
    ///
    /// # Errors
    ///
    /// When there are [`ENDPOINTS_MAX`] already.
    pub fn handle_endpoint_added(
        &mut self,
        id: EndpointId,
        name: &str,
    ) -> Result<(), TooManyEndpoints> {
        if self.endpoints.contains_key(&id) {
            return Ok(());
        }
        let slot = (0..ENDPOINTS_MAX).find(|slot| self.enabled >> slot & 1 == 0);
        let endpoint = Endpoint::new(name, slot.ok_or(TooManyEndpoints)?);
        self.enabled |= endpoint.bit;
        self.endpoints.insert(id, endpoint);
        Ok(())
    }

    /// An endpoint is disabled or gone from the configuration. Nobody waits for it any more.
    ///
    /// Looks at every page of the backlog once.
    pub fn handle_endpoint_removed(&mut self, id: EndpointId) {
        self.handle_disconnected(id);
        let Some(endpoint) = self.endpoints.remove(&id) else {
            return;
        };
        self.enabled &= !endpoint.bit;
        self.ends.handle_removed(endpoint.bit);
        // Only a window of messages is in memory.
        let present: Vec<Seq> = self.items.keys().collect();
        for item in self.items.values_mut() {
            item.forget(endpoint.bit);
        }
        for seq in present {
            self.judge(seq);
        }
        let mut settled = SeqSet::new();
        let recheck = &mut self.recheck;
        let open = self.pages.remove_slot(endpoint.slot, self.enabled, &mut settled, recheck);
        self.settle_absent(&settled);
        // Whose answer is awaited, and who had it is gone: others may have to be sent it.
        if let Some(first) = open {
            let lanes = self.endpoints.values_mut().flat_map(|endpoint| &mut endpoint.lanes);
            lanes.chain(&mut self.any_lanes).for_each(|lane| lane.reopen(first));
        }
        // It may have been the last one that was believed to take them.
        self.release_any(|hold| hold == Hold::TooLong);
        self.go_on();
    }

    /// An endpoint is ready to be sent to. `received` is what it has stored of this log already:
    /// that counts as acknowledged, the rest goes in order.
    ///
    /// What is in `received` and not in memory takes time by pages, not by messages.
    pub fn handle_connected(&mut self, id: EndpointId, received: &SeqSet) {
        // A connection that was not seen to end is ended first.
        self.handle_disconnected(id);
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let slot = endpoint.slot;
        endpoint.is_connected = true;
        self.connected.push(id);
        self.connected.sort_unstable();
        let mut settled = SeqSet::new();
        for range in received.ranges() {
            let present: Vec<Seq> = self.items.keys_in(range.clone()).collect();
            for seq in present {
                self.acknowledge(id, seq);
            }
            let recheck = &mut self.recheck;
            self.pages.acknowledge(slot, self.enabled, &range, &mut settled, recheck);
        }
        self.settle_absent(&settled);
        self.release_any(|hold| !hold.is_of_key());
        self.go_on();
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.is_ready_told = false;
            endpoint.tell_ready(id, &mut self.actions);
        }
    }

    /// The connection is lost: what was not acknowledged goes back, in order (M15).
    pub fn handle_disconnected(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id).filter(|e| e.is_connected) else {
            return;
        };
        endpoint.is_connected = false;
        (endpoint.is_ready_told, endpoint.intake) = (false, Intake::Open);
        endpoint.queue = PriorityQueue::new();
        endpoint.queued = [0; 4];
        endpoint.unanswered.handle_lost(self.now, std::mem::take(&mut endpoint.in_flight));
        (endpoint.passed, endpoint.held_until) = (PassedOver::default(), None);
        endpoint.assigned_count = [0; 4];
        let lanes = std::mem::take(&mut endpoint.lanes);
        let assigned = std::mem::take(&mut endpoint.assigned);
        self.ends.handle_disconnected(endpoint.bit);
        self.connected.retain(|other| *other != id);
        for (priority, lane) in Priority::ALL.into_iter().rev().zip(lanes) {
            self.leave_lane(id, priority, lane);
        }
        // Highest first: each goes to the front.
        for seq in assigned.iter().collect::<Vec<_>>().into_iter().rev() {
            self.leave_assigned(id, seq);
        }
        self.keys.handle_endpoint_lost(id);
        self.release_any(|_| true);
        for full in &mut self.full {
            full.remove(&id);
        }
        self.trim();
        self.balance.handle_lost(id);
        self.go_on();
    }

    /// What the driver has to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.settled.is_empty() {
            return None;
        }
        Some(Action::Settle { seqs: std::mem::take(&mut self.settled) })
    }

    fn lane_mut(&mut self, owner: Owner, priority: Priority) -> Option<&mut Lane> {
        match owner {
            Owner::Endpoint(id) => self.endpoints.get_mut(&id)?.lane_mut(priority),
            Owner::Any => self.any_lanes.get_mut(priority.index()),
        }
    }

    fn lane(&self, owner: Owner, priority: Priority) -> Option<&Lane> {
        match owner {
            Owner::Endpoint(id) => self.endpoints.get(&id)?.lane(priority),
            Owner::Any => self.any_lanes.get(priority.index()),
        }
    }

    /// Deadlines are times of the clock, waits are not (M40).
    fn learn_now(&mut self, now: UnixMillis) {
        let back = self.now.saturating_since(now);
        if back >= SET_BACK_MIN {
            self.retries.handle_set_back(back);
            self.endpoints.values_mut().for_each(|endpoint| endpoint.handle_set_back(back));
        }
        self.now = now;
    }
}
