//! Filters, pages, and what a crash in the middle of a replay leaves.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use alys_stream_messaging::buffer::BufferConfig;
use alys_stream_messaging::dead_letter::{DeadAttempt, DeadLetterConfig};
use alys_stream_messaging::outbox::Cause;
use alys_stream_messaging::storage::FileStorage;
use alys_stream_protocol::governance::{
    ProposalNotification, ProposalType, StreamResponse, stream_response::Payload,
};
use alys_stream_protocol::message::{LogId, MessageId, MessageKind, Priority};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_testkit::disk::{Call, Disk, Operation};
use bytes::Bytes;
use prost::Message as _;

use super::*;

const NOW: UnixMillis = UnixMillis(1_000_000);

fn message(number: u8) -> Message {
    Message {
        id: MessageId::new([number; 16]),
        kind: MessageKind(1000 + u32::from(number)),
        priority: Priority::High,
        deadline: Some(NOW),
        ordering_key: None,
        traceparent: None,
        payload: Bytes::from(vec![number; 100]),
    }
}

fn letter(log: LogId, number: u8, cause: Cause) -> DeadLetter {
    DeadLetter {
        log,
        seq: Seq(u64::from(number)),
        message: message(number),
        accepted_at: NOW,
        died_at: UnixMillis(NOW.0 + u64::from(number)),
        cause,
        attempts: vec![DeadAttempt {
            endpoint: format!("gov-{}", number % 2),
            at: NOW,
            code: 1,
            text: "no".into(),
        }],
        error_chain: Vec::new(),
    }
}

fn open(dir: &Path) -> (Buffer, DeadLetters) {
    let storage = Arc::new(FileStorage);
    let buffer = Buffer::open(&dir.join("buffer"), BufferConfig::default(), storage.clone());
    let letters = DeadLetters::open(&dir.join("dead"), DeadLetterConfig::default(), storage);
    (buffer.unwrap().0, letters.unwrap().0)
}

async fn put(letters: &DeadLetters, log: LogId, numbers: std::ops::RangeInclusive<u8>) {
    let mut last = None;
    for number in numbers {
        let cause = if number % 3 == 0 {
            Cause::TimedOut { may_have_been_seen: true }
        } else {
            Cause::Refused { code: 7, text: "never".into() }
        };
        last = Some(letters.put(&letter(log, number, cause)).1);
    }
    letters.durable(last.unwrap()).await.unwrap();
}

fn ids(page: &LettersPage) -> Vec<u64> {
    page.letters.iter().map(|(id, _)| id.0).collect()
}

#[tokio::test]
async fn a_filter_names_those_for_which_all_of_it_holds() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, letters) = open(dir.path());
    put(&letters, buffer.log_id(), 1..=9).await;
    let bounds = PageBounds { after: None, count_max: 100, bytes_max: usize::MAX };
    let check = |filter: LetterFilter, expected: &[u64]| {
        assert_eq!(ids(&page(&letters, &filter, bounds)), expected, "{filter:?}");
    };
    let all = LetterFilter::default;
    check(all(), &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    check(LetterFilter { cause: Some(CauseKind::TimedOut), ..all() }, &[3, 6, 9]);
    check(LetterFilter { kind: Some("1004".into()), ..all() }, &[4]);
    check(LetterFilter { kind: Some("pegin_notification".into()), ..all() }, &[]);
    check(LetterFilter { endpoint: Some("gov-0".into()), ..all() }, &[2, 4, 6, 8]);
    let (from, to) = (Some(UnixMillis(NOW.0 + 3)), Some(UnixMillis(NOW.0 + 6)));
    check(LetterFilter { died_after: from, died_before: to, ..all() }, &[3, 4, 5]);
}

#[test]
fn an_audit_line_stays_short() {
    let ids = |numbers: Vec<u64>| numbers.into_iter().map(DeadLetterId).collect::<Vec<_>>();
    assert_eq!(in_words(&ids(vec![9, 3, 5, 6, 7, 8])), "3, 5-9");
    let many = in_words(&ids((0..1000).map(|number| 2 * number + 1).collect()));
    assert!(many.ends_with("127, … (1000 in all)"), "{many}");
}

#[tokio::test]
async fn pages_join_to_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, letters) = open(dir.path());
    put(&letters, buffer.log_id(), 1..=9).await;
    for bytes_max in [usize::MAX, 0] {
        let mut bounds = PageBounds { after: None, count_max: 4, bytes_max };
        let mut seen = Vec::new();
        loop {
            let page = page(&letters, &LetterFilter::default(), bounds);
            assert_eq!(page.total, 9);
            seen.extend(ids(&page));
            bounds.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(seen, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}

#[tokio::test]
async fn a_replay_cut_short_by_a_crash_accepts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, letters) = open(dir.path());
    buffer.append(NOW, vec![message(1), message(2)]).unwrap();
    buffer.durable(Seq(2)).await.unwrap();
    put(&letters, buffer.log_id(), 1..=2).await;
    let settled = buffer.settle(&[Seq(1), Seq(2)].into_iter().collect());
    buffer.position_durable(settled).await.unwrap();
    // Accepted again and durable, but the letter is not removed: what a crash leaves.
    let again = buffer.replay(NOW, message(1), Seq(1)).unwrap();
    assert_eq!((again.seq, again.is_duplicate), (Seq(3), false));
    buffer.durable(Seq(3)).await.unwrap();
    drop((buffer, letters));

    let storage = Arc::new(FileStorage);
    let opened = Buffer::open(&dir.path().join("buffer"), BufferConfig::default(), storage);
    let (buffer, recovered) = opened.unwrap();
    assert_eq!(recovered.replayed.into_iter().collect::<Vec<_>>(), [(Seq(3), Seq(1))]);
    assert_eq!(buffer.read(Seq(3)).unwrap(), Some(message(1)));
    drop(buffer);
    let (buffer, letters) = open(dir.path());
    let replayed = replay(
        &buffer,
        &letters,
        &[DeadLetterId(1), DeadLetterId(2), DeadLetterId(3)],
        |message, from| buffer.replay(NOW, message, from).map_err(|error| error.to_string()),
    )
    .await
    .unwrap();
    let expected = [
        (DeadLetterId(1), Replayed::AlreadyAccepted(Seq(3))),
        (DeadLetterId(2), Replayed::Accepted(Seq(4))),
        (DeadLetterId(3), Replayed::Missing),
    ];
    assert_eq!(replayed, expected);
    assert_eq!(letters.stat().count, 0);
    assert_eq!(buffer.stat().records(), 2);
}

#[tokio::test]
async fn what_is_refused_stays_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, letters) = open(dir.path());
    put(&letters, buffer.log_id(), 1..=1).await;
    let replayed = replay(&buffer, &letters, &[DeadLetterId(1)], |_, _| Err("full".into()));
    let expected = [(DeadLetterId(1), Replayed::Refused("full".into()))];
    assert_eq!(replayed.await.unwrap(), expected);
    assert_eq!(letters.stat().count, 1);
    assert_eq!(purge(&buffer, &letters, &[DeadLetterId(1), DeadLetterId(8)]).await.unwrap(), 1);
    assert_eq!(letters.stat().count, 0);
}

/// The last of four letters cannot be read; `mend` happens when it is looked at once more.
async fn page_after(mend: impl Fn(&Disk, &DeadLetters) + Send + Sync + 'static) -> LettersPage {
    let disk = Disk::new(1);
    let opened = DeadLetters::open(Path::new("dead"), DeadLetterConfig::default(), disk.mount());
    let letters = opened.unwrap().0;
    put(&letters, LogId::new([1; 16]), 1..=4).await;
    flip(&disk);
    let (device, store, reads) = (disk.clone(), letters.clone(), AtomicU32::new(0));
    disk.set_hook(Some(Arc::new(move |call: &Call| {
        if call.operation == Operation::Read && reads.fetch_add(1, Ordering::SeqCst) == 1 {
            mend(&device, &store);
        }
    })));
    let after = Some(DeadLetterId(3));
    let bounds = PageBounds { after, count_max: 100, bytes_max: usize::MAX };
    let page = page(&letters, &LetterFilter::default(), bounds);
    disk.set_hook(None);
    page
}

/// Flips a bit of the payload of the fourth letter.
fn flip(disk: &Disk) {
    let place = disk.paths().into_iter().find_map(|path| {
        let bytes = disk.cached_file(&path)?;
        let payload = |bytes: &[u8]| bytes[1..] == [4; 99];
        Some((bytes.windows(100).position(payload)?, path))
    });
    let (at, path) = place.unwrap();
    assert!(disk.flip_bit(&path, at, 0));
}

#[tokio::test]
async fn a_letter_that_is_read_after_all_or_removed_meanwhile_ends_no_list() {
    let damaged = page_after(|_, _| {}).await;
    assert_eq!((ids(&damaged), damaged.unreadable), (vec![], vec![DeadLetterId(4)]));
    let readable = page_after(|disk, _| flip(disk)).await;
    assert_eq!((ids(&readable), readable.unreadable), (vec![4], vec![]));
    let removed = page_after(|_, store| _ = store.purge(&[DeadLetterId(4)])).await;
    assert_eq!((ids(&removed), removed.unreadable, removed.next), (vec![], vec![], None));
}

/// What governance pushed is no message to governance.
#[tokio::test]
async fn what_governance_pushed_is_not_accepted_into_the_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, letters) = open(dir.path());
    let proposal = ProposalNotification {
        proposal_id: "prop-1".into(),
        proposal_type: ProposalType::Upgrade.into(),
        proposal_data: vec![7; 8].into(),
        voting_deadline: 3600,
        required_votes: 2,
    };
    let payload = Some(Payload::ProposalNotification(proposal));
    let pushed = StreamResponse { metadata: None, payload }.encode_to_vec();
    let mut pushed = Message { payload: pushed.into(), ..message(1) };
    pushed.kind = MessageKind::PROPOSAL_NOTIFICATION;
    let log = LogId::new([9; 16]);
    let pushed = DeadLetter { message: pushed, ..letter(log, 1, Cause::Expired) };
    letters.durable(letters.put(&pushed).1).await.unwrap();
    put(&letters, log, 2..=2).await;
    let both = [DeadLetterId(1), DeadLetterId(2)];
    let accept = |message, from| {
        let accepted = buffer.replay(NOW, message, from);
        accepted.map_err(|error| error.to_string())
    };
    let replayed = replay(&buffer, &letters, &both, accept).await.unwrap();
    let expected = [
        (DeadLetterId(1), Replayed::Refused(PUSHED.to_owned())),
        (DeadLetterId(2), Replayed::Accepted(Seq(1))),
    ];
    assert_eq!(replayed, expected);
    assert_eq!(buffer.read(Seq(1)).unwrap(), Some(message(2)));
    assert_eq!(buffer.next_seq(), Seq(2));
    assert_eq!(letters.list(None, 10).unwrap(), [(DeadLetterId(1), pushed)]);
}
