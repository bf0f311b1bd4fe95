//! Signatures that came from somewhere: reading them strictly, verifying them, and handing them to
//! the descriptor.

use std::collections::BTreeMap;

use bitcoin::secp256k1::Message;
use bitcoin::sighash::EcdsaSighashType;
use bitcoin::taproot::TapLeafHash;
use bitcoin::{ecdsa, taproot};
use miniscript::Satisfier;

use crate::federation::{Member, SECP, ScriptKind, x_only};
use crate::governance::{SignatureType, WitnessData};

/// Whether `bytes` are the key of this member, whole or its x coordinate.
pub(super) fn is_key_of(member: &Member, bytes: &[u8]) -> bool {
    let key = member.public_key.serialize();
    bytes == key || bytes == &key[1..]
}

/// A readable signature, not yet verified.
pub(super) enum Candidate {
    Ecdsa(bitcoin::secp256k1::ecdsa::Signature),
    Schnorr(bitcoin::secp256k1::schnorr::Signature),
}

impl Candidate {
    pub(super) fn parse(script: ScriptKind, witness: &WitnessData) -> Option<Self> {
        let declared = SignatureType::try_from(witness.sig_type).ok()?;
        match (script, declared) {
            (ScriptKind::P2wsh, SignatureType::Ecdsa) => parse_ecdsa(&witness.signature),
            (ScriptKind::P2tr, SignatureType::Schnorr) => parse_schnorr(&witness.signature),
            (
                ScriptKind::P2wsh,
                SignatureType::Unspecified | SignatureType::Schnorr | SignatureType::Bls,
            )
            | (
                ScriptKind::P2tr,
                SignatureType::Unspecified | SignatureType::Ecdsa | SignatureType::Bls,
            ) => None,
        }
    }

    pub(super) fn verifies(&self, message: &Message, member: &Member) -> bool {
        match self {
            Self::Ecdsa(signature) => {
                SECP.verify_ecdsa(message, signature, &member.public_key).is_ok()
            }
            Self::Schnorr(signature) => {
                SECP.verify_schnorr(signature, message, &x_only(member)).is_ok()
            }
        }
    }
}

/// Strict DER, low S, and the hash type for all of the transaction.
fn parse_ecdsa(bytes: &[u8]) -> Option<Candidate> {
    let parsed = ecdsa::Signature::from_slice(bytes).ok()?;
    let mut low = parsed.signature;
    low.normalize_s();
    let is_canonical = low == parsed.signature && *parsed.serialize() == *bytes;
    let is_all = parsed.sighash_type == EcdsaSighashType::All;
    (is_canonical && is_all).then_some(Candidate::Ecdsa(parsed.signature))
}

/// 64 bytes: a 65th one would be another hash type.
fn parse_schnorr(bytes: &[u8]) -> Option<Candidate> {
    bitcoin::secp256k1::schnorr::Signature::from_slice(bytes).ok().map(Candidate::Schnorr)
}

/// The signatures of one input, as the descriptor looks them up.
#[derive(Default)]
pub(super) struct Collected {
    ecdsa: BTreeMap<[u8; 33], ecdsa::Signature>,
    schnorr: BTreeMap<[u8; 32], taproot::Signature>,
}

impl Collected {
    /// Adds the signature of a member, unless it cannot be read.
    pub(super) fn add(&mut self, script: ScriptKind, member: &Member, signature: &[u8]) {
        match script {
            ScriptKind::P2wsh => {
                if let Ok(signature) = ecdsa::Signature::from_slice(signature) {
                    self.ecdsa.insert(member.public_key.serialize(), signature);
                }
            }
            ScriptKind::P2tr => {
                if let Ok(signature) = taproot::Signature::from_slice(signature) {
                    self.schnorr.insert(x_only(member).serialize(), signature);
                }
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.ecdsa.len().max(self.schnorr.len())
    }
}

impl Satisfier<bitcoin::PublicKey> for Collected {
    fn lookup_ecdsa_sig(&self, key: &bitcoin::PublicKey) -> Option<ecdsa::Signature> {
        self.ecdsa.get(&key.inner.serialize()).copied()
    }

    fn lookup_tap_leaf_script_sig(
        &self,
        key: &bitcoin::PublicKey,
        _leaf: &TapLeafHash,
    ) -> Option<taproot::Signature> {
        self.schnorr.get(&key.inner.x_only_public_key().0.serialize()).copied()
    }
}
