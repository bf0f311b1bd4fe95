//! Who signs: the members of a federation, how many of them it takes, and the script that says so.
//!
//! Not who is the federation in force: that history is kept by the node. Not the signing of
//! transactions: see [`crate::signing`].
//!
//! Invariants:
//! - P6: the script depends on the set of keys and the threshold alone, never on the order in which
//!   members were configured.
//! - P7: a federation update counts each member once, and only members of the federation that
//!   verifies it.

use std::sync::{Arc, LazyLock};

use bitcoin::secp256k1::{All, PublicKey, Secp256k1, XOnlyPublicKey};
use bitcoin::{Address, Network, ScriptBuf};
use miniscript::descriptor::TapTree;
use miniscript::{Descriptor, Miniscript, Threshold};

use crate::governance::{FederationMember, FederationUpdate};
use crate::limits;

mod update;

pub use update::{
    EMERGENCY_PARAMETER, EMERGENCY_RESUME, REASON_PARAMETER, UPDATE_DIGEST_TAG, UpdateError,
    VerifiedWeight, sign_update, update_digest, update_version,
};

/// The internal key of every P2TR federation: the point of BIP-341 whose discrete logarithm nobody
/// knows, so that only the script path can spend.
pub const UNSPENDABLE_INTERNAL_KEY: [u8; 32] = [
    0x50, 0x92, 0x9b, 0x74, 0xc1, 0xa0, 0x49, 0x54, 0xb7, 0x8b, 0x4b, 0x60, 0x35, 0xe9, 0x7a, 0x5e,
    0x07, 0x8a, 0x5a, 0x0f, 0x28, 0xec, 0x96, 0xd5, 0x47, 0xbf, 0xee, 0x9a, 0xce, 0x80, 0x3a, 0xc0,
];

/// The tables of the curve, computed once.
pub(crate) static SECP: LazyLock<Secp256k1<All>> = LazyLock::new(Secp256k1::new);

/// One signer of a federation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, unique in the federation.
    pub id: String,
    /// Its key. P2WSH signs with it (ECDSA), P2TR and federation updates with its x coordinate
    /// (Schnorr).
    pub public_key: PublicKey,
    /// What its signature under a federation update counts. In a script every member counts once.
    pub weight: u32,
}

/// How the federation locks its coins.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ScriptKind {
    /// `wsh(multi(M, keys…))`, keys in the order of BIP-67.
    P2wsh,
    /// `tr(unspendable, multi_a(M, keys…))`, x-only keys ascending.
    P2tr,
}

/// A checked federation. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation {
    inner: Arc<Inner>,
}

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    threshold: u32,
    /// Ascending by compressed key (P6).
    members: Vec<Member>,
    script: ScriptKind,
    descriptor: Descriptor<bitcoin::PublicKey>,
}

impl Federation {
    /// Checks members and threshold and derives the script.
    ///
    /// # Errors
    ///
    /// When there are no members or more than [`limits::FEDERATION_MEMBERS_MAX`], when the
    /// threshold is 0 or above the number of members, or when an id is empty, an id or key occurs
    /// twice, or a weight is 0.
    pub fn try_new(
        threshold: u32,
        mut members: Vec<Member>,
        script: ScriptKind,
    ) -> Result<Self, FederationError> {
        members.sort_by_key(|member| member.public_key.serialize());
        check_members(&members)?;
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        if threshold == 0 || threshold > count {
            return Err(FederationError::Threshold { threshold, members: count });
        }
        let descriptor = descriptor(threshold, &members, script)?;
        Ok(Self { inner: Arc::new(Inner { threshold, members, script, descriptor }) })
    }

    /// The federation that an update announces: its active members and its threshold.
    ///
    /// Says nothing about signatures: verify the update with the federation in force first
    /// ([`Federation::verify_update`]).
    ///
    /// # Errors
    ///
    /// When the update carries no configuration, a key is not a compressed point, or the members
    /// do not make a federation.
    pub fn try_from_update(
        update: &FederationUpdate,
        script: ScriptKind,
    ) -> Result<Self, FederationError> {
        let config = update.config.as_ref().ok_or(FederationError::NoConfig)?;
        let members = update
            .members
            .iter()
            .filter(|member| member.active)
            .map(Member::try_from)
            .collect::<Result<_, _>>()?;
        Self::try_new(config.signature_threshold, members, script)
    }

    /// How many members it takes to sign an input, and what weight to sign an update.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.inner.threshold
    }

    /// The members, ascending by compressed key, whatever order they were configured in.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.inner.members
    }

    /// The member with this id.
    #[must_use]
    pub fn member_by_id(&self, id: &str) -> Option<&Member> {
        self.inner.members.iter().find(|member| member.id == id)
    }

    /// How it locks its coins.
    #[must_use]
    pub fn script_kind(&self) -> ScriptKind {
        self.inner.script
    }

    /// The output descriptor that everything on the chain is derived from.
    #[must_use]
    pub fn descriptor(&self) -> &Descriptor<bitcoin::PublicKey> {
        &self.inner.descriptor
    }

    /// The script of its outputs.
    #[must_use]
    pub fn script_pubkey(&self) -> ScriptBuf {
        self.inner.descriptor.script_pubkey()
    }

    /// Where pegged-in coins go.
    ///
    /// # Panics
    ///
    /// Never: both kinds of script have an address.
    #[must_use]
    pub fn address(&self, network: Network) -> Address {
        self.inner
            .descriptor
            .address(network)
            .expect("invariant P6: wsh and tr descriptors have an address")
    }
}

impl TryFrom<&FederationMember> for Member {
    type Error = FederationError;

    fn try_from(member: &FederationMember) -> Result<Self, FederationError> {
        let key = |source| FederationError::Key { id: member.member_id.clone(), source };
        if member.public_key.len() != 33 {
            return Err(key(bitcoin::secp256k1::Error::InvalidPublicKey));
        }
        Ok(Self {
            id: member.member_id.clone(),
            public_key: PublicKey::from_slice(&member.public_key).map_err(key)?,
            weight: member.weight,
        })
    }
}

/// Members that do not make a federation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FederationError {
    /// None, or too many.
    #[error("a federation has 1 to {max} members, not {0}", max = limits::FEDERATION_MEMBERS_MAX)]
    Members(usize),
    /// The threshold fits no subset of the members.
    #[error("a threshold of {threshold} does not fit {members} members (expected 1 to {members})")]
    Threshold {
        /// What was asked for.
        threshold: u32,
        /// How many members there are.
        members: u32,
    },
    /// A member without a name, or with a longer one than the wire allows.
    #[error("a member id has 1 to {max} bytes, not {0}", max = limits::NODE_ID_BYTES_MAX)]
    MemberId(usize),
    /// Two members with one name.
    #[error("member id {0} occurs twice")]
    DuplicateId(String),
    /// Two members with one key; keys that differ in the sign alone are one key in P2TR.
    #[error("members {first} and {second} have the same key")]
    DuplicateKey {
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// A member that would count nothing.
    #[error("member {0} has weight 0 (expected at least 1; inactive members are left out)")]
    Weight(String),
    /// A key that is not a point of the curve in 33 bytes.
    #[error("the key of member {id} is not a compressed public key of 33 bytes")]
    Key {
        /// Whose.
        id: String,
        /// Why.
        #[source]
        source: bitcoin::secp256k1::Error,
    },
    /// An update that names no threshold.
    #[error("the federation update has no config, which carries the threshold")]
    NoConfig,
    /// The script cannot be built.
    #[error("these members cannot be put into a script: {0}")]
    Script(String),
}

fn check_members(members: &[Member]) -> Result<(), FederationError> {
    if members.is_empty() || members.len() > limits::FEDERATION_MEMBERS_MAX {
        return Err(FederationError::Members(members.len()));
    }
    for (position, member) in members.iter().enumerate() {
        if member.id.is_empty() || member.id.len() > limits::NODE_ID_BYTES_MAX {
            return Err(FederationError::MemberId(member.id.len()));
        }
        if member.weight == 0 {
            return Err(FederationError::Weight(member.id.clone()));
        }
        for other in &members[..position] {
            if other.id == member.id {
                return Err(FederationError::DuplicateId(member.id.clone()));
            }
            if x_only(other) == x_only(member) {
                return Err(FederationError::DuplicateKey {
                    first: other.id.clone(),
                    second: member.id.clone(),
                });
            }
        }
    }
    Ok(())
}

pub(crate) fn x_only(member: &Member) -> XOnlyPublicKey {
    member.public_key.x_only_public_key().0
}

fn descriptor(
    threshold: u32,
    members: &[Member],
    script: ScriptKind,
) -> Result<Descriptor<bitcoin::PublicKey>, FederationError> {
    let unusable = |error: miniscript::Error| FederationError::Script(error.to_string());
    let out_of_range =
        |error: miniscript::ThresholdError| FederationError::Script(error.to_string());
    let needed = usize::try_from(threshold).unwrap_or(usize::MAX);
    let mut keys: Vec<_> =
        members.iter().map(|member| bitcoin::PublicKey::new(member.public_key)).collect();
    match script {
        ScriptKind::P2wsh => {
            let keys = Threshold::new(needed, keys).map_err(out_of_range)?;
            Descriptor::new_wsh(Miniscript::multi(keys)).map_err(unusable)
        }
        ScriptKind::P2tr => {
            keys.sort_by_key(|key| key.inner.x_only_public_key().0.serialize());
            let keys = Threshold::new(needed, keys).map_err(out_of_range)?;
            let leaf = TapTree::leaf(Miniscript::multi_a(keys));
            let internal = XOnlyPublicKey::from_slice(&UNSPENDABLE_INTERNAL_KEY)
                .expect("invariant P6: the point of BIP-341 is on the curve");
            let internal =
                bitcoin::PublicKey::new(internal.public_key(bitcoin::secp256k1::Parity::Even));
            Descriptor::new_tr(internal, Some(leaf)).map_err(unusable)
        }
    }
}

#[cfg(test)]
mod tests;
