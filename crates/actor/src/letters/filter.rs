//! Which dead letters are meant, as an operator says it.
//!
//! Not here: the words of the command line, which become a filter of `alys.node.v1` first.

use std::str::FromStr;

use alys_stream_messaging::dead_letter::DeadLetter;
use alys_stream_messaging::outbox::Cause;
use alys_stream_protocol::submission::DeadLetterFilter;
use alys_stream_protocol::time::UnixMillis;

/// A cause of death without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CauseKind {
    /// Its deadline passed before it was sent.
    Expired,
    /// Its deadline passed after it was sent.
    TimedOut,
    /// A peer refused it for good.
    Refused,
    /// It made room for others.
    Evicted,
}

/// A word that is no cause of death.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a cause of death (expired, timed_out, refused or evicted)")]
pub struct UnknownCause(String);

impl FromStr for CauseKind {
    type Err = UnknownCause;

    fn from_str(word: &str) -> Result<Self, UnknownCause> {
        [Self::Expired, Self::TimedOut, Self::Refused, Self::Evicted]
            .into_iter()
            .find(|cause| cause.as_str() == word)
            .ok_or_else(|| UnknownCause(word.to_owned()))
    }
}

impl CauseKind {
    /// The cause without its details.
    #[must_use]
    pub const fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Expired => Self::Expired,
            Cause::TimedOut { .. } => Self::TimedOut,
            Cause::Refused { .. } => Self::Refused,
            Cause::Evicted => Self::Evicted,
        }
    }

    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::TimedOut => "timed_out",
            Self::Refused => "refused",
            Self::Evicted => "evicted",
        }
    }
}

/// Which dead letters are meant: those for which everything that is set holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LetterFilter {
    /// Why it died.
    pub cause: Option<CauseKind>,
    /// The name of its kind, or the number.
    pub kind: Option<String>,
    /// An endpoint that refused it at least once.
    pub endpoint: Option<String>,
    /// Died before this moment.
    pub died_before: Option<UnixMillis>,
    /// Died at this moment or after it.
    pub died_after: Option<UnixMillis>,
}

impl LetterFilter {
    /// Whether a dead letter is meant.
    #[must_use]
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        let kind = letter.message.kind;
        let is_kind = |wanted: &String| {
            *wanted == kind.as_str() || wanted.parse::<u32>().is_ok_and(|n| kind.0 == n)
        };
        let is_endpoint = |wanted: &String| letter.attempts.iter().any(|a| a.endpoint == *wanted);
        self.cause.is_none_or(|cause| cause == CauseKind::of(&letter.cause))
            && self.kind.as_ref().is_none_or(is_kind)
            && self.endpoint.as_ref().is_none_or(is_endpoint)
            && self.died_before.is_none_or(|at| letter.died_at < at)
            && self.died_after.is_none_or(|at| letter.died_at >= at)
    }
}

impl TryFrom<DeadLetterFilter> for LetterFilter {
    type Error = UnknownCause;

    fn try_from(wire: DeadLetterFilter) -> Result<Self, UnknownCause> {
        let given = |text: String| (!text.is_empty()).then_some(text);
        Ok(Self {
            cause: given(wire.cause).map(|word| word.parse()).transpose()?,
            kind: given(wire.kind),
            endpoint: given(wire.endpoint),
            died_before: UnixMillis::from_wire(wire.died_before_ms),
            died_after: UnixMillis::from_wire(wire.died_after_ms),
        })
    }
}
