//! What the tasks of one endpoint share: the connection machine, and what is published of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alys_stream_protocol::time::WallClock;
use tokio::sync::{Notify, mpsc, watch};

use super::status::{EndpointStatus, Observer, TransitionStatus, promise};
use super::{EndpointParts, LinkError};
use crate::connection::{Action, Connection, Event, State, StateKind};
use crate::endpoint::Dialect;
use crate::exchange::NackKind;
use crate::health::{Quality, Rtt};
use crate::reconnect::Backoff;
use crate::session::driver::{Control, Observed, SessionObserver};

/// What is known of the present connection beside its state.
#[derive(Debug, Default, Clone)]
pub(super) struct Facts {
    pub(super) address: Option<String>,
    pub(super) dialect: Option<Dialect>,
    pub(super) peer_id: Option<String>,
    pub(super) peer_software: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) rtt: Option<Rtt>,
}

#[derive(Debug)]
pub(super) struct Core {
    name: String,
    url: String,
    machine: Mutex<Connection>,
    facts: Mutex<Facts>,
    /// The cached answer of `GetCapabilities`, and since when.
    dialect: Mutex<Option<(Dialect, Instant)>>,
    controls: Mutex<Option<mpsc::Sender<Control>>>,
    in_flight: AtomicU64,
    /// The first acknowledgement of a stream is reported to the machine; the others say nothing new.
    acknowledged: AtomicBool,
    changed: Notify,
    status: watch::Sender<EndpointStatus>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn WallClock>,
}

/// The present, as the machines take it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Core {
    pub(super) fn new<X>(parts: &EndpointParts<X>) -> Self {
        let backoff = Backoff::new(parts.settings.backoff, parts.seed);
        let status = EndpointStatus {
            name: parts.config.name.clone(),
            url: parts.config.url.to_string(),
            state: StateKind::Disconnected,
            since_ms: parts.clock.now().0,
            peer_id: None,
            peer_software: None,
            address: None,
            rtt_us: None,
            dialect: None,
            promise: None,
            session_id: None,
            last_error: None,
            attempts: 0,
            retry_at_ms: None,
            in_flight: 0,
            history: std::collections::VecDeque::new(),
        };
        Self {
            name: status.name.clone(),
            url: status.url.clone(),
            machine: Mutex::new(Connection::new(now(), parts.settings.connection, backoff)),
            facts: Mutex::default(),
            dialect: Mutex::default(),
            controls: Mutex::default(),
            in_flight: AtomicU64::new(0),
            acknowledged: AtomicBool::new(false),
            changed: Notify::new(),
            status: watch::Sender::new(status),
            observer: Arc::clone(&parts.observer),
            clock: Arc::clone(&parts.clock),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<EndpointStatus> {
        self.status.subscribe()
    }

    pub(super) fn control(&self, control: Control) -> Result<(), Box<Control>> {
        match &*crate::lock(&self.controls) {
            None => Err(Box::new(control)),
            Some(controls) => {
                controls.try_send(control).map_err(|refused| Box::new(refused.into_inner()))
            }
        }
    }

    pub(super) fn set_controls(&self, controls: Option<mpsc::Sender<Control>>) {
        *crate::lock(&self.controls) = controls;
    }

    /// Feeds the machine and wakes the driver, which performs what follows.
    pub(super) fn feed(&self, event: Event) {
        crate::lock(&self.machine).handle_event(now(), event);
        self.changed.notify_one();
    }

    pub(super) fn handle_timeout(&self) {
        crate::lock(&self.machine).handle_timeout(now());
    }

    pub(super) fn poll_action(&self) -> Option<Action> {
        crate::lock(&self.machine).poll_action()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        crate::lock(&self.machine).poll_timeout()
    }

    pub(super) fn state(&self) -> StateKind {
        crate::lock(&self.machine).state().kind()
    }

    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Reports a failure once.
    pub(super) fn failed(&self, error: &LinkError) {
        self.observer.failed(&self.name, error);
    }

    pub(super) fn connected(&self, dialect: Dialect, after: Duration) {
        self.observer.connected(&self.name, dialect, after);
    }

    pub(super) fn set_facts(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut crate::lock(&self.facts));
    }

    /// A new connection begins: nothing of the old one holds.
    pub(super) fn clear_facts(&self) {
        *crate::lock(&self.facts) = Facts::default();
        self.in_flight.store(0, Ordering::Relaxed);
        self.acknowledged.store(false, Ordering::Relaxed);
        self.set_controls(None);
    }

    /// The cached dialect, when it is not too old.
    pub(super) fn cached_dialect(&self, age_max: Duration) -> Option<Dialect> {
        let cached = *crate::lock(&self.dialect);
        cached.filter(|(_, at)| now().saturating_duration_since(*at) <= age_max).map(|(d, _)| d)
    }

    pub(super) fn cache_dialect(&self, dialect: Option<Dialect>) {
        *crate::lock(&self.dialect) = dialect.map(|dialect| (dialect, now()));
    }

    /// One log line and one metric for each transition.
    pub(super) fn report(&self, transition: &crate::connection::Transition) {
        tracing::info!(endpoint = %self.name, "{transition}");
        if transition.new == StateKind::Streaming {
            self.acknowledged.store(false, Ordering::Relaxed);
        }
        self.observer.transition(&self.name, transition);
    }

    /// Publishes the status when it differs from the last one.
    pub(super) fn publish(&self) {
        let (at, wall) = (now(), self.clock.now().0);
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let past = |then: Instant| wall.saturating_sub(millis(at.saturating_duration_since(then)));
        let facts = crate::lock(&self.facts).clone();
        let mut status = {
            let machine = crate::lock(&self.machine);
            let retry_at = match machine.state() {
                State::Reconnecting { retry_at } | State::Failed { retry_at } => Some(*retry_at),
                State::Disconnected
                | State::Connecting { .. }
                | State::Authenticating { .. }
                | State::Connected
                | State::Streaming
                | State::Healthy { .. }
                | State::Warning
                | State::Critical { .. }
                | State::Suspended { .. } => None,
            };
            EndpointStatus {
                name: self.name.clone(),
                url: self.url.clone(),
                state: machine.state().kind(),
                since_ms: past(machine.since()),
                peer_id: facts.peer_id,
                peer_software: facts.peer_software,
                address: facts.address,
                rtt_us: facts.rtt.and_then(|rtt| u64::try_from(rtt.smoothed.as_micros()).ok()),
                dialect: facts.dialect,
                promise: facts.dialect.map(promise),
                session_id: facts.session_id,
                last_error: machine.last_error().map(str::to_owned),
                attempts: machine.attempts(),
                retry_at_ms: retry_at.map(|then| wall + millis(then.saturating_duration_since(at))),
                in_flight: self.in_flight.load(Ordering::Relaxed),
                history: machine
                    .history()
                    .map(|t| TransitionStatus {
                        old: t.old,
                        new: t.new,
                        why: t.why.clone(),
                        at_ms: past(t.at),
                    })
                    .collect(),
            }
        };
        self.status.send_if_modified(|published| {
            steady(published, &mut status);
            let modified = *published != status;
            *published = status;
            modified
        });
    }

    /// What a stream shows, of either dialect.
    pub(super) fn see(&self, at: Instant, observed: &Observed<'_>) {
        match observed {
            Observed::Sent { in_flight, .. } => self.in_flight.store(*in_flight, Ordering::Relaxed),
            Observed::Acked { in_flight, .. } => {
                self.in_flight.store(*in_flight, Ordering::Relaxed);
                if !self.acknowledged.swap(true, Ordering::Relaxed) {
                    self.feed(Event::Acknowledged);
                }
            }
            Observed::Nacked(nack) if nack.kind != NackKind::InProgress => {
                let one_less = |n: u64| n.checked_sub(1);
                _ = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
            }
            Observed::Alive(rtt) => {
                self.set_facts(|facts| facts.rtt = Some(*rtt));
                self.feed(Event::Alive);
            }
            Observed::Quality(quality) => self.feed(match quality {
                Quality::Good => Event::Resolved,
                Quality::Minor => Event::MinorIssues,
                Quality::Severe => Event::Escalated,
            }),
            Observed::Suspended(reason) => {
                let reason = (*reason).to_owned();
                self.feed(Event::Suspended { reason, resume_after: None });
            }
            Observed::Resumed(_) => self.feed(Event::Resumed),
            Observed::Draining { .. } => self.feed(Event::StreamClosed),
            Observed::Received(_) | Observed::Nacked(_) | Observed::AuthRefreshed(_) => {}
        }
        self.observer.observed(&self.name, at, observed);
    }
}

impl SessionObserver for Core {
    fn observe(&self, now: Instant, observed: Observed<'_>) {
        self.see(now, &observed);
    }
}

/// Wall times are computed anew each time; a wobble of the two clocks is no change.
fn steady(published: &EndpointStatus, next: &mut EndpointStatus) {
    let close = |a: u64, b: u64| a.abs_diff(b) <= 2;
    if published.state == next.state && close(published.since_ms, next.since_ms) {
        next.since_ms = published.since_ms;
    }
    if let (Some(old), Some(new)) = (published.retry_at_ms, next.retry_at_ms)
        && close(old, new)
    {
        next.retry_at_ms = Some(old);
    }
    for (old, new) in published.history.iter().zip(next.history.iter_mut()) {
        if close(old.at_ms, new.at_ms) {
            new.at_ms = old.at_ms;
        }
    }
}
