//! Damaged, torn, missing and foreign files: nothing else is lost, and everything is reported.

use std::fs;
use std::path::Path;

use alys_stream_messaging::log::{GapCause, OnCorruption};
use alys_stream_messaging::{BufferConfig, OpenError, tools};
use alys_stream_protocol::message::{Forgotten, Settled};
use alys_stream_testkit::segment;

use super::*;

/// An entry that says what is settled.
const KIND_SETTLED: u8 = 2;

/// A log of `count` messages of 200 bytes; every one unsettled.
pub(crate) async fn fill(dir: &Path, count: u64) {
    let (buffer, _) = open(dir, small());
    for n in 1..=count {
        buffer.append_one(NOW, message(n, 200)).unwrap();
        if n % 10 == 0 {
            buffer.durable(Seq(n)).await.unwrap();
        }
    }
    buffer.close().await;
}

/// Where in which file the payload of message `n` begins.
pub(crate) fn find(dir: &Path, n: u64) -> (std::path::PathBuf, usize) {
    let payload = message(n, 200).payload;
    let id = message(n, 200).id;
    for path in files(dir, ".segment") {
        let bytes = fs::read(&path).unwrap();
        let at = bytes.windows(16).position(|window| window == id.as_bytes());
        if let Some(at) = at {
            assert_eq!(&bytes[at + 44..at + 244], &payload[..]);
            return (path, at + 44);
        }
    }
    panic!("message {n} is nowhere");
}

pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

pub(crate) fn assert_all_but(dir: &Path, count: u64, lost: &[u64]) -> Recovered {
    let (buffer, recovered) = open(dir, small());
    for n in (1..=count).filter(|n| !lost.contains(n)) {
        assert_eq!(buffer.read(Seq(n)).unwrap(), Some(message(n, 200)), "{n}");
    }
    for n in lost {
        assert_eq!(buffer.read(Seq(*n)).unwrap(), None);
    }
    recovered
}

#[tokio::test]
async fn a_flipped_byte_costs_one_record_and_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150).await;
    let (path, at) = find(dir.path(), 77);
    change(&path, |bytes| bytes[at + 100] ^= 0x10);
    let recovered = assert_all_but(dir.path(), 150, &[77]);
    let [gap] = &recovered.gaps[..] else { panic!("{:?}", recovered.gaps) };
    assert_eq!(
        (gap.cause, gap.seqs.clone(), gap.is_known),
        (GapCause::Damaged, Some(Seq(77)..=Seq(77)), false)
    );
    assert_eq!(gap.offset as usize, at - 44 - 32);
    assert!(path.to_str().unwrap().contains(&gap.segment.to_string()));
    let kept = fs::read(&files(dir.path(), ".quarantine")[0]).unwrap();
    assert_eq!(kept.len() as u64, gap.bytes);
    // Known from now on, and nothing new is lost.
    let recovered = assert_all_but(dir.path(), 150, &[77]);
    assert!(
        recovered.gaps.iter().all(|gap| gap.is_known && gap.seqs.is_none()),
        "{:?}",
        recovered.gaps
    );
}

/// Damage beside damage is one stretch, and what is new of it is not taken for known.
#[tokio::test]
async fn damage_beside_what_is_known_is_reported_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150).await;
    for (n, lost) in [(77, &[77][..]), (78, &[77, 78])] {
        let (path, at) = find(dir.path(), n);
        change(&path, |bytes| bytes[at + 100] ^= 0x10);
        let recovered = assert_all_but(dir.path(), 150, lost);
        let gap = recovered.gaps.iter().find(|gap| !gap.is_known).expect("it is new");
        let kept = fs::read(&files(dir.path(), ".quarantine")[0]).unwrap();
        assert_eq!(kept.len() as u64, gap.bytes, "{n}");
        let recovered = assert_all_but(dir.path(), 150, lost);
        assert!(recovered.gaps.iter().all(|gap| gap.is_known), "{:?}", recovered.gaps);
    }
}

/// D12: whoever was told what is over finds out a copy of before, and takes no log for one of which
/// damage may have taken what it says, nor what was repaired of it.
#[tokio::test]
async fn a_settlement_that_damage_took_makes_no_old_copy() {
    let [dir, copy, repaired] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    fill(dir.path(), 5).await;
    let (buffer, _) = open(dir.path(), small());
    for path in files(dir.path(), "") {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    assert_eq!(buffer.settled_durable(), Settled::NONE);
    let position = buffer.settle(&seqs([1, 2, 3, 5]));
    buffer.position_durable(position).await.unwrap();
    assert_eq!(buffer.settled_durable(), Settled { below: Seq(4), count: 4 });
    let told = Forgotten { opening: buffer.opening(), settled_count: 4 };
    // So that it is not the end, which may be torn.
    buffer.append_one(NOW, message(6, 200)).unwrap();
    buffer.close().await;
    drop(buffer);
    let is_outlived = |dir: &Path| open(dir, small()).0.is_outlived_by(told);
    assert!(!is_outlived(dir.path()), "it knows");
    assert!(is_outlived(copy.path()));

    for path in files(dir.path(), ".segment") {
        change(&path, |bytes| {
            for entry in segment::entries(bytes).iter().filter(|it| it.kind == KIND_SETTLED) {
                bytes[entry.offset + entry.bytes - 9] ^= 0x10;
            }
        });
    }
    tools::repair(dir.path(), &repaired.path().join("buffer"), &FileStorage).unwrap();
    let (buffer, recovered) = open(dir.path(), small());
    assert!(!recovered.gaps.is_empty());
    assert_eq!(buffer.settled_durable(), Settled::NONE);
    assert!(!buffer.is_outlived_by(told));
    assert!(!is_outlived(&repaired.path().join("buffer")));
}

/// The segment behind it was not needed any more, or never began: its number alone is missing.
#[tokio::test]
async fn damage_at_the_end_of_a_segment_is_reported_when_the_next_number_is_missing() {
    for is_damaged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 400).await;
        let found = tools::inspect(dir.path(), &FileStorage).unwrap();
        let (second, third) = (&found.segments[1], &found.segments[2]);
        let gone = third.seqs.clone().unwrap();
        let last = gone.start().0 - 1;
        let (buffer, _) = open(dir.path(), small());
        buffer.settle(&seqs(last..=gone.end().0));
        buffer.close().await;
        drop(buffer);
        // It may be gone already: everything in it is settled.
        if third.path.exists() {
            fs::remove_file(&third.path).unwrap();
        }
        if is_damaged {
            let (path, at) = find(dir.path(), last);
            assert_eq!(path, second.path);
            change(&path, |bytes| bytes[at + 100] ^= 0x10);
        }
        let (_, recovered) = open(dir.path(), small());
        let is_told = recovered.gaps.iter().any(|gap| gap.segment == second.segment);
        assert_eq!(is_told, is_damaged, "{:?}", recovered.gaps);
    }
}

#[tokio::test]
async fn damage_can_halt_instead() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 50).await;
    let (path, at) = find(dir.path(), 20);
    change(&path, |bytes| bytes[at - 44 - 32 + 5] ^= 1);
    let config = BufferConfig { on_corruption: OnCorruption::Halt, ..small() };
    let error = Buffer::open(dir.path(), config, Arc::new(FileStorage)).unwrap_err();
    assert!(
        matches!(error, OpenError::Corrupt { offset, .. } if offset as usize == at - 76),
        "{error}"
    );
}

#[tokio::test]
async fn a_torn_tail_is_cut_off_at_every_length() {
    for torn in [1, 31, 32, 33, 120, 240] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 40).await;
        // As if the process had not come to say how far it got.
        fs::remove_file(dir.path().join("mark")).unwrap();
        let (path, at) = find(dir.path(), 40);
        let start = at - 44 - 32;
        change(&path, |bytes| bytes[start + torn..].fill(0));
        let (buffer, recovered) = open(dir.path(), small());
        assert_eq!(buffer.stat().records(), 39);
        assert_eq!(recovered.gaps, []);
        assert_eq!(recovered.torn_tail.map(|torn| torn.offset as usize), Some(start));
        assert_eq!(buffer.append_one(NOW, message(40, 200)).unwrap().seq, Seq(40));
        drop(buffer);
        let recovered = assert_all_but(dir.path(), 40, &[]);
        assert_eq!(recovered.torn_tail, None);
    }
}

/// A segment is begun with a summary, and a crash tears what was to follow.
#[tokio::test]
async fn a_summary_counts_that_has_nothing_whole_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150).await;
    let mut segments = files(dir.path(), ".segment");
    segments.sort();
    // Behind it may be one that is prepared, and not begun.
    let is_begun = |path: &Path| fs::read(path).unwrap()[4096..4098] == [0x5e, 0xa1];
    let newest = segments.iter().rposition(|path| is_begun(path)).unwrap();
    let newest = segments.remove(newest);
    // The summary begins with the next number.
    let summary = fs::read(&newest).unwrap()[4096 + 32..4096 + 40].try_into().unwrap();
    let next_seq = Seq(u64::from_le_bytes(summary));
    assert!(next_seq > Seq(10), "{next_seq}");
    change(&newest, |bytes| {
        let length: [u8; 4] = bytes[4096 + 4..4096 + 8].try_into().unwrap();
        let end = (4096 + 32 + u32::from_le_bytes(length) as usize).next_multiple_of(8);
        bytes[end..].fill(0);
        bytes[end..end + 8].fill(0xab);
    });
    segments.iter().for_each(|path| fs::remove_file(path).unwrap());
    fs::remove_file(dir.path().join("mark")).unwrap();

    let (buffer, recovered) = open(dir.path(), small());
    assert!(recovered.torn_tail.is_some());
    let accepted = buffer.append_one(NOW, message(200, 200)).unwrap();
    assert_eq!(accepted.seq, next_seq, "no number is given twice");
    buffer.durable(accepted.seq).await.unwrap();
    drop(buffer);
    let (buffer, _) = open(dir.path(), small());
    assert_eq!(buffer.read(accepted.seq).unwrap(), Some(message(200, 200)));
}

#[tokio::test]
async fn a_missing_segment_costs_its_records_only() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150).await;
    let (path, _) = find(dir.path(), 75);
    let lost: Vec<u64> = (1..=150).filter(|n| find(dir.path(), *n).0 == path).collect();
    assert!(lost.len() > 5 && lost.len() < 120, "{lost:?}");
    fs::remove_file(&path).unwrap();
    let recovered = assert_all_but(dir.path(), 150, &lost);
    let [gap] = &recovered.gaps[..] else { panic!("{:?}", recovered.gaps) };
    assert_eq!(gap.cause, GapCause::Missing);
    assert_eq!(gap.seqs, Some(Seq(lost[0])..=Seq(lost[lost.len() - 1])));
    assert_eq!(assert_all_but(dir.path(), 150, &lost).gaps, [], "settled as a gap");
}

#[tokio::test]
async fn a_lost_header_costs_nothing() {
    for (n, both) in [(75, false), (75, true), (150, false), (150, true)] {
        let dir = tempfile::tempdir().unwrap();
        fill(dir.path(), 150).await;
        let (path, _) = find(dir.path(), n);
        change(&path, |bytes| {
            bytes[20] ^= 1;
            bytes[2048 + 20] ^= u8::from(both);
        });
        let found = tools::inspect(dir.path(), &FileStorage).unwrap();
        let [damage] = &found.corruption[..] else { panic!("{:?}", found.corruption) };
        assert_eq!((damage.path.as_deref(), damage.offset, damage.bytes), (Some(&*path), 0, 4096));
        assert_eq!((&damage.seqs, found.lost.is_empty()), (&None, true));
        assert_eq!(assert_all_but(dir.path(), 150, &[]).gaps, []);
        // Of the newest segment the power may have torn it: there it is written again.
        let found = tools::inspect(dir.path(), &FileStorage).unwrap();
        assert_eq!(found.is_sound(), n == 150);
    }
}

#[tokio::test]
async fn a_segment_without_its_first_pages_keeps_what_is_behind_them() {
    for message in [75, 150] {
        for pages in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            fill(dir.path(), 150).await;
            let (path, _) = find(dir.path(), message);
            let is_hit = |n: &u64| {
                let (file, at) = find(dir.path(), *n);
                file == path && at - 76 < pages * 4096
            };
            let lost: Vec<u64> = (1..=150).filter(is_hit).collect();
            assert!(lost.is_empty() == (pages == 1) && lost.len() < 30, "{lost:?}");
            change(&path, |bytes| bytes[..pages * 4096].fill(0));
            let found = tools::inspect(dir.path(), &FileStorage).unwrap();
            assert!(
                found.lost.iter().map(|seq| seq.0).eq(lost.iter().copied()),
                "{:?}",
                found.lost
            );
            assert!(found.corruption.iter().any(|damage| damage.path.as_deref() == Some(&*path)));
            let recovered = assert_all_but(dir.path(), 150, &lost);
            let gone: Vec<_> = recovered.gaps.iter().filter_map(|gap| gap.seqs.clone()).collect();
            let all = lost.first().zip(lost.last()).map(|(a, b)| Seq(*a)..=Seq(*b));
            assert_eq!(gone, Vec::from_iter(all));
            assert_all_but(dir.path(), 150, &lost);
        }
    }
}

#[tokio::test]
async fn the_headers_of_all_segments_cost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150).await;
    for n in 1..=150 {
        change(&find(dir.path(), n).0, |bytes| bytes[..4096].fill(0));
    }
    assert_all_but(dir.path(), 150, &[]);
    assert_all_but(dir.path(), 150, &[]);
}

#[tokio::test]
async fn extra_files_and_half_written_headers_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 60).await;
    let segment = fs::read(&files(dir.path(), ".segment")[0]).unwrap();
    let name = |n: u64| dir.path().join(format!("{n:016x}.segment"));
    fs::write(name(1000), &segment).unwrap();
    fs::write(name(1001), vec![0; 5000]).unwrap();
    fs::write(name(1002), b"").unwrap();
    let mut half = vec![0; 8192];
    half[..30].copy_from_slice(&segment[..30]);
    fs::write(name(1003), half).unwrap();
    fs::write(dir.path().join("0000000000000063.segment.tmp"), b"junk").unwrap();
    fs::write(dir.path().join("notes.txt"), b"an operator's").unwrap();
    assert_eq!(assert_all_but(dir.path(), 60, &[]).gaps, []);
    assert_eq!(assert_all_but(dir.path(), 60, &[]).gaps, []);
    assert!(dir.path().join("notes.txt").exists());
}

#[tokio::test]
async fn a_lost_identity_is_rebuilt_from_the_segments() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 20).await;
    let log_id = open(dir.path(), small()).0.log_id();
    change(&dir.path().join("identity"), |bytes| bytes[20] ^= 1);
    let (buffer, _) = open(dir.path(), small());
    assert_eq!((buffer.log_id(), buffer.stat().records()), (log_id, 20));
    drop(buffer);
    let other = tempfile::tempdir().unwrap();
    fill(other.path(), 3).await;
    fs::copy(dir.path().join("identity"), other.path().join("identity")).unwrap();
    let error = Buffer::open(other.path(), small(), Arc::new(FileStorage)).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

/// Its segments do not say in how many epochs nothing was stored (M6, D12).
#[tokio::test]
async fn a_lost_identity_takes_no_epoch_back() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 20).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let (buffer, _) = open(dir.path(), small());
        seen.push(buffer.opening());
        buffer.close().await;
    }
    let changes: [fn(&Path); 2] =
        [|path| fs::remove_file(path).unwrap(), |path| change(path, |bytes| bytes[33] ^= 1)];
    for lose in changes {
        lose(&dir.path().join("identity"));
        let (buffer, _) = open(dir.path(), small());
        let present = buffer.opening();
        let last = *seen.last().unwrap();
        assert_eq!(present.epoch.0, last.epoch.0 + 1);
        assert!(seen.iter().all(|seen| !buffer.is_contradicted_by(*seen, Seq(20))), "{seen:?}");
        seen.push(present);
        buffer.close().await;
    }
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 3).await;
    change(&dir.path().join("identity"), |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]).to_le_bytes();
        bytes[60..64].copy_from_slice(&crc);
    });
    let error = Buffer::open(dir.path(), small(), Arc::new(FileStorage)).unwrap_err();
    assert!(matches!(error, OpenError::NewerVersion { found: 2, .. }), "{error}");
    assert!(error.to_string().contains("identity"), "{error}");
}

/// Every single bit flip of a small log: no panic, no wrong record, no lost neighbour.
#[tokio::test]
async fn any_flipped_byte_costs_at_most_one_record() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 3).await;
    let path = files(dir.path(), ".segment")[0].clone();
    let (_, first) = find(dir.path(), 1);
    let (_, last) = find(dir.path(), 3);
    let whole = fs::read(&path).unwrap();
    for at in (4096..first + 200).step_by(13).chain(first - 76..first).chain(last - 76..last) {
        for file in [files(dir.path(), ".segment"), files(dir.path(), ".quarantine")].concat() {
            fs::remove_file(file).unwrap();
        }
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, bytes).unwrap();
        let (buffer, _) = open(dir.path(), small());
        let read: Vec<u64> = (1..=3)
            .filter(|n| match buffer.read(Seq(*n)).unwrap() {
                Some(found) => {
                    assert_eq!(found, message(*n, 200), "byte {at}");
                    true
                }
                None => false,
            })
            .collect();
        assert!(read.len() >= 2, "byte {at}: {read:?}");
    }
}

/// The newest segment is gone. The one that takes its place knows nothing of what older ones say is
/// settled, and must not be taken to.
#[tokio::test]
async fn what_was_settled_stays_so_when_the_newest_segment_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 150).await;
    let (buffer, _) = open(dir.path(), small());
    let position = buffer.settle(&seqs((2..=20).chain(100..=120)));
    buffer.position_durable(position).await.unwrap();
    for n in 151..=300 {
        buffer.append_one(NOW, message(n, 200)).unwrap();
        buffer.durable(Seq(n)).await.unwrap();
    }
    buffer.close().await;
    drop(buffer);
    let said = find(dir.path(), 151).0;
    fs::remove_file(find(dir.path(), 300).0).unwrap();
    for start in 0..3 {
        let (buffer, recovered) = open(dir.path(), small());
        let new = recovered.gaps.iter().filter(|gap| !gap.is_known && gap.seqs.is_some());
        assert_eq!(new.count(), usize::from(start == 0), "{:?}", recovered.gaps);
        assert!((2..=20).chain(100..=120).all(|n| buffer.is_settled(Seq(n))), "start {start}");
        // The segment that says so is needed for nothing else then.
        let position = buffer.settle(&seqs(121..=299));
        buffer.position_durable(position).await.unwrap();
        assert!(stays(&said).await, "start {start}");
        buffer.close().await;
    }
}
