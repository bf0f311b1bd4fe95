//! The credentials of a running session: renewed in band, judged when the peer renews its own.

use std::sync::Mutex;
use std::time::Instant;

use alys_stream_protocol::session::{AuthProof, RefuseCode};
use alys_stream_protocol::time::UnixMillis;

use super::shared::Shared;
use crate::exchange::{Exchange, Refusal};
use crate::session::credential::{SessionAuth, expiry};

/// What a session knows of its credentials.
pub(super) struct Auth {
    parts: SessionAuth,
    peer_id: String,
    /// When what we have shown last expires.
    shown: Mutex<Option<UnixMillis>>,
}

impl Auth {
    pub(super) const fn new(parts: SessionAuth, peer_id: String) -> Self {
        let shown = Mutex::new(parts.ours);
        Self { parts, peer_id, shown }
    }

    /// This one was shown to the peer.
    pub(super) fn shown(&self, proof: &AuthProof) {
        *crate::lock(&self.shown) = expiry(proof);
    }

    /// What is said to a peer whose credential expired.
    pub(super) fn expired(&self) -> Refusal {
        let text = format!(
            "the credential of {} expired; renew it in band, or open another session with a new one",
            self.peer_id
        );
        Refusal::new(RefuseCode::CredentialExpired, text)
    }
}

impl<X: Exchange> Shared<X> {
    /// The peer showed another proof.
    pub(super) fn verify(&self, now: Instant, proof: &AuthProof) -> Result<(), Refusal> {
        let until = self.auth.parts.credentials.verify(&self.auth.peer_id, Some(proof))?;
        let wall = self.clock.now();
        if until.is_some_and(|until| until <= wall) {
            return Err(self.auth.expired());
        }
        crate::lock(&self.session).handle_verified(now, wall, until);
        Ok(())
    }

    /// Shows a proof that is good for longer, when there is one.
    pub(super) fn renew(&self, now: Instant) {
        let (wall, shown) = (self.clock.now(), *crate::lock(&self.auth.shown));
        let lasts_longer = |proof: &AuthProof| match (expiry(proof), shown) {
            (None, Some(_)) => true,
            (Some(until), Some(shown)) => until > shown,
            (Some(_) | None, None) => false,
        };
        let proof = self.auth.parts.credentials.proof().filter(lasts_longer);
        let mut session = crate::lock(&self.session);
        match proof {
            Some(proof) => {
                self.auth.shown(&proof);
                session.handle_auth_refresh(now, wall, proof);
            }
            None => session.handle_not_renewed(now, wall, shown),
        }
    }
}
