//! A damaged buffer: found, named, started on, reported and repaired.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use alys_stream_messaging::dead_letter::{DeadLetter, DeadLetterConfig, DeadLetters};
use alys_stream_messaging::outbox::Cause;
use alys_stream_messaging::storage::FileStorage;
use alys_stream_protocol::message::{LogId, Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::{SystemClock, WallClock as _};
use alys_stream_tests::deployment::{admin_of, mint};
use alys_stream_tests::output::{lines, succeeded, text};
use alys_stream_tests::process::{Served, run};
use alys_stream_tests::submission::{Client, accept_one_by_one};
use serde_json::{Value, json};

/// Messages in the buffer that is damaged, and the one that is hit.
const MESSAGES: u64 = 40;
const HIT: u64 = 20;

fn buffer_tool(what: &str, data: &Path, options: &[&str]) -> Output {
    let mut args = vec!["buffer", what, data.to_str().expect("a plain path")];
    args.extend(options);
    run(args)
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

/// On a copy of the data directory, so that the damage is still there afterwards.
fn repairs_in_place_when_told_to(data: &Path, other: &Path) {
    std::fs::create_dir_all(other.join("buffer")).expect("a new folder");
    for entry in std::fs::read_dir(data.join("buffer")).expect("a buffer") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("its name");
        std::fs::copy(&path, other.join("buffer").join(name)).expect("a copy");
    }
    assert_eq!(buffer_tool("repair", other, &[]).status.code(), Some(2), "in place, or where to?");
    assert_eq!(buffer_tool("verify", other, &[]).status.code(), Some(1), "it is as it was");
    succeeded(&buffer_tool("repair", other, &["--in-place"]));
    assert!(succeeded(&buffer_tool("verify", other, &[])).starts_with("sound"));
    assert!(other.join("buffer.damaged").is_dir(), "what was damaged is kept");

    let parse = |output: &Output| -> Value {
        serde_json::from_str(succeeded(output)).expect("one JSON object")
    };
    let before = parse(&buffer_tool("stat", other, &["--json"]));
    assert_eq!(before["unsettled"]["records"], MESSAGES - 1, "{before}");
    assert_eq!(before["oldest"]["seq"], 1, "{before}");
    let adopted = parse(&buffer_tool("adopt", other, &["--json"]));
    assert_eq!(adopted["former_log_id"], before["log_id"], "{adopted}");
    let after = parse(&buffer_tool("stat", other, &["--json"]));
    assert_eq!(adopted["log_id"], after["log_id"], "{adopted}");
    assert_ne!(after["log_id"], before["log_id"], "a new identity");
}

#[tokio::test]
async fn a_damaged_record_is_named_reported_and_costs_no_other() {
    let folder = mint(1);
    let root = folder.path().join("d");
    let data = root.join("node/data");
    let client = Client::new(root.join("node/node.sock"));
    let mut node = start(&root, "node", "node");
    node.ready().await;
    let ids = accept_one_by_one(&client, MESSAGES).await;
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
    repairs_in_place_when_told_to(&data, &root.join("other"));
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
    assert!(metrics.contains("alys_stream_corruptions_total 1"), "{metrics}");

    let mut governance = start(&root, "governance", "governance-1");
    governance.ready().await;
    for (seq, id) in (1..).zip(&ids).filter(|(seq, _)| *seq != HIT) {
        let outcome = client.outcome(*id).await;
        assert_eq!(outcome.state(), OutcomeState::Complete, "{seq}: {}", outcome.reason);
    }
    node.stop().await;
    governance.stop().await;
}

/// Stores three dead letters, and flips a bit of the payload of the second one.
async fn damage_dead_letters(dir: &Path) {
    const HIT: &[u8] = b"the one that is hit";
    let opened = DeadLetters::open(dir, DeadLetterConfig::default(), Arc::new(FileStorage));
    let (letters, _) = opened.expect("dead letters");
    for (seq, payload) in (1..).map(Seq).zip([b"the one before it", HIT, b"the one behind it"]) {
        let now = SystemClock.now();
        let message = Message {
            id: MessageId::mint(),
            kind: MessageKind(1000),
            priority: Priority::Normal,
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload: payload.into(),
        };
        let (_, position) = letters.put(&DeadLetter {
            log: LogId::new([9; 16]),
            seq,
            message,
            accepted_at: now,
            died_at: now,
            cause: Cause::Expired,
            attempts: Vec::new(),
            error_chain: Vec::new(),
        });
        letters.durable(position).await.expect("a disk");
    }
    letters.close().await;
    for entry in std::fs::read_dir(dir).expect("dead letters") {
        let path = entry.expect("a file").path();
        let mut bytes = std::fs::read(&path).expect("its bytes");
        if let Some(at) = bytes.windows(HIT.len()).position(|window| window == HIT) {
            bytes[at + HIT.len() / 2] ^= 1;
            std::fs::write(&path, bytes).expect("other bytes");
            return;
        }
    }
    panic!("no dead letter to hit in {}", dir.display());
}

#[tokio::test]
async fn a_damaged_dead_letter_is_in_the_status_and_the_metrics() {
    let folder = mint(1);
    let root = folder.path().join("d");
    damage_dead_letters(&root.join("node/data/dead_letters")).await;
    let mut node = start(&root, "node", "node");
    node.ready().await;
    let status = node.json("/status").await;
    let gap = &status["store_gaps"][0];
    assert_eq!(gap["store"], "dead_letters", "{gap}");
    assert_eq!(gap["segment"], "0000000000000001", "{gap}");
    assert!(gap["offset"].as_u64() > Some(0), "{gap}");
    assert_eq!((&gap["entries_lost"], &gap["cause"]), (&json!(1), &json!("damaged")), "{gap}");
    assert_eq!(status["queues"]["dead_letters"], 2, "the others are there: {status}");
    let metrics = node.text("/metrics").await;
    assert!(metrics.contains("alys_stream_corruptions_total 1"), "{metrics}");
    let page = run(["status", "--admin", &admin_of(&root.join("node/node.yaml"))]);
    let page = succeeded(&page);
    let row = page.lines().find(|line| line.contains("dead_letters  ")).unwrap_or_default();
    assert!(page.contains("store_gaps") && row.contains("0000000000000001"), "{page}");
    node.stop().await;
}
