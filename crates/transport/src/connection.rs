//! The life of one connection to one endpoint: eleven states and every edge between them.
//!
//! Pure. It decides *when* to dial, to give up and to dial again; the driver does it and reports.
//!
//! Invariants:
//! - T23: the state is written in one place, which records one [`Transition`].
//! - T24: every (state, event) pair is written down; what has no edge changes nothing.
//! - T25: a connection that is lost is reported as Critical, then as Reconnecting, from whatever
//!   live state; and it is always dialled again after its backoff, unless it was shut down.
//! - T57: a dial that this side holds back is no failure: it changes nothing that is known of the
//!   peer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::reconnect::Backoff;

mod edges;
mod event;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use edges::EDGES;
pub use event::{Action, Event, Hurry, Transition};
pub use state::{State, StateKind};

/// Transitions kept for the status of an endpoint.
pub const HISTORY_MAX: usize = 64;

/// The timers of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionConfig {
    /// TCP and TLS, over all addresses; default 20 s.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Capabilities and handshake after that; default 10 s.
    #[serde(with = "humantime_serde")]
    pub authenticate_timeout: Duration,
    /// Longest time in Critical before the connection is given up; default 30 s.
    #[serde(with = "humantime_serde")]
    pub critical_max: Duration,
    /// So long healthy resets the backoff; default 30 s.
    #[serde(with = "humantime_serde")]
    pub healthy_reset: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(20),
            authenticate_timeout: Duration::from_secs(10),
            critical_max: Duration::from_secs(30),
            healthy_reset: Duration::from_secs(30),
        }
    }
}

/// The machine.
#[derive(Debug)]
pub struct Connection {
    config: ConnectionConfig,
    state: State,
    backoff: Backoff,
    since: Instant,
    last_error: Option<String>,
    attempts: u64,
    /// Whether only an operator can mend the last failure.
    permanent: bool,
    /// Why this side waits before it dials.
    held_back: Option<String>,
    history: VecDeque<Transition>,
    actions: VecDeque<Action>,
}

impl Connection {
    /// Disconnected; [`Event::Establish`] starts it.
    #[must_use]
    pub const fn new(now: Instant, config: ConnectionConfig, backoff: Backoff) -> Self {
        Self {
            config,
            state: State::Disconnected,
            backoff,
            since: now,
            last_error: None,
            attempts: 0,
            permanent: false,
            held_back: None,
            history: VecDeque::new(),
            actions: VecDeque::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Since when it stands there.
    #[must_use]
    pub const fn since(&self) -> Instant {
        self.since
    }

    /// The last failure, in words; kept when the connection is up again.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    /// Why this side does not dial now although it is time, in words.
    #[must_use]
    pub fn held_back(&self) -> Option<&str> {
        self.held_back.as_deref()
    }

    /// Attempts to dial since the start, also those that were held back.
    #[must_use]
    pub const fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Whether the peer refused us in a way that only an operator can mend. Over when it accepts us,
    /// or fails in another way.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        self.permanent
    }

    /// The last [`HISTORY_MAX`] transitions, oldest first.
    pub fn history(&self) -> impl Iterator<Item = &Transition> {
        self.history.iter()
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Connection::handle_timeout`] has something to do.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Connecting { give_up_at }
            | State::Authenticating { give_up_at }
            | State::Critical { give_up_at } => Some(give_up_at),
            State::Reconnecting { retry_at } | State::Failed { retry_at } => Some(retry_at),
            State::Healthy { reset_at } => reset_at,
            State::Suspended { resume_at } => resume_at,
            State::Disconnected | State::Connected | State::Streaming | State::Warning => None,
        }
    }

    /// Lets the timer of the state act.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match self.state {
            State::Connecting { .. } => {
                let why = format!("no connection within {:?}", self.config.connect_timeout);
                self.actions.push_back(Action::Close);
                self.fail(now, why, Hurry::Backoff);
            }
            State::Authenticating { .. } => {
                let limit = self.config.authenticate_timeout;
                self.actions.push_back(Action::Close);
                self.fail(now, format!("not accepted within {limit:?}"), Hurry::Backoff);
            }
            State::Critical { .. } => {
                let why = format!("critical for {:?}", self.config.critical_max);
                self.actions.push_back(Action::Close);
                self.reconnect(now, why, Hurry::Backoff);
            }
            State::Reconnecting { .. } => self.dial(now, "retry"),
            State::Failed { .. } => self.dial(now, "backoff expired"),
            State::Healthy { .. } => {
                self.backoff.reset();
                self.state = State::Healthy { reset_at: None };
                self.actions.push_back(Action::Proved);
            }
            State::Suspended { .. } => {
                self.enter(now, State::Connected, "the suspension has ended by time");
                self.actions.push_back(Action::Unpark);
            }
            State::Disconnected | State::Connected | State::Streaming | State::Warning => {}
        }
    }

    /// The one writer of the state (T23).
    fn enter(&mut self, now: Instant, state: State, why: impl Into<String>) {
        let (old, new) = (self.state.kind(), state.kind());
        self.held_back = None;
        self.state = state;
        self.since = now;
        let transition = Transition { old, new, why: why.into(), at: now };
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(transition.clone());
        self.actions.push_back(Action::Report(transition));
    }

    fn dial(&mut self, now: Instant, why: &str) {
        self.attempts += 1;
        let give_up_at = now + self.config.connect_timeout;
        self.enter(now, State::Connecting { give_up_at }, why);
        self.actions.push_back(Action::Dial);
    }

    fn fail(&mut self, now: Instant, cause: String, hurry: Hurry) {
        let retry_at = now + self.delay(hurry);
        self.last_error = Some(cause.clone());
        self.enter(now, State::Failed { retry_at }, cause);
    }

    fn reconnect(&mut self, now: Instant, cause: String, hurry: Hurry) {
        let retry_at = now + self.delay(hurry);
        self.last_error = Some(cause.clone());
        self.enter(now, State::Reconnecting { retry_at }, cause);
    }

    /// T25: both are reported.
    fn lose(&mut self, now: Instant, cause: String, hurry: Hurry) {
        let give_up_at = now + self.config.critical_max;
        self.enter(now, State::Critical { give_up_at }, cause.clone());
        self.reconnect(now, cause, hurry);
    }

    fn delay(&mut self, hurry: Hurry) -> Duration {
        self.permanent = hurry == Hurry::Permanent;
        match hurry {
            Hurry::Backoff => self.backoff.next_delay(),
            Hurry::NotBefore(least) => self.backoff.next_delay().max(least),
            Hurry::Permanent => self.backoff.permanent_delay(),
        }
    }
}
