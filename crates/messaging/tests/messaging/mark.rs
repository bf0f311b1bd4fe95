//! The mark: damage to what was written last is no torn tail, and no number is given twice.

use std::fs;

use alys_stream_messaging::log::{GapCause, OnCorruption};
use alys_stream_messaging::tools::{self, Inspection};
use alys_stream_messaging::{BufferConfig, DeadLetters, OpenError};
use alys_stream_testkit::disk::{Crash, Disk};

use super::damage::{assert_all_but, change, fill, find};
use super::*;

fn mark(dir: &Path) -> std::path::PathBuf {
    dir.join("mark")
}

fn inspect(dir: &Path) -> Inspection {
    tools::inspect(dir, &FileStorage).unwrap()
}

fn halting() -> BufferConfig {
    BufferConfig { on_corruption: OnCorruption::Halt, ..small() }
}

fn newest_segment(dir: &Path) -> std::path::PathBuf {
    // The last one with a record of a small log is not the one that was prepared ahead.
    let is_begun = |path: &std::path::PathBuf| fs::read(path).unwrap()[..8] == *b"ALYSSEGM";
    files(dir, ".segment").into_iter().rfind(is_begun).unwrap()
}

#[tokio::test]
async fn damage_to_the_newest_records_is_a_gap_and_their_numbers_are_not_given_again() {
    type Damage = fn(&mut Vec<u8>, usize);
    let damages: [(Damage, u64); 5] = [
        (|bytes, last| bytes[last + 70] ^= 1, 40),
        (|bytes, last| bytes[last] ^= 1, 40),
        // The last three, each of 280 bytes.
        (|bytes, last| bytes[last - 2 * 280..].fill(0), 38),
        (|bytes, last| bytes[last - 2 * 280 + 7..last + 280].fill(0xA5), 38),
        (|bytes, last| bytes.truncate(last - 2 * 280 + 50), 38),
    ];
    for (case, (damage, first)) in damages.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 40).await;
        let (path, at) = find(dir.path(), 40);
        let last = at - 44 - 32;
        change(&path, |bytes| damage(bytes, last));
        let offset = last as u64 - (40 - first) * 280;

        let found = inspect(dir.path());
        let [corruption] = &found.corruption[..] else { panic!("{case}: {found:?}") };
        assert!(!found.is_sound() && found.next_seq == Seq(41), "{case}: {found:?}");
        let seqs = Some(Seq(first)..=Seq(40));
        // Of a file that was cut off, what is left, up to where an entry may begin.
        let bytes = if case == 4 { 56 } else { (41 - first) * 280 };
        let found = (corruption.offset, corruption.bytes, corruption.seqs.clone());
        assert_eq!(found, (offset, bytes, seqs.clone()), "{case}");
        assert_eq!(corruption.path.as_ref(), Some(&path));

        let error = Buffer::open(dir.path(), halting(), Arc::new(FileStorage)).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt { offset: at, .. } if at == offset), "{error}");

        let lost: Vec<u64> = (first..=40).collect();
        let recovered = assert_all_but(dir.path(), 40, &lost);
        let [gap] = &recovered.gaps[..] else { panic!("{case}: {:?}", recovered.gaps) };
        assert_eq!((gap.cause, gap.seqs.clone()), (GapCause::Damaged, seqs), "{case}");
        assert_eq!((gap.offset, gap.bytes, gap.is_known), (offset, bytes, false));
        assert_eq!(recovered.torn_tail, None, "{case}");
        let kept = fs::metadata(&files(dir.path(), ".quarantine")[0]).unwrap().len();
        assert_eq!(kept, if case == 4 { 50 } else { bytes });

        // From now on as any other damage: known, in its place, and nothing new is lost.
        for n in 41..=43 {
            let (buffer, recovered) = open(dir.path(), small());
            assert!(recovered.gaps.iter().all(|gap| gap.is_known && gap.offset == offset));
            assert_eq!(recovered.gaps.len(), 1, "{case}, {n}");
            let accepted = buffer.append_one(NOW, message(n, 200)).unwrap();
            assert_eq!((accepted.seq, accepted.is_duplicate), (Seq(n), false), "{case}");
            buffer.close().await;
        }
        assert_all_but(dir.path(), 43, &lost);
    }
}

#[tokio::test]
async fn a_settlement_that_is_damaged_hides_no_numbers() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 10).await;
    let (buffer, _) = open(dir.path(), small());
    for n in 1..=5 {
        let position = buffer.settle(&seqs([n]));
        buffer.position_durable(position).await.unwrap();
    }
    buffer.close().await;
    drop(buffer);
    let (path, at) = find(dir.path(), 10);
    change(&path, |bytes| bytes[at + 204..].fill(0));
    let (buffer, recovered) = open(dir.path(), small());
    let [gap] = &recovered.gaps[..] else { panic!("{:?}", recovered.gaps) };
    assert_eq!((gap.seqs.clone(), gap.bytes), (None, 5 * 56));
    assert_eq!((buffer.next_seq(), buffer.stat().records()), (Seq(11), 10), "delivered once more");
}

#[tokio::test]
async fn a_missing_newest_segment_is_a_gap() {
    for is_emptied in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 150).await;
        let path = newest_segment(dir.path());
        let lost: Vec<u64> = (1..=150).filter(|n| find(dir.path(), *n).0 == path).collect();
        assert!(lost.len() > 3 && lost[lost.len() - 1] == 150, "{lost:?}");
        let cause = if is_emptied {
            let bytes = fs::metadata(&path).unwrap().len();
            fs::write(&path, vec![0; bytes as usize]).unwrap();
            GapCause::Damaged
        } else {
            fs::remove_file(&path).unwrap();
            GapCause::Missing
        };
        let seqs = Some(Seq(lost[0])..=Seq(150));
        let found = inspect(dir.path());
        let [corruption] = &found.corruption[..] else { panic!("{found:?}") };
        assert_eq!((corruption.cause, corruption.path.as_ref()), (cause, Some(&path)));
        assert_eq!((corruption.seqs.clone(), found.next_seq), (seqs.clone(), Seq(151)));

        let error = Buffer::open(dir.path(), halting(), Arc::new(FileStorage)).unwrap_err();
        assert!(matches!(&error, OpenError::Missing { path: of } if *of == path), "{error}");

        let recovered = assert_all_but(dir.path(), 150, &lost);
        let [gap] = &recovered.gaps[..] else { panic!("{:?}", recovered.gaps) };
        assert_eq!((gap.cause, gap.seqs.clone()), (cause, seqs));
        assert!(path.to_str().unwrap().contains(&gap.segment.to_string()));
        assert!(newest_segment(dir.path()) > path, "its number is not given again");
        assert_eq!(assert_all_but(dir.path(), 150, &lost).gaps, [], "settled as a gap");
        let (buffer, _) = open(dir.path(), small());
        assert_eq!(buffer.append_one(NOW, message(151, 200)).unwrap().seq, Seq(151));
        // What the other segments say is settled is summarised before they go.
        for n in 152..=600 {
            buffer.append_one(NOW, message(n, 200)).unwrap();
            buffer.durable(Seq(n)).await.unwrap();
        }
        buffer.settle(&seqs_between(1, 590));
        until(|| files(dir.path(), ".segment").len() <= 5).await;
        buffer.close().await;
        drop(buffer);
        let (buffer, recovered) = open(dir.path(), small());
        assert_eq!((recovered.gaps.len(), buffer.next_seq()), (0, Seq(601)));
        assert_eq!(buffer.settled_below(), Seq(591));
    }
}

fn seqs_between(first: u64, last: u64) -> SeqSet {
    seqs(first..=last)
}

#[tokio::test]
async fn all_segments_gone_leave_the_numbers() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150).await;
    files(dir.path(), ".segment").iter().for_each(|path| fs::remove_file(path).unwrap());
    let (buffer, recovered) = open(dir.path(), small());
    assert!(!recovered.is_created);
    assert_eq!(buffer.append_one(NOW, message(1, 200)).unwrap().seq, Seq(151));
    let lost = recovered.gaps.iter().filter_map(|gap| gap.seqs.clone()).next();
    assert_eq!(lost, Some(Seq(1)..=Seq(150)));
    assert_eq!(buffer.stat().records(), 1);
}

#[tokio::test]
async fn a_mark_is_written_once_a_new_segment_is_durable_and_an_old_one_is_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), small());
    buffer.append_one(NOW, message(1, 200)).unwrap();
    until(|| mark(dir.path()).exists()).await;
    let first = fs::read(mark(dir.path())).unwrap();
    for n in 2..=150 {
        buffer.append_one(NOW, message(n, 200)).unwrap();
        buffer.durable(Seq(n)).await.unwrap();
    }
    let segment = |bytes: &[u8]| u64::from_le_bytes(bytes[32..40].try_into().unwrap());
    until(|| fs::read(mark(dir.path())).is_ok_and(|now| segment(&now) > segment(&first))).await;
    buffer.close().await;
    drop(buffer);
    fs::write(mark(dir.path()), &first).unwrap();
    assert!(inspect(dir.path()).is_sound());
    let recovered = assert_all_but(dir.path(), 150, &[]);
    assert_eq!((recovered.gaps.len(), recovered.torn_tail), (0, None));
    assert_ne!(fs::read(mark(dir.path())).unwrap(), first);
    // Behind an old mark an entry at the end may always be one that was not finished.
    fs::write(mark(dir.path()), &first).unwrap();
    let (path, at) = find(dir.path(), 150);
    change(&path, |bytes| bytes[at] ^= 1);
    let (buffer, recovered) = open(dir.path(), small());
    assert_eq!((recovered.gaps.len(), buffer.next_seq()), (0, Seq(150)));
    assert!(recovered.torn_tail.is_some());
}

#[tokio::test]
async fn a_mark_that_is_damaged_or_of_another_log_counts_for_nothing() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(other.path(), 200).await;
    fill(dir.path(), 40).await;
    // A log is closed before its last mark is written, and marked when it is opened again.
    let next_seq = |bytes: &[u8]| bytes.get(48..56) == Some(&41_u64.to_le_bytes());
    let (buffer, _) = open(dir.path(), small());
    until(|| fs::read(mark(dir.path())).is_ok_and(|now| next_seq(&now))).await;
    drop(buffer);
    let whole = fs::read(mark(dir.path())).unwrap();
    assert_eq!(whole.len(), 64);
    let mut flipped = whole.clone();
    flipped[41] ^= 0x80;
    let foreign = fs::read(mark(other.path())).unwrap();
    for bytes in [flipped, foreign, Vec::new(), whole[..63].to_vec()] {
        fs::write(mark(dir.path()), bytes).unwrap();
        assert!(inspect(dir.path()).is_sound());
        assert_eq!(assert_all_but(dir.path(), 40, &[]).gaps, []);
        // And is replaced, by a thread beside.
        let (buffer, _) = open(dir.path(), small());
        until(|| fs::read(mark(dir.path())).is_ok_and(|now| now == whole)).await;
        drop(buffer);
    }
    let newer = change_version(&whole);
    fs::write(mark(dir.path()), newer).unwrap();
    let error = Buffer::open(dir.path(), small(), Arc::new(FileStorage)).unwrap_err();
    assert!(matches!(error, OpenError::NewerVersion { found: 2, .. }), "{error}");
}

fn change_version(whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..60]).to_le_bytes();
    bytes[60..64].copy_from_slice(&crc);
    bytes
}

#[tokio::test]
async fn an_adopted_and_a_repaired_buffer_know_how_far_they_got() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 40).await;
    // Damaged, and adopted before anyone opened it.
    let (path, at) = find(dir.path(), 40);
    change(&path, |bytes| bytes[at] ^= 1);
    let to = dir.path().join("repaired");
    assert_eq!(tools::repair(dir.path(), &to, &FileStorage).unwrap().records, 39);
    let adopted = tools::adopt(dir.path(), &FileStorage).unwrap();
    assert_eq!(adopted.next_seq, Seq(41));
    for place in [dir.path(), &to] {
        let (buffer, recovered) = open(place, small());
        let lost = recovered.gaps.iter().filter_map(|gap| gap.seqs.clone()).next();
        assert_eq!(lost, (place != to).then_some(Seq(40)..=Seq(40)));
        assert_eq!(buffer.next_seq(), Seq(41));
        drop(buffer);
        let (path, at) = find(place, 39);
        if place == to {
            // The last one of the copy.
            change(&path, |bytes| bytes[at] ^= 1);
            let (buffer, recovered) = open(place, small());
            let lost = recovered.gaps.iter().filter_map(|gap| gap.seqs.clone()).next();
            assert_eq!((lost, buffer.next_seq()), (Some(Seq(39)..=Seq(39)), Seq(41)));
        }
    }
}

#[tokio::test]
async fn the_stores_beside_the_buffer_notice_it_too() {
    use alys_stream_messaging::dead_letter::DeadLetterId;
    use alys_stream_messaging::{Cause, DeadLetter};
    use alys_stream_protocol::message::LogId;

    let dir = tempfile::tempdir().unwrap();
    let open = || DeadLetters::open(dir.path(), Default::default(), Arc::new(FileStorage)).unwrap();
    let letter = |n: u64| DeadLetter {
        log: LogId::new([3; 16]),
        seq: Seq(n),
        message: message(n, 300),
        accepted_at: NOW,
        died_at: NOW,
        cause: Cause::Expired,
        attempts: Vec::new(),
        error_chain: Vec::new(),
    };
    let (letters, _) = open();
    for n in 1..=3 {
        letters.put(&letter(n));
    }
    letters.close().await;
    drop(letters);
    let path = &files(dir.path(), ".segment")[0];
    let id = message(3, 0).id;
    change(path, |bytes| {
        let at = bytes.windows(16).position(|window| window == id.as_bytes()).unwrap();
        bytes[at] ^= 1;
    });
    let (letters, recovery) = open();
    let [gap] = &recovery.gaps[..] else { panic!("{:?}", recovery.gaps) };
    assert_eq!((gap.cause, gap.is_known, recovery.torn_tail), (GapCause::Damaged, false, None));
    assert_eq!(gap.positions.map(|(first, last)| (first.0, last.0)), Some((3, 3)));
    assert_eq!(letters.stat().count, 2);
    assert_eq!(letters.put(&letter(9)).0, DeadLetterId(4), "the third one is not given again");
}

/// Processes that are all killed: what each of them found is marked by it, and damage to that is none
/// to a write that was never finished.
#[tokio::test]
async fn what_a_start_found_is_marked_however_its_process_ends() {
    let (dir, disk) = (Path::new("data"), Disk::new(1));
    let marked = || {
        let mark = disk.cached_file(&dir.join("mark")).unwrap_or_default();
        mark.get(48..56).map_or(0, |key| u64::from_le_bytes(key.try_into().unwrap()))
    };
    for n in 1..=3 {
        let (buffer, recovered) = Buffer::open(dir, small(), disk.mount()).unwrap();
        assert_eq!((recovered.gaps.len(), recovered.torn_tail), (0, None));
        until(|| n == 1 || marked() == n).await;
        assert_eq!(buffer.append_one(NOW, message(n, 200)).unwrap().seq, Seq(n));
        buffer.durable(Seq(n)).await.unwrap();
        disk.crash(Crash::Kill);
    }
    // One that accepts nothing.
    let (buffer, _) = Buffer::open(dir, small(), disk.mount()).unwrap();
    until(|| marked() == 4).await;
    disk.crash(Crash::Kill);
    drop(buffer);

    let segment = dir.join("0000000000000001.segment");
    let bytes = disk.cached_file(&segment).unwrap();
    let id = message(3, 0).id;
    let at = bytes.windows(16).position(|window| window == id.as_bytes()).unwrap();
    assert!(disk.flip_bit(&segment, at + 60, 1));
    let storage = disk.mount();
    let found = tools::inspect(dir, &*storage).unwrap();
    assert!(!found.is_sound() && found.next_seq == Seq(4), "{found:?}");
    let (buffer, recovered) = Buffer::open(dir, small(), storage).unwrap();
    let [gap] = &recovered.gaps[..] else { panic!("{:?}", recovered.gaps) };
    assert_eq!((gap.seqs.clone(), recovered.torn_tail), (Some(Seq(3)..=Seq(3)), None));
    assert_eq!(buffer.append_one(NOW, message(5, 200)).unwrap().seq, Seq(4), "never twice");
    buffer.close().await;
}
