//! What the tests submit.

use alys_stream_protocol::governance::{
    NodeStatus, PeginNotification, RequestPriority, SignatureRequest, StatusUpdate, SyncStatus,
    TransactionType,
};
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{ApplicationMessage, Submission, submission::Payload};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};

/// Bytes of the payload of an [`application`] message.
pub const APPLICATION_BYTES: usize = 256;

/// Satoshis that every input of [`transaction`] spends.
pub const INPUT_SATOSHIS: u64 = 100_000;

/// An unsigned transaction with so many inputs, different for every seed.
#[must_use]
pub fn transaction(rng: &mut fastrand::Rng, inputs: u32) -> Transaction {
    let mut txid = [0; 32];
    rng.fill(&mut txid);
    let input = (0..inputs)
        .map(|vout| TxIn {
            previous_output: OutPoint { txid: Txid::from_byte_array(txid), vout },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        })
        .collect();
    let output = vec![TxOut {
        value: Amount::from_sat(INPUT_SATOSHIS * u64::from(inputs) - 1_000),
        script_pubkey: ScriptBuf::new_op_return([0; 4]),
    }];
    Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output }
}

/// A signature request for every input of a transaction.
#[must_use]
pub fn signature_request(id: MessageId, transaction: &Transaction) -> Submission {
    let inputs = u32::try_from(transaction.input.len()).unwrap_or(u32::MAX);
    with(
        id,
        RequestPriority::Unspecified,
        Payload::SignatureRequest(SignatureRequest {
            tx_hex: bitcoin::consensus::encode::serialize_hex(transaction),
            input_indices: (0..inputs).collect(),
            amounts: vec![INPUT_SATOSHIS; transaction.input.len()],
            tx_type: TransactionType::Pegout.into(),
            required_signatures: 2,
            timeout_seconds: None,
        }),
    )
}

/// A peg-in of a random priority.
#[must_use]
pub fn pegin(rng: &mut fastrand::Rng, id: MessageId) -> Submission {
    let priority = rng.choice([
        RequestPriority::Low,
        RequestPriority::Normal,
        RequestPriority::High,
        RequestPriority::Critical,
    ]);
    let mut txid = [0; 32];
    rng.fill(&mut txid);
    with(
        id,
        priority.unwrap_or(RequestPriority::Normal),
        Payload::PeginNotification(PeginNotification {
            btc_txid: Txid::from_byte_array(txid).to_string(),
            vout: rng.u32(0..8),
            amount: rng.u64(1_000..1_000_000),
            evm_address: "0x00112233445566778899aabbccddeeff00112233".into(),
            confirmations: 6,
            extra_data: None,
        }),
    )
}

/// A message that only the application understands: one governance node is enough for it.
#[must_use]
pub fn application(rng: &mut fastrand::Rng, id: MessageId) -> Submission {
    let mut payload = vec![0; APPLICATION_BYTES];
    rng.fill(&mut payload);
    let message = ApplicationMessage { kind: 1000, payload: payload.into() };
    with(id, RequestPriority::Unspecified, Payload::Application(message))
}

/// How the node is.
#[must_use]
pub fn status() -> Submission {
    with(
        MessageId::mint(),
        RequestPriority::Unspecified,
        Payload::StatusUpdate(StatusUpdate {
            status: NodeStatus::Active.into(),
            block_height: 1,
            sync_status: SyncStatus::Synced.into(),
            connection_count: 1,
            metrics: None,
        }),
    )
}

fn with(id: MessageId, priority: RequestPriority, payload: Payload) -> Submission {
    Submission {
        message_id: id.as_bytes().to_vec().into(),
        priority: priority.into(),
        payload: Some(payload),
        ..Submission::default()
    }
}
