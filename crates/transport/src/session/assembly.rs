//! Records that arrive in parts, until they are whole.
//!
//! Invariants:
//! - T35: what is gathered never exceeds the credit granted: the first part takes it for the whole
//!   record, and room is made for no more than that.

use std::collections::BTreeMap;

use alys_stream_protocol::message::Message;
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::session::Chunk;
use bytes::{Bytes, BytesMut};

use super::violation::SessionViolation;
use crate::exchange::InboundRecord;

#[derive(Debug)]
struct Partial {
    seq: Seq,
    message: Message,
    whole: usize,
    gathered: BytesMut,
}

/// The transfers of one session that are not whole.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// The number of the last one that began.
    begun: u64,
    partial: BTreeMap<u64, Partial>,
}

/// What a first part announces.
#[derive(Debug)]
pub(super) struct Announced {
    pub(super) seq: Seq,
    pub(super) message: Message,
    /// Bytes of the whole payload.
    pub(super) whole: usize,
}

impl Assembly {
    /// Reads the announcement of a first part; `None` when the part is not a first one.
    pub(super) fn announced(
        &self,
        chunk: &mut Chunk,
    ) -> Result<Option<Announced>, SessionViolation> {
        let Some(record) = chunk.record.take() else {
            return Ok(None);
        };
        let expected = self.begun + 1;
        if chunk.transfer != expected {
            return Err(SessionViolation::Transfer { expected, found: chunk.transfer });
        }
        let number = record.seq;
        if !record.payload.is_empty() {
            return Err(SessionViolation::NotAgreed("a payload beside its parts"));
        }
        let (seq, message) = record
            .try_into_message()
            .map_err(|problem| SessionViolation::Record { seq: number, problem })?;
        let whole = usize::try_from(chunk.payload_bytes).unwrap_or(usize::MAX);
        Ok(Some(Announced { seq, message, whole }))
    }

    /// A transfer begins; credit was taken for all of it (T35).
    pub(super) fn begin(&mut self, announced: Announced) {
        let Announced { seq, message, whole } = announced;
        self.begun += 1;
        let partial = Partial { seq, message, whole, gathered: BytesMut::with_capacity(whole) };
        self.partial.insert(self.begun, partial);
    }

    /// Takes one part. Returns the record when it is whole.
    pub(super) fn handle_part(
        &mut self,
        transfer: u64,
        part: &Bytes,
    ) -> Result<Option<InboundRecord>, SessionViolation> {
        let Some(partial) = self.partial.get_mut(&transfer) else {
            let expected = self.begun + 1;
            return Err(SessionViolation::Transfer { expected, found: transfer });
        };
        let left = partial.whole - partial.gathered.len();
        if part.len() > left || (part.is_empty() && left > 0) {
            return Err(SessionViolation::PartLength { transfer, bytes: part.len(), left });
        }
        partial.gathered.extend_from_slice(part);
        if partial.gathered.len() < partial.whole {
            return Ok(None);
        }
        Ok(self.partial.remove(&transfer).map(|partial| {
            let Partial { seq, message, gathered, .. } = partial;
            let message = Message { payload: gathered.freeze(), ..message };
            InboundRecord { seq, message }
        }))
    }
}
