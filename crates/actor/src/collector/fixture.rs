//! Keys, a federation and a transaction for tests.

use alys_stream_protocol::federation::{Federation, Member, ScriptKind};
use alys_stream_protocol::governance::{SignatureRequest, TransactionType};
use alys_stream_protocol::signing::SigningTask;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid};

use super::Arc;

pub(crate) fn keys() -> Vec<Keypair> {
    let secp = Secp256k1::new();
    (1..=3_u8)
        .map(|n| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[n; 32]).unwrap()))
        .collect()
}

/// Two of three.
pub(crate) fn federation() -> Federation {
    let members = keys()
        .iter()
        .enumerate()
        .map(|(n, key)| Member { id: format!("m{n}"), public_key: key.public_key(), weight: 1 })
        .collect();
    Federation::try_new(2, members, ScriptKind::P2wsh).unwrap()
}

/// For a transaction with two inputs.
pub(crate) fn request() -> SignatureRequest {
    let input = (0..2)
        .map(|vout| TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array([7; 32]), vout },
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            ..TxIn::default()
        })
        .collect();
    let output = vec![TxOut { value: Amount::from_sat(150_000), script_pubkey: ScriptBuf::new() }];
    let transaction =
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output };
    SignatureRequest {
        tx_hex: serialize_hex(&transaction),
        input_indices: vec![0, 1],
        amounts: vec![100_000, 100_000],
        tx_type: TransactionType::Pegout.into(),
        required_signatures: 2,
        timeout_seconds: None,
    }
}

pub(crate) fn task() -> Arc<SigningTask> {
    Arc::new(SigningTask::try_new(&request(), &federation()).unwrap())
}
