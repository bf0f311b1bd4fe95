//! A thousand messages in either direction, over a connection that breaks in the middle.

use std::collections::BTreeSet;
use std::process::Stdio;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_testkit::proxy::{Cut, Proxy};
use alys_stream_tests::deployment::{Deployment, listen_of};
use alys_stream_tests::link;
use alys_stream_tests::load;
use alys_stream_tests::python::{interpreter, program, protos};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::foreign::{Arrival, Foreign};

/// Messages of each test.
const MESSAGES: usize = 1000;

/// Handed over at a time.
const BATCH: usize = 50;

/// Reads arrivals until so many are left.
async fn arrive(foreign: &mut Foreign, left: &mut BTreeSet<String>, until: usize) -> Vec<Arrival> {
    let some = |arrival: &Arrival| {
        left.remove(&arrival.id);
        left.len() <= until
    };
    foreign.arrivals("pegin_notification", some).await
}

#[tokio::test]
async fn a_thousand_messages_reach_a_python_server_through_a_broken_connection() {
    let mut foreign = Foreign::start(&[]).await;
    let mut rng = fastrand::Rng::with_seed(8);
    let ids: Vec<_> = (0..MESSAGES).map(|_| MessageId::mint()).collect();
    link::until_up(&foreign.node, "governance-1").await;
    let (mut arrivals, mut left) = (Vec::new(), ids.iter().map(ToString::to_string).collect());
    for (number, ids) in ids.chunks(BATCH).enumerate() {
        let batch = ids.iter().map(|id| load::pegin(&mut rng, *id)).collect();
        foreign.client.submit_until_accepted(batch).await;
        if number * BATCH == MESSAGES / 2 {
            // In the middle, with some of them under way.
            arrivals = arrive(&mut foreign, &mut left, MESSAGES / 2).await;
            foreign.proxy.cut(Cut::Reset).await;
        }
    }
    for id in &ids {
        let outcome = foreign.client.outcome(*id).await;
        assert_eq!(outcome.state(), OutcomeState::Complete, "{}", outcome.reason);
    }
    arrivals.extend(arrive(&mut foreign, &mut left, 0).await);
    let streams: BTreeSet<_> = arrivals.iter().map(|arrival| arrival.stream).collect();
    assert_eq!(streams.len(), 2, "it was cut in the middle");
    let up = link::until_up(&foreign.node, "governance-1").await;
    assert!(up["attempts"].as_u64().unwrap() > 1, "{up}");
    assert_eq!(foreign.proxy.counts().cut, 1);
    foreign.node.stop().await;
}

#[tokio::test]
async fn a_python_client_gets_a_thousand_messages_through_a_broken_connection() {
    let deployment = Deployment::start(1).await;
    let root = deployment.root();
    let listen = listen_of(&root.join("governance-1/governance.yaml"));
    let mut proxy = Proxy::start(listen.parse().unwrap()).unwrap();
    let mut python = Command::new(interpreter())
        .arg(program("many.py"))
        .args(["--address", &proxy.address().to_string()])
        .args(["--messages", &MESSAGES.to_string()])
        .arg("--proto")
        .arg(protos())
        .arg("--ca")
        .arg(root.join("ca/ca.pem"))
        .arg("--certificate")
        .arg(root.join("node/tls.pem"))
        .arg("--key")
        .arg(root.join("node/tls-key.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let mut lines = BufReader::new(python.stdout.take().unwrap()).lines();
    let governance = &deployment.governance[0];
    let mut report = Value::Null;
    while let Some(line) = lines.next_line().await.unwrap() {
        // It says when it wants something to go wrong, and goes on when it has.
        match line.as_str() {
            "cut" => proxy.cut(Cut::Reset).await,
            "refuse" => {
                let for_now = json!({"refuse": {"retryable": {"after_ms": 2000}}});
                governance.misbehave(&for_now).await;
            }
            "refuse for good" => governance.misbehave(&json!({"refuse": "terminal"})).await,
            "behave" => governance.misbehave(&json!({"refuse": null})).await,
            _ => report = serde_json::from_str(&line).unwrap(),
        }
        stdin.write_all(b"done\n").await.unwrap();
    }
    assert!(python.wait().await.unwrap().success());
    let ids: Vec<String> = serde_json::from_value(report["ids"].take()).unwrap();
    assert_eq!(ids.len(), MESSAGES);
    assert_eq!(
        report,
        json!({
            "ids": null,
            "acknowledged": MESSAGES,
            "streams": 2,
            "refused": ["STATUS_CODE_SERVICE_UNAVAILABLE", "ERROR_CODE_SERVICE_UNAVAILABLE", 2],
            "refused_for_good": ["STATUS_CODE_ERROR", "ERROR_CODE_INVALID_REQUEST", 0],
            "then": "STATUS_CODE_SUCCESS",
            "unknown_call": "UNIMPLEMENTED",
            "garbled_call": "INTERNAL",
            "endless_call": "OUT_OF_RANGE",
        })
    );
    let ledgers = deployment.stop().await;
    for id in ids {
        let times = ledgers[0].get(&id.parse::<MessageId>().unwrap()).copied();
        assert_eq!(times, Some(1), "{id}");
    }
}
