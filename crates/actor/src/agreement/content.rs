//! What a content is known by: a digest, so that contents of any size take the same room.

use alys_stream_protocol::federation::update_digest;
use alys_stream_protocol::governance::{FederationUpdate, ProposalNotification};
use alys_stream_protocol::message::MessageKind;
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};

/// Separates the digests of proposals from all others.
const PROPOSAL_TAG: &[u8] = b"alys-stream/proposal/v1";

/// Separates the digests of payloads from all others.
const PAYLOAD_TAG: &[u8] = b"alys-stream/payload/v1";

/// Identifies a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 32]);

impl ContentDigest {
    /// Of an update: what its members sign, so that the set of signatures does not matter.
    #[must_use]
    pub fn of_update(update: &FederationUpdate) -> Self {
        Self(update_digest(update))
    }

    /// Of a proposal: every field.
    #[must_use]
    pub fn of_proposal(proposal: &ProposalNotification) -> Self {
        Self::hash(
            PROPOSAL_TAG,
            &[
                proposal.proposal_id.as_bytes(),
                &proposal.proposal_type.to_le_bytes(),
                &proposal.proposal_data,
                &proposal.voting_deadline.to_le_bytes(),
                &proposal.required_votes.to_le_bytes(),
            ],
        )
    }

    /// Of an encoded payload of some kind.
    #[must_use]
    pub fn of_payload(kind: MessageKind, payload: &[u8]) -> Self {
        Self::hash(PAYLOAD_TAG, &[&kind.0.to_le_bytes(), payload])
    }

    /// Every part with its length in front, so that no two lists of parts are the same bytes.
    fn hash(tag: &[u8], parts: &[&[u8]]) -> Self {
        let mut engine = sha256::Hash::engine();
        for part in std::iter::once(&tag).chain(parts) {
            engine.input(&(part.len() as u64).to_le_bytes());
            engine.input(part);
        }
        Self(sha256::Hash::from_engine(engine).to_byte_array())
    }
}
