//! Ids of settled messages are known as long as they should be, however large the messages were
//! and however often the process starts anew.

use std::fs;
use std::path::PathBuf;

use alys_stream_messaging::{BufferConfig, tools};
use alys_stream_testkit::disk::{Crash, Disk, Operation};

use super::damage::change;
use super::paging::{id_files, paged};
use super::*;

/// Segments of a few messages, and groups of many segments.
fn large() -> BufferConfig {
    BufferConfig { segment_bytes: 16 * 1024, ..paged() }
}

const BYTES: usize = 3000;

/// Appends messages of some kilobytes each and settles them, a few at a time.
async fn pass(buffer: &Buffer, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let seq = buffer.append_one(NOW, message(n, BYTES)).unwrap().seq;
        buffer.durable(seq).await.unwrap();
        let position = buffer.settle(&seqs([seq.0]));
        buffer.position_durable(position).await.unwrap();
    }
}

/// Sends messages again, which must have their seqs.
fn assert_known(buffer: &Buffer, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let again = buffer.append_one(NOW, message(n, BYTES)).unwrap();
        assert_eq!((again.seq, again.is_duplicate), (Seq(n), true));
    }
}

/// The newest one, the next one, and some that were never needed.
const SEGMENTS_FEW: usize = 6;

async fn few_segments(dir: &Path) {
    until(|| files(dir, ".segment").len() <= SEGMENTS_FEW).await;
}

#[tokio::test]
async fn they_outlive_their_segments_whatever_the_messages_weigh() {
    let dir = tempfile::tempdir().unwrap();
    let (mut buffer, _) = open(dir.path(), large());
    pass(&buffer, 1..=500).await;
    for round in 0..3 {
        few_segments(dir.path()).await;
        buffer.close().await;
        drop(buffer);
        let recovered;
        (buffer, recovered) = open(dir.path(), large());
        assert_eq!((recovered.gaps.len(), recovered.ids_lost), (0, 0));
        assert_eq!(buffer.next_seq(), Seq(501 + round * 7));
        assert_known(&buffer, 1..=500 + round * 7);
        pass(&buffer, 501 + round * 7..=507 + round * 7).await;
    }
}

#[tokio::test]
async fn the_size_of_groups_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), large());
    pass(&buffer, 1..=300).await;
    few_segments(dir.path()).await;
    buffer.close().await;
    drop(buffer);
    for id_group_messages in [256, 1024, 128, 384] {
        let (buffer, recovered) = open(dir.path(), BufferConfig { id_group_messages, ..large() });
        assert_eq!(recovered.ids_lost, 0);
        assert_known(&buffer, 1..=300);
        // Only files of that size are left.
        let size = format!("-{id_group_messages:08x}");
        until(|| id_files(dir.path()).iter().all(|it| it.to_str().unwrap().ends_with(&size))).await;
        assert_known(&buffer, 1..=300);
        buffer.close().await;
    }
}

#[tokio::test]
async fn those_of_long_ago_are_forgotten_however_often_the_process_starts() {
    let dir = tempfile::tempdir().unwrap();
    let config = BufferConfig { settled_ids_max: 256, ..large() };
    let mut next = 1_u64;
    for _ in 0..15 {
        let (buffer, _) = open(dir.path(), config);
        let known = next.saturating_sub(256).max(1);
        assert_known(&buffer, known..=next - 1);
        pass(&buffer, next..=next + 89).await;
        next += 90;
        few_segments(dir.path()).await;
        // Those of the last 256, one that is not full, and one that was not finished before them.
        until(|| id_files(dir.path()).len() <= 5).await;
        buffer.close().await;
    }
    let (buffer, _) = open(dir.path(), config);
    assert_eq!(buffer.lookup(&message(1, 0).id), None);
    assert!(!buffer.append_one(NOW, message(1, BYTES)).unwrap().is_duplicate, "long ago");
}

#[tokio::test]
async fn one_that_was_settled_last_is_known_whatever_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let config = BufferConfig { settled_ids_max: 128, ..large() };
    let (buffer, _) = open(dir.path(), config);
    buffer.append_one(NOW, message(1, BYTES)).unwrap();
    pass(&buffer, 2..=600).await;
    buffer.settle(&seqs([1]));
    pass(&buffer, 601..=640).await;
    few_segments(dir.path()).await;
    buffer.close().await;
    drop(buffer);
    for _ in 0..2 {
        let (buffer, _) = open(dir.path(), config);
        assert_eq!(buffer.lookup(&message(1, 0).id), Some(Seq(1)));
        assert_eq!(buffer.lookup(&message(300, 0).id), None);
        assert_known(&buffer, 520..=640);
        drop(buffer);
    }
}

#[tokio::test]
async fn a_damaged_file_costs_what_is_in_it_and_no_unsettled_id() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), large());
    // One in the first group stays, and in the second.
    for n in [1, 2] {
        buffer.append_one(NOW, message(n, BYTES)).unwrap();
    }
    pass(&buffer, 3..=200).await;
    let open_ones = [1, 2, buffer.append_one(NOW, message(201, BYTES)).unwrap().seq.0];
    pass(&buffer, 202..=400).await;
    until(|| files(dir.path(), ".segment").len() <= 2 + SEGMENTS_FEW).await;
    buffer.close().await;
    drop(buffer);
    let found = id_files(dir.path());
    assert!(found.len() >= 3, "{found:?}");
    change(&found[0], |bytes| bytes[100] ^= 1);
    let (buffer, recovered) = open(dir.path(), large());
    assert!((100..=127).contains(&recovered.ids_lost), "{}", recovered.ids_lost);
    assert_eq!(recovered.gaps, []);
    for n in open_ones {
        assert_known(&buffer, n..=n);
    }
    assert_known(&buffer, 128..=400);
    let again = buffer.append_one(NOW, message(50, BYTES)).unwrap();
    assert_eq!((again.seq, again.is_duplicate), (Seq(401), false), "forgotten");
    buffer.close().await;
    drop(buffer);
    // Once: the file was made anew of what was left.
    let (buffer, recovered) = open(dir.path(), large());
    assert_eq!(recovered.ids_lost, 0);
    assert_known(&buffer, 128..=400);
}

/// Flips a byte of a message's record.
fn damage(dir: &Path, n: u64) {
    let wanted = message(n, BYTES).payload;
    let at = |path: &PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes.windows(wanted.len()).position(|window| window == wanted)
    };
    let found = files(dir, ".segment").into_iter().find_map(|path| Some((at(&path)?, path)));
    let (at, path) = found.expect("it is in a segment");
    change(&path, |bytes| bytes[at + 100] ^= 1);
}

#[tokio::test]
async fn what_is_lost_is_not_taken_for_delivered_because_a_file_has_its_id() {
    // Its group is the newest one, and a full one.
    for last in [100, 200] {
        let dir = tempfile::tempdir().unwrap();
        let (buffer, _) = open(dir.path(), large());
        // The second one holds the segment, for which files would be written again.
        for n in [1, 2] {
            buffer.append_one(NOW, message(n, BYTES)).unwrap();
        }
        pass(&buffer, 3..=last).await;
        until(|| files(dir.path(), ".segment").len() <= 1 + SEGMENTS_FEW).await;
        buffer.close().await;
        drop(buffer);
        damage(dir.path(), 1);
        for is_new in [true, false] {
            let (buffer, recovered) = open(dir.path(), large());
            let lost: Vec<_> = recovered.gaps.iter().filter_map(|gap| gap.seqs.clone()).collect();
            let told: &[_] = if is_new { &[Seq(1)..=Seq(1)] } else { &[] };
            assert_eq!(lost, told);
            assert_eq!(buffer.lookup(&message(1, 0).id), None);
            assert_known(&buffer, 2..=last);
            buffer.close().await;
        }
    }
}

#[tokio::test]
async fn the_id_of_a_place_is_found_in_memory_and_in_files() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), large());
    pass(&buffer, 1..=200).await;
    until(|| !id_files(dir.path()).is_empty()).await;
    for n in [1, 127, 128, 200] {
        assert_eq!(buffer.id_of(Seq(n)), Some(message(n, 0).id));
    }
    assert_eq!(buffer.id_of(Seq(201)), None);
}

#[tokio::test]
async fn files_of_another_log_are_not_believed_and_those_of_a_former_life_are() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for place in [dir.path(), other.path()] {
        let (buffer, _) = open(place, large());
        let first = if place == dir.path() { 1 } else { 1001 };
        for n in first..first + 300 {
            let seq = buffer.append_one(NOW, message(n, BYTES)).unwrap().seq;
            buffer.durable(seq).await.unwrap();
            buffer.settle(&seqs([seq.0]));
        }
        few_segments(place).await;
        buffer.close().await;
    }
    // A copy of the tools is the same log, and knows the same.
    let to = dir.path().join("repaired");
    tools::repair(dir.path(), &to, &FileStorage).unwrap();
    assert_known(&open(&to, large()).0, 1..=300);
    for _ in 0..3 {
        tools::adopt(dir.path(), &FileStorage).unwrap();
        assert_known(&open(dir.path(), large()).0, 1..=300);
    }
    let theirs: Vec<PathBuf> = id_files(other.path());
    for path in &theirs {
        fs::copy(path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let (buffer, recovered) = open(dir.path(), large());
    assert!(recovered.ids_lost > 100);
    for n in 1001..=1300 {
        assert_eq!(buffer.lookup(&message(n, 0).id), None);
    }
}

#[tokio::test]
async fn without_space_for_them_segments_go_first_and_they_are_written_into_that() {
    let disk = Disk::new(1);
    let dir = Path::new("d");
    let (buffer, _) = Buffer::open(dir, large(), disk.mount()).unwrap();
    let is_ids = |path: &Path| path.to_str().unwrap().contains("/ids-");
    let filled = disk.clone();
    disk.set_hook(Some(Arc::new(move |call| {
        let is_written = is_ids(&call.path) && call.operation == Operation::Write;
        filled.set_space(is_written.then_some(0));
    })));
    pass(&buffer, 1..=300).await;
    let segments = || {
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "segment");
        disk.paths().iter().filter(|path| is_segment(path)).count()
    };
    until(|| segments() <= SEGMENTS_FEW).await;
    assert_known(&buffer, 1..=300);
    disk.set_hook(None);
    disk.set_space(None);
    let id_files = || disk.paths().iter().filter(|path| is_ids(path)).count();
    // By itself.
    until(|| id_files() >= 2).await;
    pass(&buffer, 301..=310).await;
    until(|| segments() <= SEGMENTS_FEW && id_files() == 3).await;
    disk.crash_at(1);
    drop(buffer);
    disk.crash(Crash::Lose);
    let (buffer, _) = Buffer::open(dir, large(), disk.mount()).unwrap();
    assert_known(&buffer, 1..=300);
}
