//! A backlog that does not fit into memory: pages of the index, groups of ids, long summaries.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt as _;

use alys_stream_messaging::{AppendCause, BufferConfig, ReadError};
use alys_stream_protocol::message::{OrderingKey, Priority};
use alys_stream_testkit::segment;
use proptest::prelude::*;

use super::damage::change;
use super::*;

/// A page of the index, groups of 128 ids, no payloads.
pub(crate) fn paged() -> BufferConfig {
    BufferConfig {
        segment_bytes: 64 * 1024,
        payload_cache_bytes: 0,
        index_cache_bytes: 0,
        id_group_messages: 128,
        ..BufferConfig::default()
    }
}

fn of(n: u64, priority: Priority) -> Message {
    let key = n.is_multiple_of(3).then(|| OrderingKey::try_new(n.to_string()).unwrap());
    let deadline = n.is_multiple_of(5).then_some(UnixMillis(NOW.0 + n));
    Message { priority, deadline, ordering_key: key, ..message(n, 50 + n as usize % 90) }
}

pub(crate) fn id_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let is_ids = |path: &str| path.contains("/ids-") && !path.ends_with(".tmp");
    files(dir, "").into_iter().filter(|path| is_ids(path.to_str().unwrap())).collect()
}

async fn append_all(buffer: &Buffer, numbers: std::ops::RangeInclusive<u64>) {
    let messages = numbers.map(|n| of(n, Priority::Normal)).collect();
    let last = buffer.append(NOW, messages).unwrap().last().unwrap().seq;
    buffer.durable(last).await.unwrap();
}

#[tokio::test]
async fn ids_of_full_groups_are_in_files_which_the_log_makes_anew_when_they_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (mut buffer, _) = open(dir.path(), paged());
    append_all(&buffer, 1..=1000).await;
    buffer.settle(&seqs(200..=900));
    for round in 0..2 {
        // Seqs 0 to 895 are in seven full groups.
        until(|| id_files(dir.path()).len() == 7).await;
        let twice = buffer.append(NOW, (1..=1000).map(|n| of(n, Priority::Low)).collect()).unwrap();
        for (n, accepted) in (1..).zip(twice) {
            assert_eq!((accepted.seq, accepted.is_duplicate), (Seq(n), true), "round {round}");
        }
        assert_eq!(buffer.lookup(&message(5000, 0).id), None);
        buffer.close().await;
        drop(buffer);
        // What cannot be read is not believed, and no loss while the log has it.
        let junk = dir.path().join("ids-00000000000000ff");
        fs::write(&junk, b"junk").unwrap();
        fs::write(&id_files(dir.path())[2], b"").unwrap();
        let recovered;
        (buffer, recovered) = open(dir.path(), paged());
        assert_eq!(recovered.ids_lost, 0);
        until(|| !junk.exists()).await;
    }
    append_all(&buffer, 1001..=1002).await;
    assert_eq!(buffer.stat().records(), 301);
}

#[tokio::test]
async fn an_id_that_cannot_be_looked_up_is_not_taken_for_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), paged());
    append_all(&buffer, 1..=300).await;
    until(|| id_files(dir.path()).len() == 2).await;
    for path in id_files(dir.path()) {
        let file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&[0xFF; 3], 1000).unwrap();
    }
    // From then on they are looked up in the files only.
    until(|| buffer.append_one(NOW, of(100, Priority::Normal)).is_err()).await;
    until(|| buffer.append_one(NOW, of(200, Priority::Normal)).is_err()).await;
    let refused = buffer.append_one(NOW, of(100, Priority::Normal)).unwrap_err();
    assert_eq!((refused.cause, refused.messages.len()), (AppendCause::IdsUnreadable, 1));
    assert!(refused.cause.is_backpressure());
    let batch = vec![of(500, Priority::Normal), of(200, Priority::Normal)];
    let refused = buffer.append(NOW, batch.clone()).unwrap_err();
    assert_eq!((refused.cause, refused.messages), (AppendCause::IdsUnreadable, batch), "or none");
    // What cannot be in there needs no look.
    assert_eq!(buffer.append_one(NOW, of(301, Priority::Normal)).unwrap().seq, Seq(301));
    buffer.close().await;
    drop(buffer);
    let (buffer, _) = open(dir.path(), paged());
    assert_eq!(buffer.append_one(NOW, of(100, Priority::Normal)).unwrap().seq, Seq(100));
}

#[tokio::test]
async fn nobody_waits_while_an_id_is_looked_up_in_a_file() {
    use alys_stream_testkit::disk::{Disk, Operation};
    use std::sync::mpsc;
    let disk = Disk::new(1);
    let (buffer, _) = Buffer::open(Path::new("d"), paged(), disk.mount()).unwrap();
    append_all(&buffer, 1..=300).await;
    let (reading, is_reading) = mpsc::channel();
    let (go_on, waits) = mpsc::channel();
    let waits = std::sync::Mutex::new(waits);
    disk.set_hook(Some(Arc::new(move |call| {
        if call.path.to_str().unwrap().contains("/ids-") && call.operation == Operation::Read {
            reading.send(()).unwrap();
            waits.lock().unwrap().recv().unwrap();
        }
    })));
    std::thread::scope(|scope| {
        let again = || buffer.append_one(NOW, of(100, Priority::Normal)).unwrap();
        // As long as it is in memory it is found there.
        let asking = loop {
            let asking = scope.spawn(again);
            while !asking.is_finished() && is_reading.try_recv().is_err() {
                std::thread::yield_now();
            }
            if !asking.is_finished() {
                break asking;
            }
        };
        // Meanwhile others go on, and they may send the same.
        assert_eq!(buffer.append_one(NOW, of(301, Priority::Normal)).unwrap().seq, Seq(301));
        assert_eq!(buffer.lookup(&of(299, Priority::Normal).id), Some(Seq(299)));
        buffer.settle(&seqs([1]));
        go_on.send(()).unwrap();
        assert_eq!(asking.join().unwrap().seq, Seq(100));
    });
}

#[tokio::test]
async fn a_full_disk_keeps_ids_in_memory() {
    use alys_stream_testkit::disk::{Disk, Operation};
    let disk = Disk::new(1);
    let (buffer, _) = Buffer::open(Path::new("d"), paged(), disk.mount()).unwrap();
    append_all(&buffer, 1..=100).await;
    // Files of ids find no space, all others do.
    let filled = disk.clone();
    disk.set_hook(Some(Arc::new(move |call| {
        let is_ids = call.path.to_str().unwrap().contains("/ids-");
        if is_ids && call.operation == Operation::Write {
            filled.set_space(Some(0));
        } else {
            filled.set_space(None);
        }
    })));
    append_all(&buffer, 101..=700).await;
    for n in 1..=700 {
        assert_eq!(buffer.append_one(NOW, of(n, Priority::Low)).unwrap().seq, Seq(n));
    }
    buffer.close().await;
}

#[tokio::test]
async fn groups_go_once_enough_was_settled_after_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = BufferConfig { settled_ids_max: 256, ..paged() };
    let (buffer, _) = open(dir.path(), config);
    append_all(&buffer, 1..=1280).await;
    assert_eq!(buffer.lookup(&message(1, 0).id), Some(Seq(1)));
    // One stays open and keeps its group; those after it go.
    let position = buffer.settle(&seqs((1..=1270).filter(|n| *n != 300)));
    buffer.position_durable(position).await.unwrap();
    assert_eq!(buffer.lookup(&message(1, 0).id), None);
    assert_eq!(buffer.lookup(&message(299, 0).id), Some(Seq(299)));
    assert_eq!(buffer.lookup(&message(600, 0).id), None);
    for n in 1270 - 256 + 1..=1280 {
        assert_eq!(buffer.lookup(&message(n, 0).id), Some(Seq(n)), "among the last 256 settled");
    }
    until(|| id_files(dir.path()).len() <= 4).await;
    assert!(buffer.stat().settled_ids <= 5 * 128);
    // Settled last, whatever its number: remembered, also by the next process.
    let position = buffer.settle(&seqs([300]));
    buffer.position_durable(position).await.unwrap();
    buffer.close().await;
    drop(buffer);
    let (buffer, _) = open(dir.path(), config);
    assert_eq!(buffer.lookup(&message(300, 0).id), Some(Seq(300)));
    assert_eq!(buffer.lookup(&message(1270, 0).id), Some(Seq(1270)));
}

#[tokio::test]
async fn a_critical_message_behind_many_is_found_without_reading_them() {
    let dir = tempfile::tempdir().unwrap();
    let config = BufferConfig { segment_bytes: 1 << 20, ..paged() };
    let (buffer, _) = open(dir.path(), config);
    let low = (1..=20_000).map(|n| of(n, Priority::Low)).collect();
    buffer.append(NOW, low).unwrap();
    let critical = buffer.append_one(NOW, of(30_000, Priority::Critical)).unwrap().seq;
    buffer.durable(critical).await.unwrap();
    let index = Priority::Critical.index();
    let found: Vec<_> = buffer.backlog().filter(|page| page.by_priority[index] != 0).collect();
    let [page] = &found[..] else { panic!("{found:?}") };
    assert_eq!((page.number, page.by_priority[index]), (critical.0 / 128, 1 << (critical.0 % 128)));
    let [Ok(meta)] = &buffer.metas(&[critical])[..] else { panic!("it is there") };
    assert_eq!(*meta, RecordMeta::new(critical, NOW, &of(30_000, Priority::Critical)));
    assert_eq!(buffer.read(critical).unwrap(), Some(of(30_000, Priority::Critical)));
    let deadline = buffer.backlog().next().unwrap().deadline_min;
    assert_eq!(deadline, Some(UnixMillis(NOW.0 + 5)));
    assert_eq!(buffer.backlog().count() as u64, critical.0 / 128 + 1);
}

#[tokio::test]
async fn what_nobody_took_in_time_is_handed_out_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), BufferConfig { segment_bytes: 1 << 22, ..paged() });
    for n in 0..40 {
        append_all(&buffer, n * 1000 + 1..=n * 1000 + 1000).await;
    }
    // The last ones are settled before they are handed out.
    buffer.settle(&seqs(39_990..=40_000));
    let mut next = 1;
    while next < 39_990 {
        for meta in buffer.next_durable().await.unwrap() {
            assert_eq!(meta, RecordMeta::new(Seq(next), NOW, &of(next, Priority::Normal)));
            next += 1;
        }
    }
    append_all(&buffer, 50_000..=50_000).await;
    let seqs: Vec<Seq> = buffer.next_durable().await.unwrap().iter().map(|it| it.seq).collect();
    assert_eq!(seqs, [Seq(40_001)]);
}

#[tokio::test]
async fn a_record_that_is_damaged_while_it_waits_is_an_error_and_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), paged());
    append_all(&buffer, 1..=500).await;
    assert_eq!(buffer.next_durable().await.unwrap().len(), 500);
    let id = message(77, 0).id;
    let (path, at) = files(dir.path(), ".segment")
        .into_iter()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            let at = bytes.windows(16).position(|window| window == id.as_bytes())?;
            Some((path, at))
        })
        .unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(&[1], at as u64).unwrap();
    let all: Vec<Seq> = (0..=600).map(Seq).collect();
    let metas = buffer.metas(&all);
    assert_eq!(metas.len(), 500);
    for (n, meta) in (1..).zip(metas) {
        match meta {
            Ok(meta) => assert_eq!(meta, RecordMeta::new(Seq(n), NOW, &of(n, Priority::Normal))),
            Err(error) => {
                assert_eq!((error.seq, n), (Seq(77), 77));
                assert!(matches!(error.source, ReadError::Damaged { .. }));
            }
        }
    }
    assert!(buffer.read(Seq(77)).is_err());
    assert_eq!(buffer.accepted_at(Seq(77)), None);
    assert!(buffer.is_live(Seq(77)) && !buffer.is_live(Seq(501)) && !buffer.is_live(Seq(0)));
    buffer.settle(&seqs([77]));
    assert_eq!((buffer.read(Seq(77)).unwrap(), buffer.is_live(Seq(77))), (None, false));
}

/// Messages of which every other one is settled: a summary of more than one part.
const RAGGED: u64 = 70_000;

fn long() -> BufferConfig {
    BufferConfig { segment_bytes: 4 << 20, id_group_messages: 65_536, ..paged() }
}

fn odd() -> SeqSet {
    seqs((1..=RAGGED).filter(|seq| seq % 2 == 1))
}

async fn open_ragged(dir: &Path) -> Buffer {
    let (buffer, _) = open(dir, long());
    for first in (1..=RAGGED).step_by(1000) {
        append_all(&buffer, first..=first + 999).await;
    }
    let position = buffer.settle(&odd());
    buffer.position_durable(position).await.unwrap();
    buffer
}

#[tokio::test]
async fn a_ragged_backlog_survives_the_segments_in_which_it_was_settled() {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open_ragged(dir.path()).await;
    // The settlement goes with its segment once a later one has a summary.
    let mut n = RAGGED;
    for _ in 0..40 {
        append_all(&buffer, n + 1..=n + 1000).await;
        buffer.settle(&seqs(n + 1..=n + 1000));
        n += 1000;
    }
    let even: SeqSet = seqs((1..=RAGGED).filter(|seq| seq % 2 == 0));
    assert_eq!(buffer.unsettled(), even);
    buffer.close().await;
    drop(buffer);
    let (buffer, recovered) = open(dir.path(), long());
    assert_eq!(recovered.gaps, []);
    assert_eq!((buffer.next_seq(), buffer.unsettled()), (Seq(n + 1), even));
}

/// The power fails while a segment is begun: of a long summary the later part is there, and the first
/// is not. It says nothing then, and the segments that do stay.
#[tokio::test]
async fn half_of_a_long_summary_counts_as_none() {
    check_half_of_a_summary(false).await;
}

/// The same, where what comes after the summary is there.
#[tokio::test]
async fn half_of_a_long_summary_counts_as_none_whatever_follows() {
    check_half_of_a_summary(true).await;
}

async fn check_half_of_a_summary(is_followed: bool) {
    let dir = tempfile::tempdir().unwrap();
    let buffer = open_ragged(dir.path()).await;
    buffer.close().await;
    drop(buffer);
    let mark = fs::read(dir.path().join("mark")).unwrap();
    let before = files(dir.path(), ".segment");
    let entries = |path: &std::path::PathBuf| segment::entries(&fs::read(path).unwrap());
    let is_said = |path: &_| entries(path).iter().any(|it| it.kind == segment::KIND_SETTLED);
    let said = before.iter().find(|path| is_said(path)).unwrap();
    let (buffer, _) = open(dir.path(), long());
    let mut n = RAGGED;
    let begun = loop {
        append_all(&buffer, n + 1..=n + 1000).await;
        n += 1000;
        let begun = files(dir.path(), ".segment").into_iter().find(|path| {
            let is_summary = |it: &segment::Entry| it.kind == segment::KIND_CHECKPOINT;
            !before.contains(path) && entries(path).iter().filter(|it| is_summary(it)).count() == 4
        });
        if let Some(begun) = begun {
            break begun;
        }
    };
    buffer.close().await;
    drop(buffer);
    // What was written last did not become durable, and nobody was told that it had.
    change(&begun, |bytes| {
        for entry in segment::entries(bytes) {
            let is_summary = entry.kind == segment::KIND_CHECKPOINT;
            let is_lost = if is_summary { entry.key == 0 } else { !is_followed };
            if is_lost {
                bytes[entry.offset..][..entry.bytes].fill(0);
            }
        }
    });
    fs::write(dir.path().join("mark"), mark).unwrap();
    for start in 0..3 {
        let (buffer, recovered) = open(dir.path(), long());
        assert!(recovered.gaps.iter().all(|gap| gap.seqs.is_none()), "{:?}", recovered.gaps);
        let odd = odd();
        let is_right = |seq| buffer.is_settled(Seq(seq)) == odd.contains(Seq(seq));
        assert!((1..=1000).all(is_right), "start {start}");
        // What says so is needed for nothing else then.
        let position = buffer.settle(&seqs(1001..=n));
        buffer.position_durable(position).await.unwrap();
        assert!(stays(said).await, "start {start}");
        buffer.close().await;
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(u64),
    /// So many, from a place in the backlog on, every so many.
    Settle(usize, usize, usize),
    /// Sent again, whatever became of it.
    Again(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..200_u64).prop_map(Step::Append),
        5 => (0..600_usize, 1..150_usize, 1..5_usize)
            .prop_map(|(place, count, every)| Step::Settle(place, count, every)),
        3 => any::<u64>().prop_map(Step::Again),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn pages_and_groups_behave_like_a_map(
        steps in prop::collection::vec(step(), 1..25),
        pages in 0..4_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(steps, BufferConfig { index_cache_bytes: pages * 20_000, ..paged() }));
    }
}

async fn check(steps: Vec<Step>, config: BufferConfig) {
    let dir = tempfile::tempdir().unwrap();
    let (mut buffer, _) = open(dir.path(), long());
    let priority = |n: u64| Priority::from_index((n % 4) as u8).unwrap();
    let mut live = BTreeSet::new();
    let mut next = 1;
    for step in steps {
        match step {
            Step::Append(count) => {
                let messages = (next..next + count).map(|n| of(n, priority(n))).collect();
                let accepted = buffer.append(NOW, messages).unwrap();
                assert!(accepted.iter().all(|accepted| !accepted.is_duplicate));
                live.extend(next..next + count);
                next += count;
                buffer.durable(Seq(next - 1)).await.unwrap();
            }
            Step::Settle(place, count, every) => {
                let chosen: Vec<u64> =
                    live.iter().skip(place).step_by(every).take(count).copied().collect();
                buffer.settle(&seqs(chosen.iter().copied()));
                live.retain(|seq| !chosen.contains(seq));
            }
            Step::Again(choice) => {
                let n = choice % next.max(2);
                if n > 0 && n < next {
                    let again = buffer.append_one(NOW, of(n, Priority::Low)).unwrap();
                    assert_eq!((again.seq, again.is_duplicate), (Seq(n), true));
                }
            }
            Step::Reopen => {
                buffer.close().await;
                drop(buffer);
                (buffer, _) = open(dir.path(), config);
            }
        }
        assert_eq!(buffer.unsettled(), seqs(live.iter().copied()));
        let mut counts = BTreeMap::new();
        for meta in metas(&buffer) {
            let n = meta.seq.0;
            assert_eq!(meta, RecordMeta::new(Seq(n), NOW, &of(n, priority(n))));
            *counts.entry(meta.priority.index()).or_insert(0) += 1;
        }
        let stat = buffer.stat();
        for (index, class) in stat.unsettled.iter().enumerate() {
            assert_eq!(class.records, counts.get(&index).copied().unwrap_or(0));
            assert_eq!(class.bytes == 0, class.records == 0);
        }
        assert_eq!(stat.oldest.map(|(seq, at)| (seq.0, at)), live.first().map(|seq| (*seq, NOW)));
    }
}
