//! The small files beside the segments and the record of a replayed message, each put together here
//! from its table.

use alys_stream_messaging::tools;
use alys_stream_protocol::message::{Epoch, EpochNonce, Forgotten, Opening};

use super::*;

/// The log of the golden files; their segment was written in its seventh epoch.
const LOG: [u8; 16] = [0x11; 16];

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// `openings`: epoch, nonce, first seq, and from version 2 on what was settled.
fn openings_file(version: u32, openings: &[[u64; 4]]) -> Vec<u8> {
    let mut bytes = b"ALYSOPEN".to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(openings.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(&LOG);
    for opening in openings {
        let fields = if version == 1 { &opening[..3] } else { &opening[..] };
        for field in fields {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
    }
    sealed(bytes)
}

/// `lineage`: the ids that the log had before, and the one that it was given.
fn lineage_file(ids: &[[u8; 16]]) -> Vec<u8> {
    let mut bytes = b"ALYSLINE".to_vec();
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(ids.len()).unwrap().to_le_bytes());
    ids.iter().for_each(|id| bytes.extend_from_slice(id));
    sealed(bytes)
}

fn golden_log() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("identity"), IDENTITY).unwrap();
    fs::write(dir.path().join("mark"), MARK).unwrap();
    fs::write(dir.path().join("0000000000000001.segment"), SEGMENT).unwrap();
    dir
}

#[tokio::test]
async fn openings_are_written_as_described() {
    let dir = golden_log();
    let (buffer, _) = open(dir.path(), config());
    let present = buffer.opening();
    assert_eq!(present.epoch, Epoch(8));
    let written = fs::read(dir.path().join("openings")).unwrap();
    // The third message is the next one, and one was settled.
    assert_eq!(written, openings_file(2, &[[8, present.nonce.0, 3, 1]]));
    buffer.close().await;
}

#[tokio::test]
async fn openings_of_both_versions_are_read() {
    let opening = |epoch, nonce| Opening { epoch: Epoch(epoch), nonce: EpochNonce(nonce) };
    let earlier = [[6, 0x66, 1, 0], [7, 0x77, 2, 1]];
    for version in [1, 2] {
        let dir = golden_log();
        fs::write(dir.path().join("openings"), openings_file(version, &earlier)).unwrap();
        let (buffer, _) = open(dir.path(), config());
        // Seq 2 was the first of the seventh epoch: nobody can have it of the sixth.
        assert!(!buffer.is_contradicted_by(opening(6, 0x66), Seq(1)), "version {version}");
        assert!(buffer.is_contradicted_by(opening(6, 0x66), Seq(2)), "version {version}");
        assert!(buffer.is_contradicted_by(opening(7, 0x78), Seq(1)), "another opening");
        // Version 1 does not know what was settled when the seventh epoch began.
        for (settled_count, is_outlived) in [(1, false), (2, version == 2)] {
            let forgotten = Forgotten { opening: opening(6, 0x66), settled_count };
            assert_eq!(buffer.is_outlived_by(forgotten), is_outlived, "version {version}");
        }
        let nonce = buffer.opening().nonce.0;
        let none = if version == 1 { u64::MAX } else { 0 };
        let kept = [[6, 0x66, 1, none], [7, 0x77, 2, none.max(1)], [8, nonce, 3, 1]];
        let written = fs::read(dir.path().join("openings")).unwrap();
        assert_eq!(written, openings_file(2, &kept), "what is known is written anew");
        buffer.close().await;
    }
}

#[tokio::test]
async fn the_lineage_is_written_and_read_as_described() {
    let dir = golden_log();
    let adopted = tools::adopt(dir.path(), &FileStorage).unwrap();
    assert_eq!(adopted.former.as_bytes(), &LOG);
    let path = dir.path().join("lineage");
    let mut ids = [LOG, *adopted.log_id.as_bytes()];
    ids.sort_unstable();
    assert_eq!(fs::read(&path).unwrap(), lineage_file(&ids));
    let (buffer, recovered) = open(dir.path(), config());
    assert_eq!((buffer.log_id(), recovered.gaps.len()), (adopted.log_id, 0));
    assert_eq!(buffer.read(Seq(2)).unwrap(), Some(second()), "of its former life");
    buffer.close().await;
    drop(buffer);
    // Segments of a life that it does not name are foreign.
    fs::write(&path, lineage_file(&[[0x12; 16]])).unwrap();
    let opened = Buffer::open(dir.path(), config(), Arc::new(FileStorage));
    let unread = opened.map(|(buffer, _)| buffer.read(Seq(2)).ok().flatten());
    assert!(!matches!(unread, Ok(Some(_))), "{unread:?}");
}

#[tokio::test]
async fn the_record_of_a_replayed_message_is_written_and_read_as_described() {
    let dir = tempfile::tempdir().unwrap();
    let (buffer, _) = open(dir.path(), config());
    let accepted = buffer.replay(NOW, first(), Seq(0x0102_0304)).unwrap();
    buffer.durable(accepted.seq).await.unwrap();
    buffer.close().await;
    drop(buffer);

    let message = first();
    let (key, trace) =
        (message.ordering_key.clone().unwrap(), message.traceparent.clone().unwrap());
    let mut record = message.id.as_bytes().to_vec();
    record.extend_from_slice(&NOW.0.to_le_bytes());
    record.extend_from_slice(&message.deadline.unwrap().0.to_le_bytes());
    record.extend_from_slice(&message.kind.0.to_le_bytes());
    record.extend_from_slice(&u16::try_from(key.as_bytes().len()).unwrap().to_le_bytes());
    record.extend_from_slice(&u16::try_from(trace.len()).unwrap().to_le_bytes());
    // High; with a deadline, and replayed.
    record.extend_from_slice(&[2, 1 | 2, 0, 0]);
    record.extend_from_slice(key.as_bytes());
    record.extend_from_slice(trace.as_bytes());
    record.extend_from_slice(&0x0102_0304_u64.to_le_bytes());
    record.extend_from_slice(&message.payload);
    let bytes = fs::read(dir.path().join("0000000000000001.segment")).unwrap();
    let entries = segment::entries(&bytes);
    let entry = entries.iter().find(|entry| entry.key == accepted.seq.0).unwrap();
    let written = &bytes[entry.offset + segment::ENTRY_HEADER_BYTES..][..record.len()];
    assert_eq!(written, record);

    let (buffer, recovered) = open(dir.path(), config());
    assert_eq!(recovered.replayed, [(accepted.seq, Seq(0x0102_0304))].into());
    assert_eq!(buffer.read(accepted.seq).unwrap(), Some(message));
}
