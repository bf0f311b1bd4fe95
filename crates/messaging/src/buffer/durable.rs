//! Waiting until what was accepted is written, or on stable storage (D1).

use alys_stream_protocol::message::Seq;

use super::{Accepted, Buffer};
use crate::log::{DurabilityError, Position};

impl Buffer {
    /// Waits until a message is on stable storage.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it; the message stays accepted.
    pub async fn durable(&self, seq: Seq) -> Result<(), DurabilityError> {
        let Some(position) = self.shared.index.pending_position(seq) else {
            return Ok(());
        };
        self.shared.log.durable(position).await
    }

    /// Waits until all of these are on stable storage, as [`Buffer::durable`] does for one.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it; the messages stay accepted.
    pub async fn all_durable(&self, accepted: &[Accepted]) -> Result<(), DurabilityError> {
        let fresh = accepted.iter().filter_map(|accepted| accepted.position).max();
        let again = accepted.iter().filter(|accepted| accepted.is_duplicate);
        // The first one of a duplicate may be on its way as well.
        let again = again.map(|accepted| accepted.seq).max();
        let again = again.and_then(|seq| self.shared.index.pending_position(seq));
        match fresh.max(again) {
            Some(position) => self.shared.log.durable(position).await,
            None => Ok(()),
        }
    }

    /// Waits until a message is written, synced or not: the durability class `os`.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it; the message stays accepted.
    pub async fn written(&self, seq: Seq) -> Result<(), DurabilityError> {
        let Some(position) = self.shared.index.pending_position(seq) else {
            return Ok(());
        };
        self.shared.log.written(position).await
    }

    /// Waits until an entry, such as a settlement, is on stable storage.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn position_durable(&self, position: Position) -> Result<(), DurabilityError> {
        self.shared.log.durable(position).await
    }

    /// The latest position that is durable, without waiting.
    #[must_use]
    pub fn durable_position(&self) -> Position {
        self.shared.log.durable_position()
    }
}
