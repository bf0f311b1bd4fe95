//! Offline tools: what they find, what they copy, and that they leave alone what is not theirs.

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use alys_stream_messaging::log::GapCause;
use alys_stream_messaging::tools::{
    self, Corruption, DumpedRecord, Holder, Inspection, SegmentInfo, ToolError,
};
use alys_stream_messaging::{BufferConfig, OpenError};
use alys_stream_protocol::message::Epoch;
use alys_stream_testkit::disk::{Crash, Disk};

use super::damage::{change, fill, find};
use super::*;

fn inspect(dir: &Path) -> Inspection {
    tools::inspect(dir, &FileStorage).unwrap()
}

fn dump(dir: &Path) -> Vec<DumpedRecord> {
    let mut records = Vec::new();
    tools::dump(dir, &FileStorage, &mut |record| {
        records.push(record);
        ControlFlow::Continue(())
    })
    .unwrap();
    records
}

/// Every file of a directory with its bytes.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir, "").into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// 150 messages, every third settled.
async fn fill_and_settle(dir: &Path) {
    fill(dir, 150).await;
    let (buffer, _) = open(dir, small());
    buffer.settle(&seqs((1..=150).filter(|n| n % 3 == 0)));
    buffer.close().await;
}

#[tokio::test]
async fn a_sound_buffer_is_counted_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    fill_and_settle(dir.path()).await;
    let before = contents(dir.path());
    let found = inspect(dir.path());
    assert!(found.is_sound() && found.holder == Holder::Nobody, "{found:?}");
    assert_eq!((found.records, found.unsettled_records(), found.entries), (150, 100, 151));
    assert_eq!((found.next_seq, found.settled_below), (Seq(151), Seq(1)));
    assert_eq!((found.oldest, found.epoch), (Some((Seq(1), NOW)), Epoch(2)));
    assert_eq!(found.unsettled[Priority::Normal.index()].records, 100);
    assert_eq!((found.torn_tail, found.quarantined_files), (None, 0));
    assert!(found.segments.len() > 1 && found.file_bytes() > found.unsettled_bytes());
    let covered: u64 = found
        .segments
        .iter()
        .filter_map(|SegmentInfo { seqs, .. }| seqs.clone())
        .map(|seqs| seqs.end().0 - seqs.start().0 + 1)
        .sum();
    assert_eq!(covered, 150);
    let dumped = dump(dir.path());
    assert_eq!(dumped.len(), 150);
    for (n, record) in (1..).zip(&dumped) {
        assert_eq!((record.seq, record.is_settled), (Seq(n), n % 3 == 0));
        assert_eq!((&record.message, record.accepted_at), (&message(n, 200), NOW));
    }
    assert_eq!(contents(dir.path()), before);
    let mut seen = 0;
    tools::dump(dir.path(), &FileStorage, &mut |_| {
        seen += 1;
        if seen == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .unwrap();
    assert_eq!(seen, 7);
}

#[tokio::test]
async fn damage_is_named_by_segment_offset_and_seqs_settled_or_not() {
    // Settled are multiples of three.
    for (n, lost) in [(75, None), (77, Some(Seq(77)..=Seq(77)))] {
        let dir = tempfile::tempdir().unwrap();
        fill_and_settle(dir.path()).await;
        let (path, at) = find(dir.path(), n);
        change(&path, |bytes| bytes[at + 100] ^= 0x10);
        let before = contents(dir.path());
        let found = inspect(dir.path());
        assert!(!found.is_sound());
        let [Corruption { cause, segment, path: named, offset, seqs, unsettled, .. }] =
            &found.corruption[..]
        else {
            panic!("{:?}", found.corruption)
        };
        assert_eq!((*cause, *offset as usize), (GapCause::Damaged, at - 44 - 32));
        assert!(path.to_str().unwrap().contains(&segment.unwrap().to_string()));
        assert_eq!(named.as_ref(), Some(&path));
        assert_eq!((seqs.clone(), unsettled.clone()), (Some(Seq(n)..=Seq(n)), lost.clone()));
        assert_eq!(found.lost.count(), u64::from(lost.is_some()));
        assert_eq!(found.records, 149);
        assert_eq!(dump(dir.path()).len(), 149);
        assert_eq!(contents(dir.path()), before, "nothing was copied aside");
    }
}

#[tokio::test]
async fn damage_to_a_summary_names_no_messages() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150).await;
    let (buffer, _) = open(dir.path(), small());
    let older = [1, 50].map(|n| find(dir.path(), n).0);
    let settled = buffer.settle(&seqs(1..=120));
    buffer.position_durable(settled).await.unwrap();
    until(|| older.iter().all(|path| !path.exists())).await;
    buffer.close().await;
    drop(buffer);
    let sound = inspect(dir.path());
    assert!(sound.is_sound() && sound.segments[0].seqs.as_ref().unwrap().start().0 > 50);
    // The header of the first copy, and that of the second right behind it.
    let path = &sound.segments[0].path;
    let summary_bytes = u32::from_le_bytes(fs::read(path).unwrap()[4100..4104].try_into().unwrap());
    let second = 4096 + (32 + summary_bytes as usize).next_multiple_of(8);
    for at in [4096, second] {
        change(path, |bytes| bytes[at + 20] ^= 1);
        let found = inspect(dir.path());
        let [damage] = &found.corruption[..] else { panic!("{:?}", found.corruption) };
        assert_eq!((damage.offset, &damage.seqs, &damage.unsettled), (at as u64, &None, &None));
        assert_eq!((found.records, found.lost.is_empty()), (sound.records, true));
        assert_eq!(found.unreported().collect::<Vec<_>>(), [damage]);
        change(path, |bytes| bytes[at + 20] ^= 1);
    }
    // That of a segment costs nothing: a start reports nothing.
    change(path, |bytes| bytes[20] ^= 1);
    let found = inspect(dir.path());
    let [damage] = &found.corruption[..] else { panic!("{:?}", found.corruption) };
    assert!(damage.is_header && found.unreported().next().is_none());
}

#[tokio::test]
async fn a_missing_segment_and_a_lost_identity_are_found() {
    let dir = tempfile::tempdir().unwrap();
    fill_and_settle(dir.path()).await;
    let sound = inspect(dir.path());
    let lost = sound.segments[0].seqs.clone().unwrap();
    fs::remove_file(&sound.segments[0].path).unwrap();
    fs::remove_file(dir.path().join("identity")).unwrap();
    let found = inspect(dir.path());
    assert!(!found.is_identity_readable);
    assert_eq!(found.log_id, sound.log_id);
    let [gap] = &found.corruption[..] else { panic!("{:?}", found.corruption) };
    assert_eq!((gap.cause, gap.segment), (GapCause::Missing, None));
    let expected: SeqSet =
        (lost.start().0..=lost.end().0).filter(|n| n % 3 != 0).map(Seq).collect();
    assert!(expected.iter().all(|seq| found.lost.contains(seq)), "{:?}", found.lost);
}

#[tokio::test]
async fn a_live_buffer_is_read_and_said_to_be_live_and_not_changed_by_tools_that_write() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), small());
    buffer.append(NOW, (1..=50).map(|n| message(n, 300)).collect()).unwrap();
    buffer.durable(Seq(50)).await.unwrap();
    let found = inspect(dir.path());
    assert_eq!(found.holder, Holder::Process { pid: Some(std::process::id()) });
    assert_eq!((found.unsettled_records(), found.is_sound()), (50, true));
    assert_eq!(dump(dir.path()).len(), 50);
    let to = other.path().join("repaired");
    let repaired = tools::repair(dir.path(), &to, &FileStorage).unwrap_err();
    let adopted = tools::adopt(dir.path(), &FileStorage).unwrap_err();
    for error in [repaired, adopted] {
        assert!(matches!(error, ToolError::Open(OpenError::Locked { .. })), "{error}");
    }
    assert!(!to.exists());
    buffer.append_one(NOW, message(51, 10)).unwrap();
    buffer.durable(Seq(51)).await.unwrap();
}

#[test]
fn what_is_no_buffer_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    for place in [dir.path().to_path_buf(), dir.path().join("missing")] {
        let errors = [
            tools::inspect(&place, &FileStorage).unwrap_err(),
            tools::adopt(&place, &FileStorage).unwrap_err(),
            tools::repair(&place, &dir.path().join("to"), &FileStorage).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, ToolError::NotABuffer { .. }), "{error}");
        }
    }
    assert!(files(dir.path(), "").is_empty());
}

#[tokio::test]
async fn a_repaired_copy_is_the_same_log_without_what_was_lost() {
    let dir = tempfile::tempdir().unwrap();
    fill_and_settle(dir.path()).await;
    let (path, at) = find(dir.path(), 77);
    change(&path, |bytes| bytes[at + 100] ^= 0x10);
    let (path, at) = find(dir.path(), 149);
    change(&path, |bytes| bytes[at + 5..].fill(0xAB));
    let before = contents(dir.path());
    let sound = inspect(dir.path());
    let to = dir.path().join("repaired");
    let repaired = tools::repair(dir.path(), &to, &FileStorage).unwrap();
    assert_eq!((repaired.records, repaired.from), (sound.records, sound.clone()));
    let same = |path: &(PathBuf, _)| !path.0.ends_with("lock") && !path.0.ends_with("repaired");
    let after = files(dir.path(), "").into_iter().filter(|path| path.is_file());
    let after: Vec<_> = after.map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    assert!(after.iter().filter(|p| same(p)).eq(before.iter().filter(|p| same(p))));

    let copy = inspect(&to);
    assert!(copy.is_sound(), "{copy:?}");
    assert_eq!((copy.log_id, copy.next_seq), (sound.log_id, sound.next_seq));
    assert!(copy.epoch > sound.epoch);
    assert_eq!(copy.unsettled, sound.unsettled);
    assert!(copy.segments.len() > 1, "as large as they were");
    assert!(repaired.lost.contains(Seq(77)) && copy.lost.is_empty());
    let (buffer, recovered) = open(&to, small());
    assert_eq!(recovered.gaps, []);
    for n in (1..=148).filter(|n| n % 3 != 0 && *n != 77) {
        assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 200)));
    }
    assert!(buffer.append_one(NOW, message(3, 200)).unwrap().is_duplicate, "settled ids too");
    drop(buffer);
    let error = tools::repair(dir.path(), &to, &FileStorage).unwrap_err();
    assert!(matches!(error, ToolError::NotEmpty { .. }), "{error}");
}

#[tokio::test]
async fn an_adopted_copy_goes_on_under_ids_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    fill_and_settle(dir.path()).await;
    let mut former = inspect(dir.path());
    for round in 0..3_u64 {
        let adopted = tools::adopt(dir.path(), &FileStorage).unwrap();
        assert_eq!((adopted.former, adopted.unsettled), (former.log_id, 100 + round));
        assert_ne!(adopted.log_id, former.log_id);
        assert!(adopted.epoch > former.epoch);
        let (buffer, recovered) = open(dir.path(), small());
        assert_eq!((buffer.log_id(), recovered.gaps.len()), (adopted.log_id, 0));
        assert_eq!((buffer.next_seq(), buffer.epoch().0), (Seq(151 + round), adopted.epoch.0 + 1));
        assert_eq!(buffer.read(Seq(1)).unwrap(), Some(message(1, 200)));
        assert!(buffer.append_one(NOW, message(3, 200)).unwrap().is_duplicate);
        buffer.append_one(NOW, message(1000 + round, 200)).unwrap();
        buffer.close().await;
        former = inspect(dir.path());
        assert!(former.is_sound(), "{former:?}");
    }
    // Without its identity file it is still the latest of them, and with a flipped header too.
    fs::remove_file(dir.path().join("identity")).unwrap();
    change(&former.segments[0].path, |bytes| {
        bytes[20] ^= 1;
        bytes[2048 + 20] ^= 1;
    });
    let (buffer, recovered) = open(dir.path(), small());
    assert_eq!((buffer.log_id(), buffer.stat().records()), (former.log_id, 103));
    assert_eq!(recovered.gaps, []);
    // Everything settled: the segments of the former lives go, and what they said is still known.
    buffer.settle(&seqs(1..=153));
    for n in 2000..2400 {
        let accepted = buffer.append_one(NOW, message(n, 500)).unwrap();
        buffer.durable(accepted.seq).await.unwrap();
        buffer.settle(&seqs([accepted.seq.0]));
    }
    buffer.close().await;
    drop(buffer);
    assert!(!former.segments[0].path.exists());
    let (buffer, recovered) = open(dir.path(), small());
    assert_eq!((recovered.gaps.len(), buffer.settled_below()), (0, Seq(554)));
}

#[tokio::test]
async fn segments_of_another_log_are_foreign_to_an_adopted_one() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(dir.path(), 5).await;
    fill(other.path(), 5).await;
    tools::adopt(dir.path(), &FileStorage).unwrap();
    let name = "0000000000000009.segment";
    let mut foreign = fs::read(&files(other.path(), ".segment")[0]).unwrap();
    for at in [0, 2048] {
        foreign[at + 32..at + 40].copy_from_slice(&9_u64.to_le_bytes());
        let crc = crc32c::crc32c(&foreign[at..at + 60]).to_le_bytes();
        foreign[at + 60..at + 64].copy_from_slice(&crc);
    }
    fs::write(dir.path().join(name), foreign).unwrap();
    let error = Buffer::open(dir.path(), small(), Arc::new(FileStorage)).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

/// Adoption is interrupted at every storage call, in every way: it was done or it was not.
#[tokio::test]
async fn adoption_is_whole_or_nothing_after_a_crash_at_any_call() {
    let dir = Path::new("data");
    let config = BufferConfig { segment_bytes: 8192, ..small() };
    let (mut done, mut undone) = (0, 0);
    for crash in Crash::ALL {
        for call in 1.. {
            let disk = Disk::new(call);
            let (buffer, _) = Buffer::open(dir, config, disk.mount()).unwrap();
            buffer.append(NOW, (1..=60).map(|n| message(n, 200)).collect()).unwrap();
            buffer.settle(&seqs([2]));
            buffer.close().await;
            let log_id = buffer.log_id();
            drop(buffer);
            disk.crash(Crash::Lose);
            disk.crash_at(call);
            let result = tools::adopt(dir, &*disk.mount());
            let is_over = !disk.is_down();
            disk.disarm();
            disk.crash(crash);
            let (buffer, recovered) = Buffer::open(dir, config, disk.mount()).unwrap();
            assert_eq!((buffer.stat().records(), recovered.gaps.len()), (59, 0), "{call}");
            for n in (1..=60).filter(|n| *n != 2) {
                assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 200)));
            }
            assert_eq!(buffer.next_seq(), Seq(61));
            if let Ok(adopted) = &result {
                assert_eq!(buffer.log_id(), adopted.log_id);
            }
            let outcome = if buffer.log_id() == log_id { &mut undone } else { &mut done };
            *outcome += 1;
            drop(buffer);
            if is_over {
                assert!(result.is_ok());
                break;
            }
        }
    }
    assert!(done >= 3 && undone > 10, "{done} {undone}");
    println!("adoption: {} crashes, {done} done, {undone} not", done + undone);
}

/// What an adopted log is found to hold is on the disk, also when a killed process left it in the
/// cache alone: the segment that adoption begins is the newest one from then on.
#[tokio::test]
async fn adoption_stores_what_a_killed_process_left_in_the_cache() {
    let dir = Path::new("data");
    // What a failed sync stored after all is up to the seed.
    for seed in 1..=8 {
        let disk = Disk::new(seed);
        let (buffer, _) = Buffer::open(dir, small(), disk.mount()).unwrap();
        buffer.append_one(NOW, message(1, 100)).unwrap();
        buffer.durable(Seq(1)).await.unwrap();
        disk.fail_syncs(0, u64::MAX);
        buffer.append_one(NOW, message(2, 100)).unwrap();
        buffer.durable(Seq(2)).await.unwrap_err();
        drop(buffer);
        disk.crash(Crash::Kill);
        tools::adopt(dir, &*disk.mount()).unwrap();
        let (buffer, _) = Buffer::open(dir, small(), disk.mount()).unwrap();
        assert_eq!(buffer.read(Seq(2)).unwrap(), Some(message(2, 100)));
        disk.crash_at(1);
        drop(buffer);
        disk.crash(Crash::Lose);
        let (buffer, recovered) = Buffer::open(dir, small(), disk.mount()).unwrap();
        assert_eq!(buffer.read(Seq(2)).unwrap(), Some(message(2, 100)), "seed {seed}");
        assert_eq!(recovered.gaps.len(), 0);
    }
}

/// A repair that was cut short is never taken for a whole buffer.
#[tokio::test]
async fn a_repair_that_was_cut_short_leaves_the_old_one_and_no_silent_loss() {
    let (from, to) = (Path::new("data"), Path::new("repaired"));
    let config = BufferConfig { segment_bytes: 8192, ..small() };
    let mut cases = 0;
    for call in 1.. {
        let disk = Disk::new(call);
        let (buffer, _) = Buffer::open(from, config, disk.mount()).unwrap();
        buffer.append(NOW, (1..=60).map(|n| message(n, 200)).collect()).unwrap();
        buffer.close().await;
        let log_id = buffer.log_id();
        drop(buffer);
        disk.crash(Crash::Lose);
        disk.crash_at(call);
        let result = tools::repair(from, to, &*disk.mount());
        let is_over = !disk.is_down();
        disk.disarm();
        disk.crash(Crash::Tear);
        let (buffer, _) = Buffer::open(from, config, disk.mount()).unwrap();
        assert_eq!((buffer.log_id(), buffer.stat().records()), (log_id, 60));
        drop(buffer);
        let (buffer, recovered) = Buffer::open(to, config, disk.mount()).unwrap();
        if buffer.log_id() == log_id {
            let lost: u64 = recovered
                .gaps
                .iter()
                .filter_map(|gap| gap.seqs.clone())
                .map(|seqs| seqs.end().0 - seqs.start().0 + 1)
                .sum();
            assert_eq!(buffer.stat().records() + lost, 60, "{call}");
        } else {
            assert!(recovered.is_created && result.is_err(), "{call}");
        }
        drop(buffer);
        cases += 1;
        if is_over {
            assert_eq!(result.unwrap().records, 60);
            break;
        }
    }
    assert!(cases > 20, "{cases}");
}
