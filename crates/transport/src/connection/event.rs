//! What happens to a connection, and what it asks for.

use std::fmt;
use std::time::{Duration, Instant};

use super::state::StateKind;

/// How soon a failure may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hurry {
    /// After the backoff.
    #[default]
    Backoff,
    /// After the backoff, but not before the peer's own delay.
    NotBefore(Duration),
    /// Only an operator can mend it: after the longest delay.
    Permanent,
}

/// What happened to a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is wanted; or: dial now, whatever the backoff says.
    Establish,
    /// TCP and TLS are up.
    TransportUp,
    /// TCP or TLS failed.
    ConnectFailed {
        /// Why.
        cause: String,
        /// When to try again.
        hurry: Hurry,
    },
    /// This side holds the dial back: it was not made, and is nobody's failure.
    HeldBack {
        /// Why.
        why: String,
        /// It may be made after this.
        after: Duration,
    },
    /// The peer accepted us.
    Accepted,
    /// The peer did not accept us.
    Refused {
        /// Why.
        cause: String,
        /// When to try again.
        hurry: Hurry,
    },
    /// A stream carries data.
    StreamOpened,
    /// The stream was closed politely.
    StreamClosed,
    /// The stream is opened anew on the same connection.
    StreamRestarted,
    /// The peer answered a heartbeat.
    Alive,
    /// The peer acknowledged a message.
    Acknowledged,
    /// The link does badly; [`crate::health::Vitals`] has the numbers.
    MinorIssues {
        /// Which number, in words.
        why: String,
    },
    /// No number is out of its range any more; while critical, none is by so much.
    Resolved,
    /// The link does so badly that it is given up soon.
    Escalated {
        /// Which number, in words.
        why: String,
    },
    /// Governance wants no data.
    Suspended {
        /// Why.
        reason: String,
        /// Resumed by itself after this.
        resume_after: Option<Duration>,
    },
    /// Governance wants data again.
    Resumed,
    /// The connection is gone.
    Lost {
        /// Why.
        cause: String,
        /// When to try again.
        hurry: Hurry,
    },
    /// It is not wanted any more.
    Shutdown,
}

/// One change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// From.
    pub old: StateKind,
    /// To.
    pub new: StateKind,
    /// The cause, in words.
    pub why: String,
    /// When.
    pub at: Instant,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}: {}", self.old, self.new, self.why)
    }
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Report a transition: one log line, one metric.
    Report(Transition),
    /// Start an attempt.
    Dial,
    /// Give up the attempt, or close the connection.
    Close,
    /// Take up the data again after a suspension that ended by time.
    Unpark,
    /// The connection has been good for long enough to count as one.
    Proved,
}
