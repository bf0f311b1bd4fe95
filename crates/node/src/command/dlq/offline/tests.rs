//! What is refused on a directory that no node has, and what is written down.

use alys_stream_messaging::dead_letter::DeadLetter;
use alys_stream_messaging::outbox::Cause;
use alys_stream_messaging::tools;
use alys_stream_protocol::governance::{
    ProposalNotification, ProposalType, StreamResponse, stream_response::Payload,
};
use alys_stream_protocol::message::{LogId, Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::time::UnixMillis;
use clap::Parser;
use prost::Message as _;

use super::super::source::Source;
use super::super::which::Which;
use super::*;

/// The payload of the record that is damaged, and of no other.
const HIT: &[u8] = b"the one that is hit";

fn message(payload: &[u8]) -> Message {
    Message {
        id: MessageId::mint(),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: payload.to_vec().into(),
    }
}

/// What governance pushed.
fn pushed() -> Message {
    let proposal = ProposalNotification {
        proposal_id: "prop-1".into(),
        proposal_type: ProposalType::Upgrade.into(),
        proposal_data: vec![7; 8].into(),
        voting_deadline: 3600,
        required_votes: 2,
    };
    let payload = Some(Payload::ProposalNotification(proposal));
    let response = StreamResponse { metadata: None, payload };
    let kind = MessageKind::PROPOSAL_NOTIFICATION;
    Message { kind, ..message(&response.encode_to_vec()) }
}

fn buffer(dir: &Path) -> Buffer {
    let config = BufferConfig::default();
    Buffer::open(&dir.join(BUFFER), config, Arc::new(FileStorage)).unwrap().0
}

/// A data directory with three messages in the buffer, and these dead letters of another log.
async fn data_dir(letters: Vec<Message>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let buffer = buffer(dir.path());
    let payloads = [b"the one before it", HIT, b"the one behind it"];
    let now = UnixMillis(1_000_000);
    buffer.append(now, payloads.map(message).to_vec()).unwrap();
    buffer.durable(Seq(3)).await.unwrap();
    buffer.close().await;
    let path = dir.path().join(DEAD_LETTERS);
    let opened = DeadLetters::open(&path, DeadLetterConfig::default(), Arc::new(FileStorage));
    let store = opened.unwrap().0;
    for (seq, message) in (1..).map(Seq).zip(letters) {
        let (_, position) = store.put(&DeadLetter {
            log: LogId::new([9; 16]),
            seq,
            message,
            accepted_at: now,
            died_at: now,
            cause: Cause::Expired,
            attempts: Vec::new(),
            error_chain: Vec::new(),
        });
        store.durable(position).await.unwrap();
    }
    store.close().await;
    dir
}

/// Flips a bit of what is to be hit.
fn flip(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mut file = std::fs::read(&path).unwrap();
        if let Some(at) = file.windows(HIT.len()).position(|window| window == HIT) {
            file[at + HIT.len() / 2] ^= 1;
            return std::fs::write(&path, file).unwrap();
        }
    }
    panic!("nothing to hit in {}", dir.display());
}

fn audit(dir: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(dir.join("audit.log")).unwrap();
    let action = |line: &str| line.split_once(' ').unwrap().1.to_owned();
    text.lines().map(action).collect()
}

async fn replay(dir: &Path, ids: &[u64]) -> Result<Vec<ReplayedLetter>, Failure> {
    let mut offline = Offline::open(dir)?;
    let mut all = Vec::new();
    let mut progress = |replayed: Vec<ReplayedLetter>| {
        all.extend(replayed);
        Ok(())
    };
    let replayed = offline.replay(ids, &mut progress).await;
    offline.close().await;
    replayed.map(|()| all)
}

async fn purge(dir: &Path, ids: &[u64]) -> Result<u64, Failure> {
    let mut offline = Offline::open(dir)?;
    let purged = offline.purge(ids).await;
    offline.close().await;
    purged
}

#[tokio::test]
async fn what_governance_pushed_is_refused_and_stays() {
    let dir = data_dir(vec![pushed(), message(b"ours")]).await;
    let dir = dir.path();
    let replayed = replay(dir, &[1, 2]).await.unwrap();
    assert_eq!(replayed[0].result(), ReplayResult::Refused, "{replayed:?}");
    assert!(replayed[0].reason.contains("while that runs"), "{replayed:?}");
    assert_eq!((replayed[1].result(), replayed[1].seq), (ReplayResult::Accepted, 4));
    let (buffer, offline) = (buffer(dir), Offline::open(dir).unwrap());
    assert_eq!(buffer.next_seq(), Seq(5), "one was accepted");
    let page = offline.page(ListDeadLettersRequest::default()).unwrap();
    assert_eq!(page.letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), [1]);
    let lines = audit(dir);
    assert_eq!(lines[0], r#"action=replay begun=true dead_letters="1-2""#);
    assert!(
        lines[1].starts_with(r#"action=replay dead_letter=1 refused="governance"#),
        "{lines:?}"
    );
    assert_eq!(lines[2], "action=replay dead_letter=2 seq=4");
    offline.close().await;
    buffer.close().await;
}

#[tokio::test]
async fn a_buffer_with_damage_that_nobody_was_told_of_is_not_touched() {
    let dir = data_dir(vec![message(b"ours")]).await;
    let dir = dir.path();
    flip(&dir.join(BUFFER));
    let found = || tools::inspect(&dir.join(BUFFER), &FileStorage).unwrap();
    let before = found();
    assert_eq!(before.lost.first(), Some(Seq(2)));
    for refused in [replay(dir, &[1]).await.map(drop), purge(dir, &[1]).await.map(drop)] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.exit(), Exit::Other, "as `buffer verify`");
        for part in ["damaged in 1 places", "seq 2)", "buffer verify", "start the node"] {
            assert!(refused.to_string().contains(part), "{part}: {refused}");
        }
    }
    assert_eq!(found(), before, "nothing was written");
    let lines = audit(dir);
    assert_eq!(lines[0], r#"action=replay begun=true dead_letters="1""#);
    assert!(lines[1].starts_with(r#"action=replay done=0 dead_letters="1" error="#), "{lines:?}");
    assert!(lines[3].starts_with(r#"action=purge done=0 dead_letters="1" error="#), "{lines:?}");

    // The next start finds it, and reports it.
    let opened = Buffer::open(&dir.join(BUFFER), BufferConfig::default(), Arc::new(FileStorage));
    let (started, recovered) = opened.unwrap();
    assert_eq!(recovered.gaps[0].seqs, Some(Seq(2)..=Seq(2)));
    assert!(!recovered.gaps[0].is_known);
    started.close().await;
    let replayed = replay(dir, &[1]).await.unwrap();
    assert_eq!((replayed[0].result(), replayed[0].seq), (ReplayResult::Accepted, 4));
}

#[tokio::test]
async fn nothing_is_changed_that_cannot_be_written_down() {
    let dir = data_dir(vec![message(b"ours")]).await;
    let dir = dir.path();
    std::fs::create_dir(dir.join("audit.log")).unwrap();
    let epoch = || tools::inspect(&dir.join(BUFFER), &FileStorage).unwrap().epoch;
    let before = epoch();
    for refused in [replay(dir, &[1]).await.map(drop), purge(dir, &[1]).await.map(drop)] {
        assert!(refused.unwrap_err().to_string().contains("audit.log"));
    }
    assert_eq!(epoch(), before, "the buffer was not opened");
    std::fs::remove_dir(dir.join("audit.log")).unwrap();
    assert_eq!(purge(dir, &[1]).await.unwrap(), 1);
    let lines = audit(dir);
    let expected = [
        r#"action=purge begun=true dead_letters="1""#,
        r#"action=purge purged=1 dead_letters="1""#,
    ];
    assert_eq!(lines, expected);
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    which: Which,
}

#[tokio::test]
async fn a_letter_that_cannot_be_read_is_purged_with_all_others_and_not_by_a_filter() {
    let letters = [b"one".as_slice(), HIT, b"three", b"four"].map(message).to_vec();
    let dir = data_dir(letters).await;
    let mut source = Source::Dir(Box::new(Offline::open(dir.path()).unwrap()));
    // From then on the store is open, and damage is found when a letter is read.
    assert_eq!(source.purge(&[4]).await.unwrap(), 1);
    flip(&dir.path().join(DEAD_LETTERS));
    for (words, is_for_removal, expected) in [
        (["dlq", "--all"].as_slice(), true, [1, 3, 2].as_slice()),
        (&["dlq", "--all"], false, &[1, 3]),
        (&["dlq", "--cause", "expired"], true, &[1, 3]),
    ] {
        let which = Line::parse_from(words).which;
        assert_eq!(which.ids(&mut source, is_for_removal).await.unwrap(), expected, "{words:?}");
    }
    assert_eq!(source.purge(&[1, 3, 2]).await.unwrap(), 3);
    source.close().await;
}

#[tokio::test]
async fn damage_in_the_store_that_is_opened_to_change_it_is_written_down() {
    let dir = data_dir(vec![message(b"one"), message(HIT), message(b"three")]).await;
    flip(&dir.path().join(DEAD_LETTERS));
    assert_eq!(purge(dir.path(), &[1, 2, 3]).await.unwrap(), 2, "the second one is lost");
    let lines = audit(dir.path());
    assert_eq!(lines[0], r#"action=purge begun=true dead_letters="1-3""#);
    let place = "action=open store=dead_letters damaged=true segment=0000000000000001 offset=";
    assert!(lines[1].starts_with(place) && lines[1].ends_with("entries_lost=1"), "{lines:?}");
    assert_eq!(lines[2], r#"action=purge purged=2 dead_letters="1-3""#);
}

/// Every file with its bytes.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    files.sort();
    files
}

#[tokio::test]
async fn looking_writes_nothing_into_the_store_and_needs_no_buffer() {
    let dir = data_dir(vec![message(b"one"), message(HIT), message(b"three")]).await;
    let letters = dir.path().join(DEAD_LETTERS);
    std::fs::remove_dir_all(dir.path().join(BUFFER)).unwrap();
    let list = || {
        let offline = Offline::open(dir.path()).unwrap();
        let page = offline.page(ListDeadLettersRequest::default()).unwrap();
        (page.letters.iter().map(|letter| letter.id).collect::<Vec<_>>(), page.total)
    };
    let before = contents(&letters);
    assert_eq!(list(), (vec![1, 2, 3], 3));
    assert_eq!(contents(&letters), before);
    // What is damaged is left for a start to report.
    flip(&letters);
    let before = contents(&letters);
    assert_eq!(list(), (vec![1, 3], 2));
    assert_eq!(contents(&letters), before);
    let open = || DeadLetters::open(&letters, DeadLetterConfig::default(), Arc::new(FileStorage));
    let (store, found) = open().unwrap();
    assert!(!found.gaps[0].is_known, "{found:?}");
    let refused = Offline::open(dir.path()).unwrap_err();
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    store.close().await;
}
