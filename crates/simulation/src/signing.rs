//! Transactions that the federation is asked to sign, and whether what came back is signed.
//!
//! It is verified here by the rules of Bitcoin and the members' keys, and not by the product's
//! collector.

use std::collections::BTreeSet;

use alys_stream_protocol::governance::{SignatureRequest, TransactionType};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1};
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, EcdsaSighashType, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut,
    Txid, Witness,
};

use crate::federation::{self, THRESHOLD};

/// What each input is worth.
const AMOUNT: u64 = 100_000;

/// The transaction of a message: one input or two, that no other message spends.
fn transaction(number: u64) -> Transaction {
    let mut id = [7; 32];
    id[..8].copy_from_slice(&number.to_le_bytes());
    let input = |vout| TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array(id), vout },
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        ..TxIn::default()
    };
    let count = u32::try_from(number % 2).unwrap_or(0) + 1;
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0..count).map(input).collect(),
        output: vec![TxOut {
            value: Amount::from_sat(AMOUNT / 2),
            script_pubkey: ScriptBuf::new(),
        }],
    }
}

/// The request of a message to sign all of it.
pub(crate) fn request(number: u64) -> SignatureRequest {
    let transaction = transaction(number);
    let count = u32::try_from(transaction.input.len()).unwrap_or(0);
    SignatureRequest {
        tx_hex: serialize_hex(&transaction),
        input_indices: (0..count).collect(),
        amounts: vec![AMOUNT; transaction.input.len()],
        tx_type: TransactionType::Pegout.into(),
        required_signatures: THRESHOLD,
        timeout_seconds: None,
    }
}

/// Whether these bytes are the transaction of a message, with enough signatures for every input.
pub(crate) fn verify(number: u64, bytes: &[u8]) -> Result<(), String> {
    let signed: Transaction = deserialize(bytes).map_err(|error| error.to_string())?;
    let mut bare = signed.clone();
    bare.input.iter_mut().for_each(|input| input.witness = Witness::new());
    if bare != transaction(number) {
        return Err("it is another transaction".to_owned());
    }
    let mut cache = SighashCache::new(&bare);
    for (index, input) in signed.input.iter().enumerate() {
        let items: Vec<&[u8]> = input.witness.iter().collect();
        let Some((script, signatures)) = items.split_last() else {
            return Err(format!("input {index} has no witness"));
        };
        let script = Script::from_bytes(script);
        if script.to_p2wsh() != federation::federation().script_pubkey() {
            return Err(format!("input {index} is not spent by the script of the federation"));
        }
        let amount = Amount::from_sat(AMOUNT);
        let hash = cache.p2wsh_signature_hash(index, script, amount, EcdsaSighashType::All);
        let hash = hash.map_err(|error| error.to_string())?;
        let signers: BTreeSet<PublicKey> = signatures
            .iter()
            .filter_map(|bytes| signer(bytes, &Message::from_digest(hash.to_byte_array())))
            .collect();
        if signers.len() < usize::try_from(THRESHOLD).unwrap_or(usize::MAX) {
            return Err(format!("input {index} has signatures of {} members", signers.len()));
        }
    }
    Ok(())
}

/// The member whose signature it is.
fn signer(bytes: &[u8], message: &Message) -> Option<PublicKey> {
    let signature = bitcoin::ecdsa::Signature::from_slice(bytes).ok()?;
    let secp = Secp256k1::verification_only();
    let keys = federation::keys().into_iter().map(|pair| pair.public_key());
    let is_signer = |key: &PublicKey| secp.verify_ecdsa(message, &signature.signature, key).is_ok();
    keys.into_iter().find(is_signer)
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::signing::SigningTask;
    use bitcoin::consensus::encode::serialize;

    use super::*;

    /// The transaction of message 1, signed by these members.
    fn signed(members: &[usize]) -> Vec<u8> {
        let task = SigningTask::try_new(&request(1), &federation::federation()).unwrap();
        let keys = federation::keys();
        let mut places = vec![std::collections::BTreeMap::new(); task.inputs().len()];
        for member in members {
            for witness in task.sign(&keys[*member]) {
                let place = task.attribute(&witness).unwrap();
                places[place.input].insert(place.member, witness.signature.to_vec());
            }
        }
        let witnesses = places.iter().enumerate();
        let witnesses = witnesses.filter_map(|(index, by)| task.witness(index, by)).collect();
        serialize(&task.signed_transaction(witnesses).unwrap())
    }

    #[test]
    fn two_members_sign_and_nobody_else() {
        let mut bytes = signed(&[0, 2]);
        assert_eq!(verify(1, &bytes), Ok(()));
        assert!(verify(3, &bytes).is_err(), "another transaction");
        // Within the first signature of the first input: behind the transaction's own fields.
        let at = bytes.windows(4).position(|it| it[0] == 0x30 && it[2] == 2).unwrap();
        bytes[at + 20] ^= 1;
        assert!(verify(1, &bytes).is_err());
    }
}
