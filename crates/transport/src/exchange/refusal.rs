//! What is not stored, or not taken at all: why, and what to do about it.

use std::fmt;
use std::time::Duration;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::session::RefuseCode;

/// Why a record was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NackKind {
    /// Not now; counts as a refusal.
    Retry {
        /// When to try again, when the peer said so.
        after: Option<Duration>,
    },
    /// Never.
    Terminal,
    /// Still being worked on: keep waiting.
    InProgress,
}

/// Longest delay that is taken from a peer, whatever it asks for: so one frame cannot silence an
/// endpoint for longer. Higher bears longer maintenance without a dial, lower asks again sooner.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Who says that a record was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NackOrigin {
    /// The peer: it speaks for its health.
    Peer,
    /// This side, before or without a word of the peer: the record cannot be said on this wire, is
    /// too large for the peer, or was not answered in time. It says nothing of the health of the
    /// peer.
    Local,
}

/// One record of ours was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Which.
    pub seq: Seq,
    /// Who says so. Breakers and balancers count only what the peer says.
    pub origin: NackOrigin,
    /// What to do about it.
    pub kind: NackKind,
    /// A `governance.v1.ErrorCode` number; 0 when there is none.
    pub code: u32,
    /// In words.
    pub text: String,
}

/// What became of one received record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// On stable storage, or already there: it is acknowledged.
    Stored,
    /// Not stored: the peer is told so.
    Refused {
        /// What the peer should do about it.
        kind: NackKind,
        /// A `governance.v1.ErrorCode` number.
        code: u32,
        /// In words.
        text: String,
    },
}

/// Received records could not be stored, and the session cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("received records could not be stored: {0}")]
pub struct ReceiveError(pub String);

/// A session is refused, by either side, at the handshake or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why, as a number that both sides know.
    pub code: RefuseCode,
    /// Why, in words.
    pub reason: String,
    /// When to try again, when that is known.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal without a retry delay.
    pub fn new(code: RefuseCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), retry_after: None }
    }

    /// Whether trying again soon is pointless: an operator has to act first.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self.code {
            RefuseCode::Unauthenticated
            | RefuseCode::Forbidden
            | RefuseCode::StaleEpoch
            | RefuseCode::LogRolledBack
            | RefuseCode::Incompatible => true,
            RefuseCode::Unspecified
            | RefuseCode::Busy
            | RefuseCode::ShuttingDown
            | RefuseCode::ProtocolViolation
            | RefuseCode::CredentialExpired => false,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // That one says nothing that the reason does not.
        if self.code == RefuseCode::Unspecified {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.code.as_str_name(), self.reason)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_code_when_it_has_one() {
        let words = |code| Refusal::new(code, "the peer is silent").to_string();
        assert_eq!(words(RefuseCode::Unspecified), "the peer is silent");
        assert_eq!(words(RefuseCode::Busy), "REFUSE_CODE_BUSY: the peer is silent");
    }
}
