//! What went wrong, classified once: whose fault it is, how bad, what is done, who is told.
//!
//! Every error type of every layer maps to a [`FailureKind`] ([`Classified`]); every kind has one
//! row in [`TABLE`]. [`Failure`] attaches the context once and reports once; [`Failures`] counts
//! and keeps the last ones for `/status`. [`Mode`] says what the node can do meanwhile.
//!
//! ```text
//! error ─▶ classify (kind, row) ─▶ context ─▶ log once ─▶ retry │ fallback │ breaker │ degrade │ reject
//!                                                       └──▶ nobody │ alert │ supervisor │ human
//! ```
//!
//! Not here: doing it. Backoffs, breakers and supervisors are where they always were; the table
//! says which of them an error is for. Tests pin the table, and that every row has an error.
//!
//! Invariants:
//! - A17: every kind has exactly one row; a change of behaviour is a change of the table.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::time::UnixMillis;

mod classify;
mod mode;
mod record;
mod table;
#[cfg(test)]
mod tests;

pub use classify::Classified;
pub use mode::{Facts, Mode, ModeReport};
pub use record::FailureLog;
pub use table::{FailureKind, Row, TABLE};

/// Failures that are kept for `/status`.
pub const LAST_MAX: usize = 32;

/// Longest text of a failure that is kept, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The network, or a peer that is not there.
    Connection,
    /// Somebody says what nobody agreed to.
    Protocol,
    /// Somebody is not who they should be, or may not do what they do.
    Auth,
    /// This machine, its disk, its configuration, its actors.
    System,
}

impl Class {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Connection, Self::Protocol, Self::Auth, Self::System];

    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Protocol => "protocol",
            Self::Auth => "auth",
            Self::System => "system",
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It happens, and mends itself.
    Info,
    /// Somebody should look at it when it goes on.
    Warning,
    /// Something does not work.
    Error,
    /// A promise, or the money, is at stake.
    Critical,
}

impl Severity {
    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// What is done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The same again, after a backoff.
    Retry,
    /// Another endpoint takes over; this one is tried again after a backoff.
    Fallback,
    /// The breaker of the endpoint opens: others take over, and it is tried again rarely.
    Breaker,
    /// The node goes on with less: see [`Mode`].
    Degrade,
    /// It goes back to whoever handed it in, or is dropped: the same again would fail again.
    Reject,
}

/// Who has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Escalation {
    /// Nobody: it is in the log and in the counts.
    Nobody,
    /// Whoever watches the alerts.
    Alert,
    /// The supervisor: the actor is started again, within its budget.
    Supervisor,
    /// A human: nothing gets better before somebody acts.
    Human,
}

/// Where and to what it happened. Attached once, where the most is known.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct Context {
    /// The endpoint.
    pub endpoint: Option<String>,
    /// The number of the message.
    pub seq: Option<u64>,
    /// The id of the message, as text.
    pub message_id: Option<String>,
    /// Which attempt, from 1.
    pub attempt: Option<u32>,
    /// The trace of the message.
    pub traceparent: Option<String>,
}

impl Context {
    /// Something at an endpoint.
    #[must_use]
    pub fn endpoint(name: &str) -> Self {
        Self { endpoint: Some(name.to_owned()), ..Self::default() }
    }

    /// The same, about a message.
    #[must_use]
    pub fn message(mut self, seq: Seq, id: &MessageId) -> Self {
        self.seq = (!seq.is_volatile()).then_some(seq.0);
        self.message_id = Some(id.to_string());
        self
    }

    /// The same, at this attempt.
    #[must_use]
    pub const fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = Some(attempt);
        self
    }

    /// The same, in this trace.
    #[must_use]
    pub fn trace(mut self, traceparent: Option<&str>) -> Self {
        self.traceparent = traceparent.map(str::to_owned);
        self
    }
}

/// An error with its class and its context.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// What kind.
    pub kind: FailureKind,
    /// In the words of the error, cut to [`TEXT_BYTES_MAX`].
    pub text: String,
    /// Where and to what.
    pub context: Context,
}

impl Failure {
    /// Classifies an error.
    #[must_use]
    pub fn new<E: Classified + fmt::Display>(error: &E, context: Context) -> Self {
        let mut text = error.to_string();
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        Self { kind: error.kind(), text, context }
    }

    /// What the table says about it.
    #[must_use]
    pub fn row(&self) -> &'static Row {
        self.kind.row()
    }

    /// One line in the log, at the level of its severity.
    pub fn report(&self) {
        let row = self.row();
        let Context { endpoint, seq, message_id, attempt, traceparent } = &self.context;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    kind = self.kind.as_str(),
                    class = row.class.as_str(),
                    strategy = ?row.strategy,
                    escalation = ?row.escalation,
                    endpoint,
                    seq,
                    message_id,
                    attempt,
                    traceparent,
                    cure = row.cure,
                    "{}",
                    self.text
                )
            };
        }
        match row.severity {
            Severity::Info => line!(info),
            Severity::Warning => line!(warn),
            Severity::Error | Severity::Critical => line!(error),
        }
    }
}

/// A failure and when it was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Seen {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// What.
    pub failure: Failure,
    /// How often in a row, of the same kind at the same endpoint.
    pub times: u64,
}

/// The failures since the start: counts of all, and the last ones. Pure.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    counts: BTreeMap<FailureKind, u64>,
    last: VecDeque<Seen>,
}

impl Failures {
    /// Takes one in. Says whether it is news: not a repetition of the last one, which then only
    /// counts, so that a flood of one kind pushes nothing else out and is logged once.
    pub fn handle_failure(&mut self, at: UnixMillis, failure: Failure) -> bool {
        *self.counts.entry(failure.kind).or_default() += 1;
        let same = |seen: &&mut Seen| {
            seen.failure.kind == failure.kind
                && seen.failure.context.endpoint == failure.context.endpoint
        };
        if let Some(seen) = self.last.iter_mut().find(same) {
            seen.times = seen.times.saturating_add(1);
            seen.at_ms = at.0;
            seen.failure = failure;
            return false;
        }
        self.last.push_back(Seen { at_ms: at.0, failure, times: 1 });
        while self.last.len() > LAST_MAX {
            self.last.pop_front();
        }
        true
    }

    /// How often each kind was.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<FailureKind, u64> {
        &self.counts
    }

    /// How often each class and severity was.
    #[must_use]
    pub fn by_class(&self) -> BTreeMap<(Class, Severity), u64> {
        let mut sums = BTreeMap::new();
        for (kind, count) in &self.counts {
            let row = kind.row();
            *sums.entry((row.class, row.severity)).or_default() += count;
        }
        sums
    }

    /// The last ones, oldest first; one for each kind at each endpoint.
    pub fn last(&self) -> impl DoubleEndedIterator<Item = &Seen> {
        self.last.iter()
    }
}
