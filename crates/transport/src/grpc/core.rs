//! What the tasks of one endpoint share: its machines, and what is known of its connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alys_stream_protocol::time::WallClock;
use tokio::sync::{Notify, mpsc, watch};

use super::gate::Gate;
use super::secured::Secured;
use super::status::{EndpointStatus, Observer};
use super::{EndpointParts, EndpointTls, LinkCause, LinkError};
use crate::connection::{Action, Connection, Event, Hurry, StateKind};
use crate::endpoint::{Dialect, Keepalive, KeepaliveConfig};
use crate::health::{Grade, Rtt, Vitals, VitalsConfig};
use crate::reconnect::{Backoff, BreakerState, Failure};
use crate::session::credit::Credits;
use crate::session::driver::Control;
pub(super) use crate::session::driver::now;

mod publish;
mod seen;
#[cfg(test)]
mod tests;

/// What is known of the present connection beside its state.
#[derive(Debug, Default, Clone)]
pub(super) struct Facts {
    pub(super) address: Option<String>,
    pub(super) dialect: Option<Dialect>,
    pub(super) peer_id: Option<String>,
    pub(super) peer_software: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) rtt: Option<Rtt>,
    /// When the certificate of the peer expires, in Unix seconds.
    pub(super) certificate_expires_at: Option<i64>,
}

/// What was reported last, so that only changes are.
#[derive(Debug, Default)]
struct Noted {
    breaker: BreakerState,
    needs_operator: bool,
}

#[derive(Debug)]
pub(super) struct Core {
    name: String,
    url: String,
    machine: Mutex<Connection>,
    gate: Arc<Gate>,
    vitals: Mutex<Vitals>,
    vitals_config: VitalsConfig,
    keepalive: Mutex<Keepalive>,
    tls: Mutex<Option<EndpointTls>>,
    noted: Mutex<Noted>,
    facts: Mutex<Facts>,
    /// When `GetCapabilities` said last that the peer has sessions.
    has_sessions: Mutex<Option<Instant>>,
    controls: Mutex<Option<mpsc::Sender<Control>>>,
    in_flight: AtomicU64,
    credit_messages: AtomicU64,
    credit_bytes: AtomicU64,
    /// Whether acknowledgements wait for answers: then their age says nothing.
    is_plain: AtomicBool,
    /// The first acknowledgement of a stream is reported to the machine; the others say nothing new.
    acknowledged: AtomicBool,
    changed: Notify,
    status: watch::Sender<EndpointStatus>,
    observer: Arc<dyn Observer>,
    clock: Arc<dyn WallClock>,
}

impl Core {
    pub(super) fn new<X>(parts: &EndpointParts<X>) -> Self {
        let settings = &parts.settings;
        let backoff = Backoff::new(settings.backoff, parts.seed);
        let keepalive = Keepalive::new(settings.keepalive, parts.config.keepalive);
        let (name, url) = (parts.config.name.clone(), parts.config.url.to_string());
        let status = EndpointStatus {
            keepalive_ms: millis(keepalive.current().interval),
            ..EndpointStatus::new(name.clone(), url.clone(), parts.clock.now())
        };
        Self {
            name,
            url,
            machine: Mutex::new(Connection::new(now(), settings.connection, backoff)),
            // Another stream of numbers than that of the backoff.
            gate: Arc::new(Gate::new(settings.breaker, parts.seed.rotate_left(17))),
            vitals: Mutex::new(Vitals::new(now(), settings.vitals)),
            vitals_config: settings.vitals,
            keepalive: Mutex::new(keepalive),
            tls: Mutex::new(parts.tls.clone().map(EndpointTls::Fixed)),
            noted: Mutex::default(),
            facts: Mutex::default(),
            has_sessions: Mutex::default(),
            controls: Mutex::default(),
            in_flight: AtomicU64::new(0),
            credit_messages: AtomicU64::new(0),
            credit_bytes: AtomicU64::new(0),
            is_plain: AtomicBool::new(false),
            acknowledged: AtomicBool::new(false),
            changed: Notify::new(),
            status: watch::Sender::new(status),
            observer: Arc::clone(&parts.observer),
            clock: Arc::clone(&parts.clock),
        }
    }

    pub(super) const fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// How to speak TLS, from the next attempt on.
    pub(super) fn set_tls(&self, tls: EndpointTls) {
        *crate::lock(&self.tls) = Some(tls);
    }

    pub(super) fn tls(&self) -> Option<Secured> {
        crate::lock(&self.tls).as_ref().map(EndpointTls::current)
    }

    pub(super) fn keepalive(&self) -> KeepaliveConfig {
        crate::lock(&self.keepalive).current()
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
        if event == Event::Accepted {
            self.gate.accepted();
        }
        crate::lock(&self.machine).handle_event(now(), event);
        self.changed.notify_one();
    }

    pub(super) fn handle_timeout(&self) {
        crate::lock(&self.machine).handle_timeout(now());
    }

    /// Once a second: what only time shows.
    pub(super) fn handle_tick(&self) {
        self.gate.handle_timeout();
        self.assess();
    }

    /// Tells the machine how the link does, as long as the two disagree.
    fn assess(&self) {
        let at = now();
        let (grade, issue) = {
            let mut vitals = crate::lock(&self.vitals);
            vitals.handle_starved(self.gate.starved_for());
            (vitals.handle_timeout(at), vitals.issue())
        };
        let why = || issue.map_or_else(String::new, |issue| issue.to_string());
        let state = self.state();
        match (state, grade) {
            (StateKind::Healthy, Grade::Minor) => self.feed(Event::MinorIssues { why: why() }),
            (StateKind::Healthy, Grade::Critical) => {
                self.feed(Event::MinorIssues { why: why() });
                self.feed(Event::Escalated { why: why() });
            }
            (StateKind::Warning, Grade::Critical) => self.feed(Event::Escalated { why: why() }),
            (StateKind::Warning, Grade::Good)
            | (StateKind::Critical, Grade::Good | Grade::Minor) => self.feed(Event::Resolved),
            (StateKind::Healthy, Grade::Good)
            | (StateKind::Warning, Grade::Minor)
            | (StateKind::Critical, Grade::Critical)
            | (
                StateKind::Disconnected
                | StateKind::Connecting
                | StateKind::Authenticating
                | StateKind::Connected
                | StateKind::Streaming
                | StateKind::Reconnecting
                | StateKind::Failed
                | StateKind::Suspended,
                Grade::Good | Grade::Minor | Grade::Critical,
            ) => {}
        }
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

    /// An attempt or a connection has failed: reported once, counted, and told to the machine.
    pub(super) fn failed(&self, error: &LinkError) {
        self.observer.failed(&self.name, error);
        if error.cause == LinkCause::TooManyPings {
            crate::lock(&self.keepalive).handle_too_many_pings();
        }
        let exhausted = error.is_exhausted();
        self.gate.failed(if exhausted { Failure::Exhausted } else { Failure::Broken });
        let (cause, mut hurry) = (error.to_string(), error.hurry());
        if let Some(closed_for) = self.gate.closed_for() {
            hurry = match hurry {
                Hurry::Backoff => Hurry::NotBefore(closed_for),
                Hurry::NotBefore(least) => Hurry::NotBefore(least.max(closed_for)),
                Hurry::Permanent => Hurry::Permanent,
            };
        }
        match self.state() {
            StateKind::Connecting => self.feed(Event::ConnectFailed { cause, hurry }),
            StateKind::Authenticating => self.feed(Event::Refused { cause, hurry }),
            StateKind::Disconnected
            | StateKind::Connected
            | StateKind::Streaming
            | StateKind::Healthy
            | StateKind::Warning
            | StateKind::Critical
            | StateKind::Reconnecting
            | StateKind::Failed
            | StateKind::Suspended => self.feed(Event::Lost { cause, hurry }),
        }
    }

    pub(super) fn connected(&self, dialect: Dialect, after: Duration) {
        self.observer.connected(&self.name, dialect, after);
    }

    pub(super) fn set_facts(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = crate::lock(&self.facts);
        change(&mut facts);
        self.is_plain.store(facts.dialect == Some(Dialect::Plain), Ordering::Relaxed);
    }

    pub(super) fn set_in_flight(&self, in_flight: u64) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
    }

    pub(super) fn set_credit(&self, credit: Credits) {
        self.credit_messages.store(u64::from(credit.messages), Ordering::Relaxed);
        self.credit_bytes.store(credit.bytes, Ordering::Relaxed);
    }

    pub(super) fn facts(&self) -> Facts {
        crate::lock(&self.facts).clone()
    }

    /// A new connection begins: nothing of the old one holds.
    pub(super) fn clear_facts(&self) {
        *crate::lock(&self.vitals) = Vitals::new(now(), self.vitals_config);
        *crate::lock(&self.facts) = Facts::default();
        self.in_flight.store(0, Ordering::Relaxed);
        self.set_credit(Credits::default());
        self.acknowledged.store(false, Ordering::Relaxed);
        self.set_controls(None);
    }

    /// Whether the peer said that it has sessions, and not too long ago.
    pub(super) fn has_sessions(&self, age_max: Duration) -> bool {
        let said = *crate::lock(&self.has_sessions);
        said.is_some_and(|at| now().saturating_duration_since(at) <= age_max)
    }

    pub(super) fn set_sessions(&self, has_sessions: bool) {
        *crate::lock(&self.has_sessions) = has_sessions.then(now);
    }

    /// One log line and one metric for each transition.
    pub(super) fn report(&self, transition: &crate::connection::Transition) {
        tracing::info!(endpoint = %self.name, "{transition}");
        if transition.new == StateKind::Streaming {
            self.acknowledged.store(false, Ordering::Relaxed);
        }
        self.observer.transition(&self.name, transition);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
