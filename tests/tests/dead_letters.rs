//! Dead letters: seen, sent again and removed, on a running node and offline, each action written
//! down.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use alys_stream_messaging::dead_letter::{DeadLetter, DeadLetterConfig, DeadLetters};
use alys_stream_messaging::outbox::Cause;
use alys_stream_messaging::storage::FileStorage;
use alys_stream_messaging::{Buffer, BufferConfig};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::{SystemClock, WallClock as _};
use alys_stream_tests::deployment::Deployment;
use alys_stream_tests::output::{lines, succeeded, text};
use alys_stream_tests::process::run;
use alys_stream_tests::submission::{Client, accept_one_by_one};
use alys_stream_tests::{load, terminal};
use serde_json::{Value, json};

fn dlq(deployment: &Deployment, args: &[&str]) -> Output {
    let node = format!("unix:{}", deployment.root().join("node/node.sock").display());
    run(["dlq", "--node", &node].iter().chain(args))
}

/// Has a message refused for good; its dead letter.
async fn die(deployment: &Deployment, client: &Client) -> (MessageId, Value) {
    deployment.governance[0].misbehave(&json!({"refuse": "terminal"})).await;
    let id = accept_one_by_one(client, 1).await[0];
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
async fn a_purge_asks_first_and_every_action_is_written_down() {
    let mut deployment = Deployment::start(1).await;
    let client = deployment.client();
    let (_, letter) = die(&deployment, &client).await;
    let (node, number) = (deployment.node_address(), letter["id"].to_string());
    let purge = ["dlq", "--node", &node, "purge", "--all"];
    for (typed, code, says) in
        [("n\n", 1, "nothing was removed"), ("y\n", 0, "removed 1 dead letters")]
    {
        let shown = terminal::run(purge, typed);
        assert_eq!(shown.code, Some(code), "{shown:?}");
        assert!(shown.screen.contains("Remove 1 dead letters for good? [y/N]"), "{shown:?}");
        assert!(shown.screen.contains(says), "{shown:?}");
    }
    let again = dlq(&deployment, &["purge", "--yes", &number]);
    assert_eq!(again.status.code(), Some(1), "it is gone: {again:?}");

    let (_, letter) = die(&deployment, &client).await;
    let number = letter["id"].to_string();
    succeeded(&dlq(&deployment, &["show", &number]));
    succeeded(&dlq(&deployment, &["export"]));
    succeeded(&dlq(&deployment, &["replay", &number]));
    deployment.node.kill().await;
    let log = std::fs::read_to_string(deployment.root().join("node/node.log")).expect("a log");
    for action in ["list", "show", "export", "replay", "purge", "choose"] {
        let is_it = |line: &&str| {
            line.contains("alys_stream::audit") && line.contains(&format!("action=\"{action}\""))
        };
        assert!(log.lines().find(is_it).is_some(), "no line for {action} in {log}");
    }

    let data = deployment.root().join("node/data");
    let path = data.to_str().expect("a plain path");
    run(["dlq", "--dir", path, "list", "--cause", "evicted"]);
    run(["dlq", "--dir", path, "export"]);
    run(["dlq", "--dir", path, "purge", "--all", "--yes"]);
    run(["dlq", "--dir", path, "show", "1"]);
    let audit = std::fs::read_to_string(data.join("audit.log")).expect("an audit log");
    let expected = [
        "action=list which=\"cause evicted\"",
        "action=export which=\"all\"",
        "action=choose which=\"all\"",
        "action=show which=\"1\"",
    ];
    for action in expected {
        assert!(audit.contains(action), "{action} in {audit}");
    }
}

#[tokio::test]
async fn a_message_past_its_deadline_is_a_dead_letter_with_its_trace() {
    let mut deployment = Deployment::start(1).await;
    deployment.governance[0].kill().await;
    let client = deployment.client();
    let id = MessageId::mint();
    let trace_id = "0af7651916cd43dd8448eb211c80319c";
    let mut message = load::application(&mut fastrand::Rng::with_seed(17), id);
    message.deadline_ms = i64::try_from(SystemClock.now().0 + 200).expect("a time");
    message.traceparent = format!("00-{trace_id}-b7ad6b7169203331-01");
    client.submit(vec![message]).await.expect("accepted");
    let outcome = client.outcome(id).await;
    assert_eq!(outcome.state(), OutcomeState::TimedOut, "{}", outcome.reason);
    let node = dlq(&deployment, &["list", "--cause", "expired", "--kind", "1000", "--json"]);
    let letters = lines(&node);
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0]["message_id"], id.to_string(), "{letters:?}");
    assert_eq!(letters[0]["trace_id"], trace_id, "{letters:?}");
    assert_eq!(letters[0]["attempts"], json!([]), "it was never sent: {letters:?}");
    assert!(letters[0]["errors"][0].is_string(), "{letters:?}");
    let shown = dlq(&deployment, &["show", &letters[0]["id"].to_string()]);
    assert!(succeeded(&shown).contains(trace_id), "{shown:?}");
}

/// More than a few are replayed with a bar that says how far it is.
#[tokio::test]
async fn a_long_replay_shows_how_far_it_is() {
    let deployment = Deployment::start(1).await;
    let client = deployment.client();
    deployment.governance[0].misbehave(&json!({"refuse": "terminal"})).await;
    let mut rng = fastrand::Rng::with_seed(13);
    let ids: Vec<_> = (0..300).map(|_| MessageId::mint()).collect();
    let batch = ids.iter().map(|id| load::application(&mut rng, *id)).collect();
    client.submit(batch).await.expect("accepted");
    for id in &ids {
        assert_eq!(client.outcome(*id).await.state(), OutcomeState::Failed);
    }
    deployment.governance[0].misbehave(&json!({"refuse": null})).await;
    let node = deployment.node_address();
    let shown = terminal::run(["dlq", "--node", &node, "replay", "--all"], "");
    assert_eq!(shown.code, Some(0), "{shown:?}");
    assert!(shown.screen.contains("/300 replayed"), "{shown:?}");
    assert!(shown.screen.contains("replayed 300"), "{shown:?}");
    for id in &ids {
        assert_eq!(client.outcome(*id).await.state(), OutcomeState::Complete);
    }
    let ledgers = deployment.stop().await;
    assert!(ids.iter().all(|id| ledgers[0].get(id) == Some(&1)));
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

/// A buffer in a data directory.
fn buffer(data: &Path) -> Buffer {
    let opened = Buffer::open(&data.join("buffer"), BufferConfig::default(), Arc::new(FileStorage));
    opened.expect("a buffer").0
}

/// What a crash between a dead letter and the settlement of its message leaves: both.
async fn leave_half_dead(data: &Path) -> (MessageId, Seq) {
    let (buffer, now) = (buffer(data), SystemClock.now());
    let message = Message {
        id: MessageId::mint(),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: vec![7; 32].into(),
    };
    let accepted = buffer.append_one(now, message.clone()).expect("room");
    buffer.durable(accepted.seq).await.expect("a disk");
    let letters = data.join("dead_letters");
    let letters = DeadLetters::open(&letters, DeadLetterConfig::default(), Arc::new(FileStorage));
    let (letters, _) = letters.expect("dead letters");
    let id = message.id;
    let (_, position) = letters.put(&DeadLetter {
        log: buffer.log_id(),
        seq: accepted.seq,
        message,
        accepted_at: now,
        died_at: now,
        cause: Cause::Refused { code: 7, text: "never".into() },
        attempts: Vec::new(),
        error_chain: Vec::new(),
    });
    letters.durable(position).await.expect("a disk");
    letters.close().await;
    buffer.close().await;
    (id, accepted.seq)
}

#[tokio::test]
async fn a_message_that_a_crash_left_half_dead_is_replayed_offline() {
    let dir = tempfile::tempdir().expect("a folder");
    leave_half_dead(dir.path()).await;
    let data = dir.path().to_str().expect("a plain path");
    assert_eq!(succeeded(&run(["dlq", "replay", "--all", "--dir", data])).trim(), "replayed 1");
    let buffer = buffer(dir.path());
    assert!(buffer.is_settled(Seq(1)), "its first life is over");
    assert!(buffer.is_live(Seq(2)), "and its second one is not");
    buffer.close().await;
}

#[tokio::test]
async fn a_message_that_a_crash_left_half_dead_stays_dead_when_its_letter_is_purged_offline() {
    let mut deployment = Deployment::start(1).await;
    deployment.node.kill().await;
    let data = deployment.root().join("node/data");
    let (id, _) = leave_half_dead(&data).await;
    let data = data.to_str().expect("a plain path");
    let purged = run(["dlq", "purge", "--all", "--yes", "--json", "--dir", data]);
    assert_eq!(lines(&purged), [json!({"purged": 1})]);

    deployment.node.restart();
    deployment.node.ready().await;
    let outcome = deployment.client().outcome(id).await;
    assert_eq!(outcome.state(), OutcomeState::Failed, "{}", outcome.reason);
    assert_eq!(outcome.reason, "refused with code 7: never");
    assert_eq!(lines(&dlq(&deployment, &["list", "--json"])).len(), 0);
    let ledgers = deployment.stop().await;
    assert_eq!(ledgers[0].get(&id), None, "it was sent");
}

/// The buffer alone knows whose letters may go.
#[tokio::test]
async fn nothing_is_purged_offline_without_the_buffer() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, seq) = leave_half_dead(dir.path()).await;
    let data = dir.path().to_str().expect("a plain path");
    let refused = |says: &str| {
        let purged = run(["dlq", "purge", "--all", "--yes", "--dir", data]);
        assert_eq!(purged.status.code(), Some(74), "{purged:?}");
        assert!(text(&purged.stderr).contains(says), "{says} in {purged:?}");
        assert_eq!(lines(&run(["dlq", "list", "--json", "--dir", data])).len(), 1);
    };
    let held = buffer(dir.path());
    refused("is in use by another process");
    assert!(held.is_live(seq));
    held.close().await;
    drop(held);
    let (folder, aside) = (dir.path().join("buffer"), dir.path().join("aside"));
    std::fs::rename(&folder, &aside).expect("moved away");
    refused("no buffer");
    assert!(!folder.exists(), "none is made");
    std::fs::rename(&aside, &folder).expect("brought back");
    succeeded(&run(["dlq", "purge", "--all", "--yes", "--dir", data]));
    assert!(buffer(dir.path()).is_settled(seq));
}
