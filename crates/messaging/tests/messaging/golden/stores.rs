//! The entries of the stores beside the buffer: what was written once is written the same and read.

use std::future::Future;

use alys_stream_messaging::dead_letter::{DeadAttempt, DeadLetterConfig, DeadLetterId};
use alys_stream_messaging::inbox::{InboxConfig, InboxRecord};
use alys_stream_messaging::outcome::OutcomeConfig;
use alys_stream_messaging::refusals::{EndpointHistory, RefusalConfig, Standing};
use alys_stream_messaging::{
    Attempt, Cause, DeadLetter, DeadLetters, History, Inbox, Outcomes, Refusals,
};
use alys_stream_protocol::message::{Epoch, LogId, Settled};

use super::*;

const DEAD_LETTERS: &[u8] = include_bytes!("../../../testdata/dead-letters-v1.bin");
const INBOX: &[u8] = include_bytes!("../../../testdata/inbox-v1.bin");
const OUTCOMES: &[u8] = include_bytes!("../../../testdata/outcomes-v1.bin");
const REFUSALS: &[u8] = include_bytes!("../../../testdata/refusals-v1.bin");

const LOG: LogId = LogId::new([0x44; 16]);
const SEGMENT_BYTES: u64 = 8192;

/// A directory of the log of the golden files, with this segment if there is one.
fn directory(segment: Option<&[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("identity"), IDENTITY).unwrap();
    if let Some(segment) = segment {
        let mut segment = segment.to_vec();
        segment.resize(SEGMENT_BYTES as usize, 0);
        fs::write(dir.path().join("0000000000000001.segment"), segment).unwrap();
    }
    dir
}

/// Lets `write` fill a new log and compares its segment. Golden files go without the zeros at the
/// end.
async fn assert_written<F: Future<Output = ()>>(
    golden: &[u8],
    write: impl FnOnce(std::path::PathBuf) -> F,
) {
    let dir = directory(None);
    write(dir.path().to_path_buf()).await;
    let written = fs::read(dir.path().join("0000000000000001.segment")).unwrap();
    let written = regrouped(&written, false);
    let (begun, rest) = written.split_at(golden.len());
    let differs = begun.iter().zip(golden).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first difference");
    assert!(rest.iter().all(|byte| *byte == 0));
}

fn letters(dir: &Path) -> DeadLetters {
    let config = DeadLetterConfig { segment_bytes: SEGMENT_BYTES, ..Default::default() };
    DeadLetters::open(dir, config, Arc::new(FileStorage)).unwrap().0
}

fn letter(seq: u64, message: Message, cause: Cause) -> DeadLetter {
    let (endpoint, text) = ("gov-1".into(), "no".into());
    DeadLetter {
        log: LOG,
        seq: Seq(seq),
        message,
        accepted_at: NOW,
        died_at: UnixMillis(NOW.0 + 5),
        cause,
        attempts: vec![DeadAttempt { endpoint, at: NOW, code: 7, text }],
        error_chain: vec!["refused".into(), "by policy".into()],
    }
}

fn all_letters() -> [DeadLetter; 3] {
    [
        letter(1, first(), Cause::Refused { code: 9, text: "never".into() }),
        letter(2, second(), Cause::TimedOut { may_have_been_seen: true }),
        letter(3, message(3, 10), Cause::Expired),
    ]
}

#[tokio::test]
async fn dead_letters() {
    assert_written(DEAD_LETTERS, async |dir| {
        let letters = letters(&dir);
        for letter in &all_letters() {
            letters.put(letter);
        }
        letters.purge(&[DeadLetterId(3)]);
        letters.close().await;
    })
    .await;
    let dir = directory(Some(DEAD_LETTERS));
    let letters = letters(dir.path());
    let [refused, timed_out, _] = all_letters();
    let expected = vec![(DeadLetterId(1), refused), (DeadLetterId(2), timed_out)];
    assert_eq!(letters.list(None, 10).unwrap(), expected);
    assert_eq!(letters.put(&letter(4, message(4, 10), Cause::Expired)).0, DeadLetterId(4));
}

#[tokio::test]
async fn the_inbox() {
    let open = |dir: &Path| {
        let config = InboxConfig { segment_bytes: SEGMENT_BYTES, ..Default::default() };
        Inbox::open(dir, config, Arc::new(FileStorage)).unwrap()
    };
    assert_written(INBOX, async |dir| {
        let (inbox, _) = open(&dir);
        inbox.admit(LOG, Epoch(4).into(), Seq(1)).unwrap();
        let record = |seq, message| InboxRecord { seq: Seq(seq), message };
        let records = vec![record(1, first()), record(2, second()), record(5, message(5, 10))];
        let receipt = inbox.receive(LOG, records);
        inbox.handled(&[receipt.fresh[0].id]);
        inbox.forget(LOG, Settled { below: Seq(2), count: 2 }, &seqs([5]));
        inbox.close().await;
    })
    .await;
    let dir = directory(Some(INBOX));
    let (inbox, unhandled) = open(dir.path());
    let found: Vec<_> = unhandled.into_iter().map(|it| (it.sender, it.seq, it.message)).collect();
    assert_eq!(found, [(LOG, Seq(2), second()), (LOG, Seq(5), message(5, 10))]);
    let cursor = inbox.cursor(LOG);
    assert_eq!((cursor.highest_seen, cursor.admitted), (Seq(5), Epoch(4).into()));
}

#[tokio::test]
async fn outcomes() {
    let open = |dir: &Path| {
        let config = OutcomeConfig { segment_bytes: SEGMENT_BYTES, ..Default::default() };
        Outcomes::open(dir, config, Arc::new(FileStorage)).unwrap().0
    };
    let (one, two) = (MessageId::new([0x22; 16]), MessageId::new([0x33; 16]));
    assert_written(OUTCOMES, async |dir| {
        let outcomes = open(&dir);
        outcomes.put(one, "signed".into());
        outcomes.put(two, "failed".into());
        outcomes.close().await;
    })
    .await;
    let dir = directory(Some(OUTCOMES));
    let outcomes = open(dir.path());
    assert_eq!(outcomes.get(&one).unwrap(), Some("signed".into()));
    assert_eq!(outcomes.get(&two).unwrap(), Some("failed".into()));
}

fn history() -> History {
    let towards = |endpoint: &str, standing| EndpointHistory {
        endpoint: endpoint.into(),
        refusals: 3,
        standing,
    };
    let (endpoint, text) = ("gov-1".into(), "later".into());
    History {
        endpoints: vec![
            towards("gov-1", Standing::Waiting { due: UnixMillis(NOW.0 + 9) }),
            towards("gov-2", Standing::Final),
        ],
        attempts: vec![Attempt { endpoint, at: NOW, code: 5, text }],
    }
}

#[tokio::test]
async fn refusals() {
    let open = |dir: &Path| {
        let config = RefusalConfig { segment_bytes: SEGMENT_BYTES, ..Default::default() };
        // Those of settled messages are not kept.
        let is_live = |seq| seq == Seq(1);
        Refusals::open(dir, config, Arc::new(FileStorage), LOG, &is_live).unwrap().0
    };
    assert_written(REFUSALS, async |dir| {
        let refusals = open(&dir);
        refusals.put(Seq(1), &history());
        refusals.put(Seq(2), &history());
        refusals.close().await;
    })
    .await;
    let dir = directory(Some(REFUSALS));
    let refusals = open(dir.path());
    assert_eq!(refusals.history(Seq(1)).unwrap(), history());
    assert!(refusals.history(Seq(2)).unwrap().is_empty());
}
