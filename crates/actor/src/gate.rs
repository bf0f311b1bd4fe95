//! The security gate: whether something that governance sent is looked at at all.
//!
//! ```text
//! stream ─▶ bounded decode ─▶ gate ─▶ validation ─▶ dedup ─▶ agreement ─▶ actor
//! ```
//!
//! A seam. Who may say what, how often, and what is filtered or audited is decided by whoever
//! implements [`Gate`]; [`Open`] admits everything. What is not admitted is counted, classified
//! ([`FailureKind::InboundNotAdmitted`]) and answered: it is never dropped in silence (D5).
//!
//! Not here: whether what is admitted is true. Signatures, versions and agreement are for
//! [`crate::federation`], [`crate::agreement`] and [`crate::proposals`], with every gate.

use std::fmt;
use std::time::Duration;

use alys_stream_protocol::governance::ErrorCode;
use alys_stream_protocol::message::MessageKind;
use alys_stream_transport::exchange::{NackKind, Verdict};
use bytes::Bytes;

use crate::failure::{Classified, FailureKind};

/// Looks at everything that endpoints send, after it was decoded and before anything else is done
/// with it.
pub trait Gate: fmt::Debug + Send + Sync {
    /// Whether this is let in: `bytes` as they came from `endpoint`, and the kind that is inside.
    ///
    /// Called on the task that reads the stream, in the order of the wire, and on the way of an
    /// emergency halt: it must not block, and takes microseconds. What is refused until later is
    /// asked about again whenever the peer sends it again.
    ///
    /// # Errors
    ///
    /// When it is not let in, and whether that may change.
    fn admit(&self, endpoint: &str, kind: MessageKind, bytes: &Bytes) -> Result<(), GateRefusal>;
}

/// Admits everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Open;

impl Gate for Open {
    fn admit(&self, _: &str, _: MessageKind, _: &Bytes) -> Result<(), GateRefusal> {
        Ok(())
    }
}

/// Something that is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateRefusal {
    /// Not now: the peer keeps it, and sends it again. A peer that speaks no session keeps nothing:
    /// there it is gone, and the failure log says so.
    #[error("not admitted before {after:?} have passed: {reason}")]
    Later {
        /// When to send it again.
        after: Duration,
        /// Why not now, in words that the peer gets.
        reason: String,
    },
    /// Never: the peer is told so, and does not send it again.
    #[error("not admitted: {reason}")]
    Never {
        /// Why not, in words that the peer gets.
        reason: String,
    },
}

impl GateRefusal {
    /// What the peer is told.
    pub(crate) fn verdict(&self) -> Verdict {
        let (kind, code) = match self {
            Self::Later { after, .. } => {
                (NackKind::Retry { after: Some(*after) }, ErrorCode::RateLimited)
            }
            Self::Never { .. } => (NackKind::Terminal, ErrorCode::AuthorizationFailed),
        };
        Verdict::Refused { kind, code: code as u32, text: self.to_string() }
    }
}

impl Classified for GateRefusal {
    fn kind(&self) -> FailureKind {
        FailureKind::InboundNotAdmitted
    }
}
