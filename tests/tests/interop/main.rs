//! The published contract, spoken with programs that nobody here wrote.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_tests::deployment::{Deployment, listen_of};
use alys_stream_tests::load;
use alys_stream_tests::python::{interpreter, program, protos};
use bitcoin::consensus::encode::serialize_hex;
use serde_json::{Value, json};
use tokio::process::Command;

mod codes;
mod foreign;
mod many;
mod statuses;

use foreign::Foreign;

#[tokio::test]
async fn a_python_client_gets_answers_from_our_governance_node() {
    let deployment = Deployment::start(3).await;
    let root = deployment.root();
    let address = listen_of(&root.join("governance-1/governance.yaml"));
    let transaction = load::transaction(&mut fastrand::Rng::with_seed(1), 2);
    let output = Command::new(interpreter())
        .arg(program("client.py"))
        .args(["--address", &address, "--inputs", "2", "--tx-hex", &serialize_hex(&transaction)])
        .arg("--proto")
        .arg(protos())
        .arg("--ca")
        .arg(root.join("ca/ca.pem"))
        .arg("--certificate")
        .arg(root.join("node/tls.pem"))
        .arg("--key")
        .arg(root.join("node/tls-key.pem"))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let features = report["features"].take();
    assert!(features.as_array().unwrap().contains(&json!("alys.stream.v1")), "{features}");
    let text = report["refused_text"].take();
    assert!(text.as_str().unwrap().contains("btc_txid"), "the refusal names the field: {text}");
    assert_eq!(
        report,
        json!({
            "health": "HEALTH_STATUS_HEALTHY",
            "features": null,
            "before_registration": "STATUS_CODE_UNAUTHORIZED",
            "before_registration_answers": true,
            "registered": true,
            "heartbeat_sequence": 7,
            "acknowledged": 21,
            // One key of the three: one signature for each of the two inputs, of the two needed.
            "signature_status": "SIGNATURE_STATUS_PARTIAL",
            "signatures": 2,
            "refused_status": "STATUS_CODE_ERROR",
            "refused_code": "ERROR_CODE_INVALID_REQUEST",
            "refused_text": null,
        })
    );
}

async fn settles_pegins(options: &[&str]) {
    let mut foreign = Foreign::start(options).await;
    let mut rng = fastrand::Rng::with_seed(7);
    let ids: Vec<_> = (0..50).map(|_| MessageId::mint()).collect();
    let batch = ids.iter().map(|id| load::pegin(&mut rng, *id)).collect();
    foreign.client.submit_until_accepted(batch).await;
    for id in &ids {
        let outcome = foreign.client.outcome(*id).await;
        assert_eq!(outcome.state(), OutcomeState::Complete, "{}", outcome.reason);
    }
    let received = foreign.received("pegin_notification", ids.len()).await;
    assert_eq!(received, ids.iter().map(ToString::to_string).collect());
    foreign.node.stop().await;
}

#[tokio::test]
async fn a_plain_peer_settles_by_its_acknowledgements() {
    settles_pegins(&[]).await;
}

#[tokio::test]
async fn a_plain_peer_without_capabilities_is_served_as_plain() {
    settles_pegins(&["--capabilities", "unimplemented"]).await;
}

#[tokio::test]
async fn a_plain_peer_that_acknowledges_nothing_settles_by_heartbeats() {
    settles_pegins(&["--silent"]).await;
}

#[tokio::test]
async fn a_plain_peer_that_cuts_the_stream_gets_the_rest_again() {
    settles_pegins(&["--cut-after", "10"]).await;
}

#[tokio::test]
async fn a_refusal_by_every_plain_peer_is_told_as_it_is() {
    let foreign = Foreign::start(&[]).await;
    let transaction = load::transaction(&mut fastrand::Rng::with_seed(3), 1);
    let id = MessageId::mint();
    let mut request = load::signature_request(id, &transaction);
    if let Some(alys_stream_protocol::submission::submission::Payload::SignatureRequest(asked)) =
        &mut request.payload
    {
        asked.required_signatures = 1;
    }
    foreign.client.submit_until_accepted(vec![request]).await;
    let outcome = foreign.client.outcome(id).await;
    assert_eq!(outcome.state(), OutcomeState::Failed);
    assert!(outcome.reason.contains("this peer holds no keys"), "{}", outcome.reason);
    foreign.node.stop().await;
}
