//! What the two tasks of a session share: the machine, and what its events lead to.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use alys_stream_protocol::time::WallClock;
use tokio::sync::Notify;

use super::auth::Auth;
use super::{ARRIVED, Observed, SessionObserver};
use crate::exchange::{Exchange, InboundRecord, NackOrigin, Refusal};
use crate::session::credit::Credits;
use crate::session::{Event, LocalView, Session};

/// What both tasks share.
pub(super) struct Shared<X: Exchange> {
    pub(super) session: Mutex<Session>,
    pub(super) exchange: Arc<X>,
    pub(super) observer: Arc<dyn SessionObserver>,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) auth: Auth,
    /// Wakes the writer.
    pub(super) wake: Notify,
}

impl<X: Exchange> Drop for Shared<X> {
    fn drop(&mut self) {
        // T1 of the exchange: also when the tasks are cancelled.
        self.exchange.lost();
    }
}

impl<X: Exchange> Shared<X> {
    pub(super) fn view(&self) -> LocalView {
        // In this order: what is echoed is among what is counted as settled.
        let acks_durable = self.exchange.acks_durable();
        LocalView { settled: self.exchange.local().settled, acks_durable, wall: self.clock.now() }
    }

    /// Runs `act` on the machine, performs what it led to, and wakes the writer. Returns the
    /// records to store, and the refusal of the peer if there was one.
    pub(super) fn feed<T>(&self, now: Instant, act: impl FnOnce(&mut Session) -> T) -> (T, Fed) {
        let result = self.apply(now, act);
        self.wake.notify_one();
        result
    }

    /// As [`Shared::feed`], for the writer itself.
    pub(super) fn apply<T>(&self, now: Instant, act: impl FnOnce(&mut Session) -> T) -> (T, Fed) {
        let mut events = Vec::new();
        let (result, owed) = {
            let mut session = crate::lock(&self.session);
            let result = act(&mut session);
            while let Some(event) = session.poll_event() {
                events.push(event);
            }
            (result, Owed::by(&session))
        };
        let mut fed = Fed::default();
        for event in events {
            self.perform(now, event, owed, &mut fed);
        }
        self.observer.observe(now, Observed::Credit(owed.credit));
        (result, fed)
    }

    fn perform(&self, now: Instant, event: Event, owed: Owed, fed: &mut Fed) {
        let Owed { in_flight, awaited, .. } = owed;
        let observe = |observed: Observed<'_>| self.observer.observe(now, observed);
        match event {
            Event::Received(records) => {
                tracing::trace!(target: ARRIVED, records = records.len());
                observe(Observed::Received(&records));
                fed.received.push(records);
            }
            Event::Acked { ack_id, ranges } => {
                self.exchange.acked(ack_id, &ranges);
                self.exchange.progress(awaited);
                observe(Observed::Acked { ranges: &ranges, in_flight, awaited });
            }
            Event::Nacked(nack) => {
                let is_progress = nack.origin == NackOrigin::Peer;
                observe(Observed::Nacked(&nack));
                self.exchange.nacked(nack);
                if is_progress {
                    self.progress(now, owed);
                }
            }
            Event::PeerSettled { settled, covered } => {
                self.exchange.peer_settled(settled, &covered);
            }
            Event::Alive { rtt } => observe(Observed::Alive(rtt)),
            Event::Quality(quality) => observe(Observed::Quality(quality)),
            Event::Suspended { reason } => observe(Observed::Suspended(&reason)),
            Event::Resumed { reason } => observe(Observed::Resumed(&reason)),
            Event::Draining { deadline, reason, by_peer } => {
                observe(Observed::Draining { deadline, reason: &reason, by_peer });
            }
            Event::Gap { range, cause, text } => self.exchange.gap(range, cause, &text),
            Event::AuthRefreshed(proof) => {
                observe(Observed::AuthRefreshed(&proof));
                fed.refusing = self.verify(now, &proof).err();
            }
            Event::RenewDue => self.renew(now),
            Event::CredentialExpired => fed.refusing = Some(self.auth.expired()),
            Event::Load(load) => self.exchange.peer_load(load),
            Event::Refused(refusal) => fed.refused = Some(refusal),
        }
    }

    /// The link is at work, although nothing is acknowledged.
    pub(super) fn progress(&self, now: Instant, owed: Owed) {
        let Owed { in_flight, awaited, .. } = owed;
        self.exchange.progress(awaited);
        self.observer.observe(now, Observed::Progress { in_flight, awaited });
    }
}

/// What the peer owes, and lets us send.
#[derive(Clone, Copy)]
pub(super) struct Owed {
    pub(super) in_flight: u64,
    pub(super) awaited: u64,
    pub(super) credit: Credits,
}

impl Owed {
    pub(super) fn by(session: &Session) -> Self {
        Self {
            in_flight: session.in_flight(),
            awaited: session.awaited(),
            credit: session.credit(),
        }
    }
}

/// What an event left for the reader to do.
#[derive(Default)]
pub(super) struct Fed {
    pub(super) received: Vec<Vec<InboundRecord>>,
    pub(super) refused: Option<Refusal>,
    /// We close the session, for this.
    pub(super) refusing: Option<Refusal>,
}
