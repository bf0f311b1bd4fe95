//! Valid requests of every kind.

use alys_stream_protocol::federation::Federation;
use alys_stream_protocol::governance::{
    Heartbeat, NodeInfo, NodeRegistration, PeginNotification, RequestMetadata, RequestPriority,
    SignatureRequest, StatusUpdate, StreamRequest, stream_request::Payload,
};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority};
use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use prost::Message as _;

use crate::world::NODE_ID;

pub(crate) fn request(request_id: &str, payload: Payload) -> StreamRequest {
    StreamRequest {
        metadata: Some(RequestMetadata {
            request_id: request_id.to_owned(),
            timestamp: 1_780_000_000,
            node_id: NODE_ID.to_owned(),
            protocol_version: "governance.v1".to_owned(),
            priority: RequestPriority::Normal.into(),
            timeout: None,
        }),
        payload: Some(payload),
    }
}

pub(crate) fn id() -> String {
    MessageId::mint().to_string()
}

pub(crate) fn registration() -> StreamRequest {
    let node_info = NodeInfo {
        public_key: "02".to_owned() + &"11".repeat(32),
        node_type: 3,
        version: "0.1.0".to_owned(),
        region: None,
    };
    let registration =
        NodeRegistration { node_info: Some(node_info), ..NodeRegistration::default() };
    request(&id(), Payload::NodeRegistration(registration))
}

pub(crate) fn heartbeat(sequence: u64) -> StreamRequest {
    request(&id(), Payload::Heartbeat(Heartbeat { timestamp: 1_780_000_000, sequence, health: 1 }))
}

pub(crate) fn status_update() -> Payload {
    Payload::StatusUpdate(StatusUpdate {
        status: 3,
        block_height: 7,
        sync_status: 1,
        connection_count: 3,
        metrics: None,
    })
}

pub(crate) fn pegin(amount: u64) -> Payload {
    Payload::PeginNotification(PeginNotification {
        btc_txid: "ab".repeat(32),
        vout: 0,
        amount,
        evm_address: "0x".to_owned() + &"cd".repeat(20),
        confirmations: 6,
        extra_data: None,
    })
}

/// Asks to sign `inputs` inputs, each of which spends an output of the federation.
pub(crate) fn signature_request(
    federation: &Federation,
    inputs: u8,
    required: u32,
) -> SignatureRequest {
    let outpoint = |n| OutPoint { txid: Txid::from_byte_array([n; 32]), vout: u32::from(n) };
    let input = |n| TxIn {
        previous_output: outpoint(n),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let transaction = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: (0..inputs).map(input).collect(),
        output: vec![TxOut {
            value: Amount::from_sat(90_000),
            script_pubkey: federation.script_pubkey(),
        }],
    };
    SignatureRequest {
        tx_hex: bitcoin::consensus::encode::serialize_hex(&transaction),
        input_indices: (0..u32::from(inputs)).collect(),
        amounts: vec![100_000; usize::from(inputs)],
        tx_type: 2,
        required_signatures: required,
        timeout_seconds: Some(120),
    }
}

/// A request as a session carries it.
pub(crate) fn message(kind: MessageKind, payload: Payload) -> Message {
    let id = MessageId::mint();
    Message {
        id,
        kind,
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: request(&id.to_string(), payload).encode_to_vec().into(),
    }
}
