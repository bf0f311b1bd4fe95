//! A transaction for the federation to sign, for the examples.

use alys_stream::protocol::governance::{SignatureRequest, TransactionType};
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute,
    transaction,
};

/// It spends one output of the federation.
pub(crate) fn request(federation: &ScriptBuf) -> SignatureRequest {
    let spent = Amount::from_sat(1_000_000);
    let unsigned = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array([7; 32]), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }],
        output: vec![TxOut { value: Amount::from_sat(990_000), script_pubkey: federation.clone() }],
    };
    SignatureRequest {
        tx_hex: serialize_hex(&unsigned),
        input_indices: vec![0],
        amounts: vec![spent.to_sat()],
        tx_type: TransactionType::Pegout.into(),
        required_signatures: 1,
        timeout_seconds: Some(60),
    }
}
