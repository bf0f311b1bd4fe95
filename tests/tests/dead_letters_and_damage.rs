//! What an operator does when things went wrong: dead letters seen, sent again and removed, and a
//! damaged buffer found, started on and reported.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Output;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_tests::deployment::{Deployment, admin_of, mint};
use alys_stream_tests::load;
use alys_stream_tests::process::{Served, run};
use alys_stream_tests::submission::Client;
use serde_json::{Value, json};

/// Messages in the buffer that is damaged, and the one that is hit.
const MESSAGES: u64 = 40;
const HIT: u64 = 20;

fn text(output: &[u8]) -> &str {
    std::str::from_utf8(output).expect("output is text")
}

fn succeeded(output: &Output) -> &str {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// One JSON object for each line.
fn lines(output: &Output) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).expect("a line is JSON");
    succeeded(output).lines().map(parse).collect()
}

fn buffer_tool(what: &str, data: &Path, options: &[&str]) -> Output {
    let mut args = vec!["buffer", what, data.to_str().expect("a plain path")];
    args.extend(options);
    run(args)
}

/// Accepts peg-ins one by one, so that each has an entry of its own.
async fn accept(client: &Client, count: u64) -> Vec<MessageId> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut ids = Vec::new();
    for _ in 0..count {
        let id = MessageId::mint();
        client.submit(vec![load::pegin(&mut rng, id)]).await.expect("accepted without any peer");
        ids.push(id);
    }
    ids
}

fn start(root: &Path, what: &str, name: &str) -> Served {
    let config = root.join(format!("{name}/{what}.yaml"));
    Served::start(what, &config, &admin_of(&config))
}

/// Flips a bit of the payload of a record, and says where the record lies.
fn damage(data: &Path, seq: u64) -> (String, u64) {
    let records = lines(&buffer_tool("dump", data, &[]));
    let record = records.iter().find(|record| record["seq"] == seq).expect("the record");
    let segment = record["segment"].as_str().expect("its segment").to_owned();
    let offset = record["offset"].as_u64().expect("where it lies");
    let stored = record["stored_bytes"].as_u64().expect("how long it is");
    let stat: Value =
        serde_json::from_str(succeeded(&buffer_tool("stat", data, &["--json"]))).expect("JSON");
    let segments = stat["segments"].as_array().expect("segments");
    let file = segments.iter().find(|it| it["segment"] == segment.as_str()).expect("it exists");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(file["path"].as_str().expect("its file"))
        .expect("it can be opened");
    let at = offset + stored / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], at).expect("another byte");
    (segment, offset)
}

#[tokio::test]
async fn a_damaged_record_is_named_reported_and_costs_no_other() {
    let folder = mint(1);
    let root = folder.path().join("d");
    let data = root.join("node/data");
    let client = Client::new(root.join("node/node.sock"));
    let mut node = start(&root, "node", "node");
    node.ready().await;
    let ids = accept(&client, MESSAGES).await;
    node.stop().await;

    assert!(succeeded(&buffer_tool("verify", &data, &[])).starts_with("sound"));
    let (segment, offset) = damage(&data, HIT);
    let verified = buffer_tool("verify", &data, &["--json"]);
    assert_eq!(verified.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    assert_eq!(report["sound"], false);
    assert_eq!(report["corruption"][0]["segment"], segment.as_str());
    assert_eq!(report["corruption"][0]["offset"], offset);
    assert_eq!(report["corruption"][0]["seqs"], json!([HIT, HIT]));
    assert_eq!(report["records"], MESSAGES - 1, "every other record is readable");
    let words = text(&verified.stderr);
    for part in [segment.as_str(), &format!("offset {offset}"), &format!("seq {HIT}")] {
        assert!(words.contains(part), "{part:?} in {words}");
    }
    assert_eq!(lines(&buffer_tool("dump", &data, &[])).len() as u64, MESSAGES - 1);
    let copy = root.join("copy");
    let copy_path = copy.to_str().expect("a plain path");
    succeeded(&buffer_tool("repair", &data, &["--to", copy_path]));
    assert!(succeeded(&buffer_tool("verify", &copy, &[])).starts_with("sound"));

    let mut node = start(&root, "node", "node");
    node.ready().await;
    let gap = node.json("/status").await["gaps"][0].clone();
    assert_eq!(gap["segment"], segment.as_str(), "{gap}");
    assert_eq!(gap["offset"], offset, "{gap}");
    assert_eq!(gap["seqs"], json!([HIT, HIT]), "{gap}");
    assert_eq!(gap["cause"], "damaged", "{gap}");
    let metrics = node.text("/metrics").await;
    assert!(metrics.contains("alys_stream_gaps_total 1"), "{metrics}");

    let mut governance = start(&root, "governance", "governance-1");
    governance.ready().await;
    for (seq, id) in (1..).zip(&ids).filter(|(seq, _)| *seq != HIT) {
        let outcome = client.outcome(*id).await;
        assert_eq!(outcome.state(), OutcomeState::Complete, "{seq}: {}", outcome.reason);
    }
    node.stop().await;
    governance.stop().await;
}

fn dlq(deployment: &Deployment, args: &[&str]) -> Output {
    let node = format!("unix:{}", deployment.root().join("node/node.sock").display());
    run(["dlq", "--node", &node].iter().chain(args))
}

/// Has a message refused for good; its dead letter.
async fn die(deployment: &Deployment, client: &Client) -> (MessageId, Value) {
    deployment.governance[0].misbehave(&json!({"refuse": "terminal"})).await;
    let id = accept(client, 1).await[0];
    let outcome = client.outcome(id).await;
    assert_eq!(outcome.state(), OutcomeState::Failed, "{}", outcome.reason);
    let mut letters = lines(&dlq(deployment, &["list", "--json"]));
    assert_eq!(letters.len(), 1, "{letters:?}");
    deployment.governance[0].misbehave(&json!({"refuse": null})).await;
    (id, letters.remove(0))
}

#[tokio::test]
async fn a_dead_letter_is_seen_and_sent_again_once_the_peer_behaves() {
    let deployment = Deployment::start(1).await;
    let client = deployment.client();
    let (id, letter) = die(&deployment, &client).await;
    assert_eq!(letter["message_id"], id.to_string(), "{letter}");
    assert_eq!(letter["cause"], "refused", "{letter}");
    assert_eq!(letter["kind_name"], "pegin_notification", "{letter}");
    assert_eq!(letter["attempts"][0]["endpoint"], "governance-1", "{letter}");
    let (accepted, tried, died) =
        (&letter["accepted_at_ms"], &letter["attempts"][0]["at_ms"], &letter["died_at_ms"]);
    let times = [accepted, tried, died].map(|time| time.as_u64().expect("a time"));
    assert!(times[0] > 0 && times.is_sorted(), "{letter}");
    assert_eq!(deployment.node.json("/status").await["queues"]["dead_letters"], 1);

    let nothing: [&[&str]; 4] = [
        &["list", "--cause", "expired"],
        &["list", "--endpoint", "governance-2"],
        &["list", "--older-than", "1h"],
        &["list", "--kind", "application"],
    ];
    for filter in nothing {
        assert_eq!(lines(&dlq(&deployment, &[filter, &["--json"]].concat())).len(), 0);
    }
    let all = ["list", "--cause", "refused", "--endpoint", "governance-1", "--newer-than", "1h"];
    assert!(succeeded(&dlq(&deployment, &all)).contains("pegin_notification"));
    let number = letter["id"].to_string();
    let shown = dlq(&deployment, &["show", &number]);
    assert!(succeeded(&shown).contains("payload: "), "{}", text(&shown.stdout));

    let refused = dlq(&deployment, &["purge", "--all"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    assert!(text(&refused.stderr).contains("--yes"), "{refused:?}");
    assert_eq!(dlq(&deployment, &["replay"]).status.code(), Some(2), "which ones?");
    assert_eq!(lines(&dlq(&deployment, &["replay", "--all", "--dry-run", "--json"])).len(), 1);

    let replayed = lines(&dlq(&deployment, &["replay", &number, "--json"]));
    assert_eq!(replayed[0]["result"], "accepted", "{replayed:?}");
    assert!(replayed[0]["seq"].as_u64() > letter["seq"].as_u64(), "{replayed:?}");
    let outcome = client.outcome(id).await;
    assert_eq!(outcome.state(), OutcomeState::Complete, "{}", outcome.reason);
    assert_eq!(lines(&dlq(&deployment, &["list", "--json"])).len(), 0);
    assert_eq!(dlq(&deployment, &["replay", &number]).status.code(), Some(1), "it is gone");
    let ledgers = deployment.stop().await;
    assert_eq!(ledgers[0].get(&id), Some(&1));
}

#[tokio::test]
async fn a_replay_survives_restarts_and_works_offline() {
    let mut deployment = Deployment::start(1).await;
    let client = deployment.client();
    let (id, letter) = die(&deployment, &client).await;
    let data = deployment.root().join("node/data");
    let data = data.to_str().expect("a plain path");
    let number = letter["id"].to_string();
    let busy = run(["dlq", "list", "--dir", data]);
    assert_eq!(busy.status.code(), Some(74), "a node runs there: {busy:?}");

    deployment.node.kill().await;
    let replayed = run(["dlq", "replay", &number, "--dir", data]);
    assert!(text(&replayed.stderr).contains("audit: "), "{replayed:?}");
    assert_eq!(succeeded(&replayed).trim(), "replayed 1");
    assert_eq!(lines(&run(["dlq", "list", "--dir", data, "--json"])).len(), 0);
    deployment.node.restart();
    deployment.node.ready().await;
    let outcome = client.outcome(id).await;
    assert_eq!(outcome.state(), OutcomeState::Complete, "{}", outcome.reason);
    // The end of its second life is what is remembered.
    deployment.node.kill().await;
    deployment.node.restart();
    deployment.node.ready().await;
    assert_eq!(client.outcome(id).await.state(), OutcomeState::Complete);

    let (_, letter) = die(&deployment, &client).await;
    let file = deployment.root().join("letters.jsonl");
    let file = file.to_str().expect("a plain path");
    succeeded(&dlq(&deployment, &["export", "--output", file]));
    let exported = std::fs::read_to_string(file).expect("the file");
    let exported: Value = serde_json::from_str(exported.trim()).expect("one line of JSON");
    let payload = exported["payload"].as_str().expect("its payload");
    assert_eq!(payload.len() as u64, 2 * letter["payload_bytes"].as_u64().expect("its length"));
    let purged = dlq(&deployment, &["purge", "--all", "--yes", "--json"]);
    assert_eq!(lines(&purged), [json!({"purged": 1})]);
    let ledgers = deployment.stop().await;
    assert_eq!(ledgers[0].get(&id), Some(&1));
}
