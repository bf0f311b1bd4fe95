//! What is signed: the inputs of one transaction, by the members of one federation.
//!
//! The published messages say neither which input nor, reliably, which member a signature belongs
//! to. So a signature is attributed by verifying it, against each requested input and each member
//! key; never by its position.
//!
//! Not the collecting of signatures from several endpoints, and not the keeping of keys.
//!
//! Signature hashes: BIP-143 with `SIGHASH_ALL` for P2WSH; BIP-341 and BIP-342, script path, with
//! `SIGHASH_DEFAULT` for P2TR. No other hash type is made or accepted, since it would let somebody
//! change what was agreed to.
//!
//! Invariants:
//! - P8: what [`SigningTask::attribute`] returns has been verified for that input and that member.
//! - P9: signing is deterministic: same task, same key, same bytes.

use std::collections::BTreeMap;

use bitcoin::secp256k1::{Keypair, Message};
use bitcoin::{Transaction, Witness, ecdsa};
use bytes::Bytes;

use crate::federation::{Federation, SECP, ScriptKind};
use crate::governance::{SignatureRequest, SignatureType, WitnessData};

mod candidate;
mod prepare;

use candidate::{Candidate, Collected, is_key_of};
pub use prepare::SigningError;

/// A checked signature request, bound to the federation whose coins it spends.
#[derive(Debug, Clone)]
pub struct SigningTask {
    transaction: Transaction,
    federation: Federation,
    inputs: Vec<u32>,
    /// What is signed, in the order of `inputs`.
    messages: Vec<Message>,
    required: u32,
}

/// Whose signature it is, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attribution {
    /// Position in [`SigningTask::inputs`].
    pub input: usize,
    /// Position in [`Federation::members`].
    pub member: usize,
}

impl SigningTask {
    /// Reads the transaction and computes what is to be signed, once.
    ///
    /// Every requested input is taken to spend an output of the federation with the stated amount:
    /// a signature for anything else would be worthless on the chain.
    ///
    /// # Errors
    ///
    /// When the transaction cannot be read, the inputs do not fit it, or more signatures are
    /// required than there are members. P2TR signs the amounts of all inputs of a transaction, so
    /// it takes all of them in one request.
    pub fn try_new(
        request: &SignatureRequest,
        federation: &Federation,
    ) -> Result<Self, SigningError> {
        let transaction = prepare::transaction(&request.tx_hex)?;
        prepare::check_inputs(request, &transaction)?;
        prepare::check_required(request, federation)?;
        let messages = match federation.script_kind() {
            ScriptKind::P2wsh => prepare::p2wsh_messages(request, federation, &transaction)?,
            ScriptKind::P2tr => prepare::p2tr_messages(request, federation, &transaction)?,
        };
        Ok(Self {
            transaction,
            federation: federation.clone(),
            inputs: request.input_indices.clone(),
            messages,
            required: request.required_signatures.max(federation.threshold()),
        })
    }

    /// The transaction, as the request has it.
    #[must_use]
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// The federation that signs it.
    #[must_use]
    pub fn federation(&self) -> &Federation {
        &self.federation
    }

    /// The requested inputs of the transaction, in the order of the request.
    #[must_use]
    pub fn inputs(&self) -> &[u32] {
        &self.inputs
    }

    /// How many members must sign each input: what the request asks for, and at least what the
    /// script asks for.
    #[must_use]
    pub fn required(&self) -> u32 {
        self.required
    }

    /// Whether every input of the transaction was requested, so that signing completes it.
    #[must_use]
    pub fn is_whole_transaction(&self) -> bool {
        // The inputs are unique and in range.
        self.inputs.len() == self.transaction.input.len()
    }

    /// Signs every requested input, in the order of the request.
    ///
    /// ECDSA: DER, low S, nonce of RFC 6979, then the hash type; 33 bytes of key.
    /// Schnorr: 64 bytes, no auxiliary randomness; 32 bytes of key.
    #[must_use]
    pub fn sign(&self, keypair: &Keypair) -> Vec<WitnessData> {
        self.messages
            .iter()
            .map(|message| match self.federation.script_kind() {
                ScriptKind::P2wsh => {
                    let signature = SECP.sign_ecdsa(message, &keypair.secret_key());
                    WitnessData {
                        signature: ecdsa::Signature::sighash_all(signature).to_vec().into(),
                        public_key: Bytes::copy_from_slice(&keypair.public_key().serialize()),
                        sig_type: SignatureType::Ecdsa.into(),
                    }
                }
                ScriptKind::P2tr => {
                    let signature = SECP.sign_schnorr_no_aux_rand(message, keypair);
                    let key = keypair.x_only_public_key().0.serialize();
                    WitnessData {
                        signature: Bytes::copy_from_slice(signature.as_ref()),
                        public_key: Bytes::copy_from_slice(&key),
                        sig_type: SignatureType::Schnorr.into(),
                    }
                }
            })
            .collect()
    }

    /// Finds out whose signature this is, of which input: `None` when it verifies for none.
    ///
    /// The key that it claims is tried first and otherwise ignored. The declared type must be that
    /// of the script. Costs at most one verification per requested input and member.
    #[must_use]
    pub fn attribute(&self, witness: &WitnessData) -> Option<Attribution> {
        self.attribute_from(witness, 0)
    }

    /// Attributes the signatures of one answer, in its order.
    ///
    /// Same result as [`SigningTask::attribute`] for each, but the search starts after the input
    /// that was found last: a peer that answers in order costs one verification per signature.
    #[must_use]
    pub fn attribute_all(&self, witnesses: &[WitnessData]) -> Vec<Option<Attribution>> {
        let mut start = 0;
        witnesses
            .iter()
            .map(|witness| {
                let found = self.attribute_from(witness, start);
                if let Some(attribution) = found {
                    start = attribution.input + 1;
                }
                found
            })
            .collect()
    }

    fn attribute_from(&self, witness: &WitnessData, start: usize) -> Option<Attribution> {
        let candidate = Candidate::parse(self.federation.script_kind(), witness)?;
        let members = self.federation.members();
        let claimed = members.iter().position(|member| is_key_of(member, &witness.public_key));
        let order =
            claimed.into_iter().chain((0..members.len()).filter(|member| Some(*member) != claimed));
        let count = self.messages.len();
        for member in order {
            for input in (0..count).map(|step| (start + step) % count) {
                if candidate.verifies(&self.messages[input], &members[member]) {
                    return Some(Attribution { input, member });
                }
            }
        }
        None
    }

    /// The complete witness of one requested input, from attributed signatures by member.
    ///
    /// `None` while there are fewer than [`SigningTask::required`] readable ones, or when `input`
    /// is not a position in [`SigningTask::inputs`]. The stack holds as many signatures as the
    /// script asks for, in its order. Signatures are not verified again: pass what
    /// [`SigningTask::attribute`] has attributed to this input.
    #[must_use]
    pub fn witness(&self, input: usize, signatures: &BTreeMap<usize, Vec<u8>>) -> Option<Witness> {
        if input >= self.inputs.len() {
            return None;
        }
        let mut collected = Collected::default();
        for (member, signature) in signatures {
            let member = self.federation.members().get(*member)?;
            collected.add(self.federation.script_kind(), member, signature);
        }
        if collected.count() < usize::try_from(self.required).unwrap_or(usize::MAX) {
            return None;
        }
        let (stack, _) = self.federation.descriptor().get_satisfaction(&collected).ok()?;
        Some(Witness::from_slice(&stack))
    }

    /// The signed transaction, ready to broadcast, from one witness per requested input.
    ///
    /// `None` when the number of witnesses is another one, or the request left inputs out.
    #[must_use]
    pub fn signed_transaction(&self, witnesses: Vec<Witness>) -> Option<Transaction> {
        if !self.is_whole_transaction() || witnesses.len() != self.inputs.len() {
            return None;
        }
        let mut transaction = self.transaction.clone();
        for (index, witness) in self.inputs.iter().zip(witnesses) {
            transaction.input.get_mut(usize::try_from(*index).ok()?)?.witness = witness;
        }
        Some(transaction)
    }
}

#[cfg(test)]
mod tests;
