//! From a signature request to what is signed, once per task.

use std::collections::BTreeSet;

use bitcoin::consensus::encode;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use bitcoin::{Amount, Transaction, TxOut};
use miniscript::Descriptor;

use crate::federation::Federation;
use crate::governance::SignatureRequest;
use crate::limits;

/// A signature request that cannot be signed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SigningError {
    /// The transaction is longer than any that would be relayed.
    #[error("a transaction has at most {} bytes, not {bytes}", limits::TRANSACTION_BYTES_MAX)]
    TransactionBytes {
        /// How many it has.
        bytes: usize,
    },
    /// The transaction is not hexadecimal.
    #[error("tx_hex is not hexadecimal")]
    Hex(#[source] hex::FromHexError),
    /// The bytes are not a transaction.
    #[error("tx_hex is not one Bitcoin transaction: {0}")]
    Transaction(String),
    /// No inputs, or too many.
    #[error("a request has 1 to {max} inputs, not {0}", max = limits::SIGNATURE_INPUTS_MAX)]
    Inputs(usize),
    /// An input that the transaction does not have.
    #[error("input {index} is not among the {inputs} inputs of the transaction")]
    InputRange {
        /// The index.
        index: u32,
        /// How many inputs there are.
        inputs: usize,
    },
    /// An input that was requested twice.
    #[error("input {0} is requested twice")]
    DuplicateInput(u32),
    /// Amounts and inputs differ in number.
    #[error("{amounts} amounts for {inputs} inputs (expected one each)")]
    Amounts {
        /// How many amounts there are.
        amounts: usize,
        /// How many inputs there are.
        inputs: usize,
    },
    /// An amount above all the money there is.
    #[error("{0} satoshis are more than there can be")]
    Amount(u64),
    /// No number of members can be meant.
    #[error("{required} signatures are required of {members} members (expected 1 to {members})")]
    Required {
        /// How many are asked for.
        required: u32,
        /// How many there could be.
        members: u32,
    },
    /// P2TR, and not all inputs.
    #[error(
        "a P2TR signature covers all {inputs} inputs, but the request names {requested}: request all of them"
    )]
    Partial {
        /// How many were requested.
        requested: usize,
        /// How many there are.
        inputs: usize,
    },
    /// The signature hash of an input cannot be computed.
    #[error("nothing to sign for input {index}: {reason}")]
    Sighash {
        /// Which one.
        index: u32,
        /// Why.
        reason: String,
    },
}

pub(super) fn transaction(text: &str) -> Result<Transaction, SigningError> {
    if text.len() > 2 * limits::TRANSACTION_BYTES_MAX {
        return Err(SigningError::TransactionBytes { bytes: text.len().div_ceil(2) });
    }
    let bytes = hex::decode(text).map_err(SigningError::Hex)?;
    encode::deserialize(&bytes).map_err(|error| {
        let ends_early = matches!(error, encode::Error::Io(_));
        let text = if ends_early { "it ends too early".to_owned() } else { error.to_string() };
        SigningError::Transaction(text)
    })
}

pub(super) fn check_required(
    request: &SignatureRequest,
    federation: &Federation,
) -> Result<(), SigningError> {
    let members = u32::try_from(federation.members().len()).unwrap_or(u32::MAX);
    let required = request.required_signatures;
    if required == 0 || required > members {
        return Err(SigningError::Required { required, members });
    }
    Ok(())
}

pub(super) fn check_inputs(
    request: &SignatureRequest,
    transaction: &Transaction,
) -> Result<(), SigningError> {
    let count = request.input_indices.len();
    if count == 0 || count > limits::SIGNATURE_INPUTS_MAX {
        return Err(SigningError::Inputs(count));
    }
    if request.amounts.len() != count {
        return Err(SigningError::Amounts { amounts: request.amounts.len(), inputs: count });
    }
    if let Some(amount) = request.amounts.iter().find(|amount| **amount > limits::SATOSHIS_MAX) {
        return Err(SigningError::Amount(*amount));
    }
    let mut seen = BTreeSet::new();
    for index in &request.input_indices {
        let inputs = transaction.input.len();
        if usize::try_from(*index).map_or(true, |position| position >= inputs) {
            return Err(SigningError::InputRange { index: *index, inputs });
        }
        if !seen.insert(*index) {
            return Err(SigningError::DuplicateInput(*index));
        }
    }
    Ok(())
}

/// Requested inputs as positions, with their amounts; `check_inputs` has seen them.
fn positions(request: &SignatureRequest) -> impl Iterator<Item = (u32, usize, Amount)> + '_ {
    request.input_indices.iter().zip(&request.amounts).map(|(index, amount)| {
        let position = usize::try_from(*index).unwrap_or(usize::MAX);
        (*index, position, Amount::from_sat(*amount))
    })
}

pub(super) fn p2wsh_messages(
    request: &SignatureRequest,
    federation: &Federation,
    transaction: &Transaction,
) -> Result<Vec<Message>, SigningError> {
    let failed = |index, reason: String| SigningError::Sighash { index, reason };
    let mut cache = SighashCache::new(transaction);
    positions(request)
        .map(|(index, position, amount)| {
            let script = federation
                .descriptor()
                .script_code()
                .map_err(|error| failed(index, error.to_string()))?;
            cache
                .p2wsh_signature_hash(position, &script, amount, EcdsaSighashType::All)
                .map(|hash| Message::from_digest(hash.to_byte_array()))
                .map_err(|error| failed(index, error.to_string()))
        })
        .collect()
}

pub(super) fn p2tr_messages(
    request: &SignatureRequest,
    federation: &Federation,
    transaction: &Transaction,
) -> Result<Vec<Message>, SigningError> {
    let inputs = transaction.input.len();
    if request.input_indices.len() != inputs {
        return Err(SigningError::Partial { requested: request.input_indices.len(), inputs });
    }
    let script_pubkey = federation.script_pubkey();
    let mut spent = vec![TxOut::NULL; inputs];
    for (_, position, value) in positions(request) {
        spent[position] = TxOut { value, script_pubkey: script_pubkey.clone() };
    }
    let leaf = leaf_hash(federation).ok_or_else(|| SigningError::Sighash {
        index: 0,
        reason: "the federation has no script path".to_owned(),
    })?;
    let mut cache = SighashCache::new(transaction);
    positions(request)
        .map(|(index, position, _)| {
            cache
                .taproot_script_spend_signature_hash(
                    position,
                    &Prevouts::All(&spent),
                    leaf,
                    TapSighashType::Default,
                )
                .map(|hash| Message::from_digest(hash.to_byte_array()))
                .map_err(|error| SigningError::Sighash { index, reason: error.to_string() })
        })
        .collect()
}

/// The one leaf of a P2TR federation.
fn leaf_hash(federation: &Federation) -> Option<TapLeafHash> {
    let Descriptor::Tr(tr) = federation.descriptor() else {
        return None;
    };
    tr.leaves()
        .next()
        .map(|leaf| TapLeafHash::from_script(&leaf.compute_script(), LeafVersion::TapScript))
}
