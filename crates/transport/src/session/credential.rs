//! Who says who we are, and who judges what the peer says: proofs that expire, renewed in band.
//!
//! Not a judgement by itself: [`Credentials`] is the seam, and [`Stated`] believes what it is told
//! beside what TLS has proved. What is decided here is only when.
//!
//! Invariants:
//! - T37: a session whose peer's credential expired is closed, however lively it is.
//! - T38: our own is renewed before it expires, once four fifths of what was left are over.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_stream_protocol::session::AuthProof;
use alys_stream_protocol::time::UnixMillis;

use crate::exchange::Refusal;

/// Between two attempts to renew, at least.
const RENEW_PAUSE: Duration = Duration::from_secs(1);

/// Gives our proof and judges the peer's. Called from the tasks of a session: must not block.
pub trait Credentials: fmt::Debug + Send + Sync + 'static {
    /// What is shown now; `None` when TLS is the only proof. Asked for again before it expires: a
    /// later expiry is sent to the peer.
    fn proof(&self) -> Option<AuthProof>;

    /// Until when the peer's proof is good; `None` is for ever.
    ///
    /// # Errors
    ///
    /// A refusal closes the session; the peer is told.
    fn verify(
        &self,
        peer_id: &str,
        proof: Option<&AuthProof>,
    ) -> Result<Option<UnixMillis>, Refusal>;
}

/// Shows one proof, or none, and believes the expiry that a peer states.
#[derive(Debug, Clone, Default)]
pub struct Stated(pub Option<AuthProof>);

impl Credentials for Stated {
    fn proof(&self) -> Option<AuthProof> {
        self.0.clone()
    }

    fn verify(
        &self,
        _peer_id: &str,
        proof: Option<&AuthProof>,
    ) -> Result<Option<UnixMillis>, Refusal> {
        Ok(proof.and_then(expiry))
    }
}

/// When a proof expires; `None` is never.
#[must_use]
pub fn expiry(proof: &AuthProof) -> Option<UnixMillis> {
    UnixMillis::from_wire(proof.expires_at_ms)
}

/// The credentials of one session, as they stood in its handshake.
#[derive(Debug, Clone)]
pub struct SessionAuth {
    /// The seam.
    pub credentials: Arc<dyn Credentials>,
    /// When what we have shown expires.
    pub ours: Option<UnixMillis>,
    /// Until when the peer's was found good.
    pub theirs: Option<UnixMillis>,
}

impl SessionAuth {
    /// Nothing but TLS.
    #[must_use]
    pub fn none() -> Self {
        Self { credentials: Arc::new(Stated(None)), ours: None, theirs: None }
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Renew,
    Expired,
}

/// The two expiries of a session.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    renew_at: Option<Instant>,
    expire_at: Option<Instant>,
}

impl Expiries {
    /// Our proof expires then; asks for another one in time.
    pub(super) fn set_ours(&mut self, now: Instant, wall: UnixMillis, until: Option<UnixMillis>) {
        let renew_in = until.map(|until| {
            let left = until.saturating_since(wall);
            (left / 5 * 4).max(RENEW_PAUSE)
        });
        self.renew_at = renew_in.and_then(|left| now.checked_add(left));
    }

    pub(super) fn set_theirs(&mut self, now: Instant, wall: UnixMillis, until: Option<UnixMillis>) {
        // Further away than a clock can count is never.
        self.expire_at = until.and_then(|until| now.checked_add(until.saturating_since(wall)));
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match (self.renew_at, self.expire_at) {
            (Some(renew), Some(expire)) => Some(renew.min(expire)),
            (renew, expire) => renew.or(expire),
        }
    }

    /// What is due, once.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<Due> {
        if self.expire_at.is_some_and(|at| now >= at) {
            self.expire_at = None;
            return Some(Due::Expired);
        }
        if self.renew_at.is_some_and(|at| now >= at) {
            self.renew_at = None;
            return Some(Due::Renew);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
    fn ours_is_renewed_in_time_and_theirs_ends_on_time() {
        let start = Instant::now();
        let (wall, seconds) = (UnixMillis(1_000_000), Duration::from_secs);
        let until = |n| Some(wall.saturating_add(seconds(n)));
        let mut expiries = Expiries::default();
        assert_eq!(expiries.poll_timeout(), None);
        expiries.set_ours(start, wall, until(100));
        expiries.set_theirs(start, wall, until(90));
        assert_eq!(expiries.poll_timeout(), Some(start + seconds(80)), "T38");
        assert_eq!(expiries.poll_due(start + seconds(79)), None);
        assert_eq!(expiries.poll_due(start + seconds(80)), Some(Due::Renew));
        assert_eq!(expiries.poll_due(start + seconds(89)), None, "once");
        assert_eq!(expiries.poll_due(start + seconds(90)), Some(Due::Expired), "T37");
        assert_eq!(expiries.poll_timeout(), None);
        expiries.set_ours(start, wall, until(0));
        assert_eq!(expiries.poll_timeout(), Some(start + RENEW_PAUSE), "never in a tight loop");
    }
}
