//! Signatures of a federation over its own change (D9).
//!
//! `FederationUpdate.update_signature` holds an encoded [`SignatureSet`]. What is signed is not the
//! encoding, in which maps have no order, but SHA-256 over these bytes, integers little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 32 | [`UPDATE_DIGEST_TAG`] |
//! | 4 | `update_type`, as the signed number on the wire |
//! | 8 | `effective_height` |
//! | 8 | number of `members`; then each, in the order of the message: |
//! | 8 + n | `member_id`: length, bytes |
//! | 8 + n | `public_key`: length, bytes |
//! | 4 | `weight` |
//! | 1 | `active`: 0 or 1 |
//! | 1 | whether there is a `config`: 0 (the end) or 1; then: |
//! | 4 | `signature_threshold` |
//! | 4 | `member_count` |
//! | 8 | number of `parameters`; then each, ascending by the bytes of the key: |
//! | 8 + n | key: length, bytes |
//! | 8 + n | value: length, bytes |
//!
//! Every part has a fixed length or carries it, so no two updates have the same bytes.
//! The version is among the parameters, so it is signed too.

use std::collections::BTreeSet;

use bitcoin::secp256k1::{Keypair, Message, schnorr};
use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};

use super::{Federation, SECP, x_only};
use crate::governance::FederationUpdate;
use crate::limits;
use crate::session::{MemberSignature, SignatureSet};

/// Separates these digests from everything else that members sign.
pub const UPDATE_DIGEST_TAG: &[u8; 32] = b"alys-stream/federation-update/v1";

/// Parameter of the configuration that says what an `EMERGENCY_HALT` asks for.
pub const EMERGENCY_PARAMETER: &str = "emergency";

/// Value of [`EMERGENCY_PARAMETER`] that asks to go on. Every other value halts.
pub const EMERGENCY_RESUME: &str = "resume";

/// Parameter of the configuration with the reason of an emergency, in words, for people.
pub const REASON_PARAMETER: &str = "reason";

/// Parameter of the configuration that carries the version of an update.
const VERSION_PARAMETER: &str = "version";

/// Most signatures in one set: stale or foreign ones are tolerated, but not without bound.
const SIGNATURES_MAX: usize = 2 * limits::FEDERATION_MEMBERS_MAX;

/// What the members of the federation in force sign: see the module for the bytes.
#[must_use]
pub fn update_digest(update: &FederationUpdate) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(UPDATE_DIGEST_TAG);
    hash.update(update.update_type.to_le_bytes());
    hash.update(update.effective_height.to_le_bytes());
    hash.update(length(update.members.len()));
    for member in &update.members {
        put(&mut hash, member.member_id.as_bytes());
        put(&mut hash, &member.public_key);
        hash.update(member.weight.to_le_bytes());
        hash.update([u8::from(member.active)]);
    }
    hash.update([u8::from(update.config.is_some())]);
    if let Some(config) = &update.config {
        hash.update(config.signature_threshold.to_le_bytes());
        hash.update(config.member_count.to_le_bytes());
        hash.update(length(config.parameters.len()));
        // A `BTreeMap` of strings iterates in the order of their bytes.
        for (key, value) in &config.parameters {
            put(&mut hash, key.as_bytes());
            put(&mut hash, value.as_bytes());
        }
    }
    hash.finalize().into()
}

fn length(of: usize) -> [u8; 8] {
    (of as u64).to_le_bytes()
}

fn put(hash: &mut Sha256, bytes: &[u8]) {
    hash.update(length(bytes.len()));
    hash.update(bytes);
}

/// Signs an update for one member: BIP-340, deterministic.
#[must_use]
pub fn sign_update(
    update: &FederationUpdate,
    member_id: &str,
    keypair: &Keypair,
) -> MemberSignature {
    let digest = Message::from_digest(update_digest(update));
    let signature = SECP.sign_schnorr_no_aux_rand(&digest, keypair);
    MemberSignature {
        member_id: member_id.to_owned(),
        signature: Bytes::copy_from_slice(signature.as_ref()),
    }
}

/// The version of an update, from `config.parameters["version"]`.
///
/// # Errors
///
/// When it is missing or not a decimal number.
pub fn update_version(update: &FederationUpdate) -> Result<u64, UpdateError> {
    let text = update
        .config
        .as_ref()
        .and_then(|config| config.parameters.get(VERSION_PARAMETER))
        .ok_or(UpdateError::NoVersion)?;
    // `parse` alone would take a leading plus sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UpdateError::Version);
    }
    text.parse().map_err(|_| UpdateError::Version)
}

impl Federation {
    /// Checks that this federation, the one in force, signed the update.
    ///
    /// Signatures that do not count (of unknown members, invalid, a second one of a member) are
    /// ignored and reported; those of members whose weights reach the threshold suffice.
    ///
    /// # Errors
    ///
    /// When there is no readable signature set, it is too large, or its weight is too low.
    pub fn verify_update(&self, update: &FederationUpdate) -> Result<VerifiedWeight, UpdateError> {
        if update.update_signature.is_empty() {
            return Err(UpdateError::Unsigned);
        }
        let set = SignatureSet::decode(update.update_signature.clone())
            .map_err(UpdateError::Unreadable)?;
        if set.signatures.len() > SIGNATURES_MAX {
            return Err(UpdateError::TooMany(set.signatures.len()));
        }
        let digest = Message::from_digest(update_digest(update));
        let mut verified = VerifiedWeight {
            weight: 0,
            threshold: u64::from(self.threshold()),
            signers: BTreeSet::new(),
            unknown: 0,
            invalid: 0,
        };
        for entry in &set.signatures {
            let Some(member) = self.member_by_id(&entry.member_id) else {
                verified.unknown += 1;
                continue;
            };
            if verified.signers.contains(&member.id) {
                continue;
            }
            let is_valid =
                schnorr::Signature::from_slice(&entry.signature).is_ok_and(|signature| {
                    SECP.verify_schnorr(&signature, &digest, &x_only(member)).is_ok()
                });
            if is_valid {
                verified.weight += u64::from(member.weight);
                verified.signers.insert(member.id.clone());
            } else {
                verified.invalid += 1;
            }
        }
        if verified.weight < verified.threshold {
            return Err(UpdateError::UnderSigned(verified));
        }
        Ok(verified)
    }
}

/// What the signatures under an update amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedWeight {
    /// The weights of the members whose signatures are valid, each once (P7).
    pub weight: u64,
    /// What it takes.
    pub threshold: u64,
    /// The ids of those members.
    pub signers: BTreeSet<String>,
    /// Signatures of members that the federation does not know.
    pub unknown: u32,
    /// Signatures of members that do not verify.
    pub invalid: u32,
}

/// An update that must not be acted on.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// It carries no signatures.
    #[error("the federation update is not signed")]
    Unsigned,
    /// Its signatures cannot be read.
    #[error("the signatures of the federation update are not a SignatureSet")]
    Unreadable(#[source] prost::DecodeError),
    /// More signatures than any federation needs.
    #[error("a federation update has at most {SIGNATURES_MAX} signatures, not {0}")]
    TooMany(usize),
    /// The members that signed are too few or too light.
    #[error(
        "the federation update is signed with weight {} of {} ({} unknown and {} invalid signatures)",
        .0.weight, .0.threshold, .0.unknown, .0.invalid
    )]
    UnderSigned(VerifiedWeight),
    /// It carries no version.
    #[error("the federation update has no version (expected in config.parameters[\"version\"])")]
    NoVersion,
    /// Its version is not a number.
    #[error("the version of the federation update is not a decimal number below 2^64")]
    Version,
}
