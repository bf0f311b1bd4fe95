//! The signing member: what the federation keys of this node answer to a signature request.
//!
//! Pure. Not when it answers: see [`crate::answers`].
//!
//! Invariants:
//! - G2: an answer says COMPLETE only when it carries, for every requested input, as many
//!   signatures as the input needs.

use alys_stream_protocol::federation::Federation;
use alys_stream_protocol::governance::{
    PartialSignature, SignatureRequest, SignatureResponse, SignatureStatus, SignatureType,
    WitnessData,
};
use alys_stream_protocol::signing::SigningTask;
use bytes::Bytes;

use crate::keys::MemberKey;

/// The members whose keys this node holds, in their federation.
#[derive(Debug)]
pub struct SigningMember {
    federation: Federation,
    keys: Vec<MemberKey>,
}

/// Whether signatures are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Honesty {
    /// They verify.
    Honest,
    /// They look right and do not verify.
    WrongSignatures,
}

impl SigningMember {
    /// The keys must belong to members of the federation; see [`crate::keys::load`].
    #[must_use]
    pub const fn new(federation: Federation, keys: Vec<MemberKey>) -> Self {
        Self { federation, keys }
    }

    /// The federation in force.
    #[must_use]
    pub const fn federation(&self) -> &Federation {
        &self.federation
    }

    /// The keys it holds.
    #[must_use]
    pub fn keys(&self) -> &[MemberKey] {
        &self.keys
    }

    /// Signs every requested input with every key, or says why not.
    ///
    /// Deterministic: the same request gets the same bytes, so that answering twice is harmless.
    #[must_use]
    pub fn sign(&self, request: &SignatureRequest, honesty: Honesty) -> SignatureResponse {
        let task = match SigningTask::try_new(request, &self.federation) {
            Ok(task) => task,
            Err(error) => return failed(error.to_string()),
        };
        let mut signatures: Vec<WitnessData> =
            self.keys.iter().flat_map(|key| task.sign(key.keypair())).collect();
        if honesty == Honesty::WrongSignatures {
            signatures.iter_mut().for_each(spoil);
        }
        let held = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        // G2: every key signed every input.
        debug_assert_eq!(signatures.len(), self.keys.len() * task.inputs().len(), "invariant G2");
        let status = if held >= task.required() {
            SignatureStatus::Complete
        } else {
            SignatureStatus::Partial
        };
        SignatureResponse {
            status: status.into(),
            signatures,
            failure_reason: None,
            partial_signatures: self.signers(SignatureStatus::Complete),
        }
    }

    /// The answer while the request waits.
    #[must_use]
    pub fn pending(&self) -> SignatureResponse {
        SignatureResponse {
            status: SignatureStatus::Pending.into(),
            partial_signatures: self.signers(SignatureStatus::Pending),
            ..SignatureResponse::default()
        }
    }

    /// The answer when the request's time passed before anything was signed.
    #[must_use]
    pub fn timed_out(&self, request: &SignatureRequest) -> SignatureResponse {
        let seconds = request.timeout_seconds.unwrap_or_default();
        SignatureResponse {
            status: SignatureStatus::Timeout.into(),
            failure_reason: Some(format!("not signed within {seconds} s")),
            partial_signatures: self.signers(SignatureStatus::Timeout),
            ..SignatureResponse::default()
        }
    }

    fn signers(&self, status: SignatureStatus) -> Vec<PartialSignature> {
        self.keys
            .iter()
            .map(|key| PartialSignature {
                signer_id: key.member_id.clone(),
                signature: Bytes::new(),
                status: status.into(),
            })
            .collect()
    }
}

fn failed(reason: String) -> SignatureResponse {
    SignatureResponse {
        status: SignatureStatus::Failed.into(),
        failure_reason: Some(reason),
        ..SignatureResponse::default()
    }
}

/// Flips the lowest bit of `s`: it stays a well-formed signature, of nothing.
fn spoil(witness: &mut WitnessData) {
    let mut signature = witness.signature.to_vec();
    // ECDSA signatures end with the signature hash type.
    let tail = if witness.sig_type == i32::from(SignatureType::Ecdsa) { 2 } else { 1 };
    if let Some(byte) = signature.iter_mut().rev().nth(tail - 1) {
        *byte ^= 1;
    }
    witness.signature = signature.into();
}
