//! What governance pushes reaches the actors of the node, over real streams and through restarts.

use std::time::Duration;

use alys_stream_actor::StreamSystem;
use alys_stream_actor::neighbours::chain::ChainSnapshot;
use alys_stream_actor::neighbours::{BridgeMessage, ChainMessage, QUERY_TIMEOUT, SyncMessage};
use alys_stream_protocol::governance::{SignatureRequest, TransactionType};
use alys_stream_protocol::submission::{Submission, submission::Payload};
use bitcoin::hashes::Hash as _;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness, absolute,
    transaction,
};
use serde_json::json;

use crate::rig::{PATIENCE, Rig, connected, start, until};

/// A request that the federation can sign, different every time.
pub(crate) fn signature_request() -> Submission {
    let id = alys_stream_protocol::message::MessageId::mint();
    let mut txid = [0; 32];
    txid[..16].copy_from_slice(id.as_bytes());
    let unsigned = Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array(txid), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(99_000),
            script_pubkey: ScriptBuf::new_op_return([0; 4]),
        }],
    };
    let request = SignatureRequest {
        tx_hex: bitcoin::consensus::encode::serialize_hex(&unsigned),
        input_indices: vec![0],
        amounts: vec![100_000],
        tx_type: TransactionType::Pegout.into(),
        required_signatures: 2,
        timeout_seconds: None,
    };
    Submission { payload: Some(Payload::SignatureRequest(request)), ..Submission::default() }
}

async fn chain(system: &StreamSystem) -> ChainSnapshot {
    system.neighbours().chain.call(QUERY_TIMEOUT, ChainMessage::Snapshot).await.unwrap()
}

/// Waits until Chain knows something.
async fn chain_until(system: &StreamSystem, knows: impl Fn(&ChainSnapshot) -> bool) {
    let waiting = async {
        while !knows(&chain(system).await) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("Chain is told");
}

fn version(system: &StreamSystem) -> u64 {
    system.handle().status().federation.map_or(0, |it| it.version)
}

fn is_halted(system: &StreamSystem) -> bool {
    system.handle().status().federation.is_some_and(|it| it.halt.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_halt_and_a_resume_reach_chain_and_bridge_and_outlive_restarts() {
    let rig = Rig::start(2).await;
    let config = rig.config();
    let system = rig.node(config.clone()).await;
    rig.push(0, "halt", json!({ "version": 1, "reason": "a test" })).await;
    until("halted", || is_halted(&system)).await;
    chain_until(&system, |chain| chain.is_halted && chain.reason == "a test").await;
    let bridge = system.neighbours().bridge.call(QUERY_TIMEOUT, BridgeMessage::Snapshot).await;
    assert!(bridge.unwrap().is_halted, "told at the same time");
    let status = system.handle().status();
    assert_eq!(status.mode.as_str(), "halted", "{}", status.mode_reason);
    // A Chain that begins anew knows nothing, and is told.
    let dead = crate::deaths::find(&system, "root/system/chain").unwrap();
    dead.kill();
    crate::deaths::successor(&system, "root/system/chain", dead.get_id()).await;
    chain_until(&system, |chain| chain.is_halted).await;
    system.shutdown(Duration::ZERO).await;

    let system = start(config.clone()).await;
    until("halted from the start", || is_halted(&system)).await;
    connected(&system.handle(), 2).await;
    rig.push(1, "halt", json!({ "version": 2, "resume": true })).await;
    until("resumed", || !is_halted(&system)).await;
    // The old halt again, from the other endpoint, changes nothing.
    rig.push(1, "halt", json!({ "version": 1, "reason": "a test" })).await;
    rig.push(1, "proposal", json!({ "proposal_id": "after", "data": "00" })).await;
    chain_until(&system, |chain| chain.proposals.iter().any(|(id, _)| id == "after")).await;
    assert!(!is_halted(&system) && !chain(&system).await.is_halted);
    system.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_takes_effect_at_its_height_and_open_requests_keep_their_federation() {
    let rig = Rig::start(2).await;
    let config = rig.config();
    let system = rig.node(config.clone()).await;
    rig.push(0, "federation_update", json!({ "version": 3, "effective_height": 10 })).await;
    chain_until(&system, |chain| chain.scheduled.contains_key(&10)).await;
    assert!(system.asks().height(9));
    assert_eq!(version(&system), 0);
    // What is asked for now is signed by the present one, whatever comes into force meanwhile.
    let (_, mut follow) = system.handle().submit_followed(signature_request()).await.unwrap();
    assert!(system.asks().height(10));
    until("in force", || version(&system) == 3).await;
    let signed = follow.finished_outcome().await.unwrap();
    assert_eq!(signed.inputs_signed, 1, "{}", signed.reason);
    chain_until(&system, |chain| chain.federation.is_some_and(|it| it.0 == 3)).await;
    system.shutdown(Duration::from_secs(5)).await;
    let system = start(config).await;
    assert_eq!(version(&system), 3, "it is durable");
    system.shutdown(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_of_block_production_follows_the_link() {
    let rig = Rig::start(1).await;
    let system = rig.node(rig.config()).await;
    let open = async {
        loop {
            let sync = system.neighbours().sync.call(QUERY_TIMEOUT, SyncMessage::Snapshot).await;
            if sync.is_ok_and(|it| it.is_gate_open) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, open).await.expect("the link is up, so it opens");
    assert!(system.asks().health().await.is_some_and(|it| it.mode.is_normal()));
    system.shutdown(Duration::ZERO).await;
}
