//! The bytes on disk, written from the tables of the `format`, `record` and `buffer` modules by
//! other means than this crate: a reader of today must read them for ever.

use std::fs;

use alys_stream_protocol::message::OrderingKey;
use alys_stream_testkit::segment;

use super::*;

mod files;
mod stores;

const IDENTITY: &[u8] = include_bytes!("../../testdata/identity-v1.bin");
const SEGMENT: &[u8] = include_bytes!("../../testdata/segment-v1.bin");
const MARK: &[u8] = include_bytes!("../../testdata/mark-v1.bin");

fn config() -> BufferConfig {
    BufferConfig { segment_bytes: 8192, ..BufferConfig::default() }
}

fn first() -> Message {
    Message {
        id: MessageId::new([0x22; 16]),
        kind: MessageKind::SIGNATURE_REQUEST,
        priority: Priority::High,
        deadline: Some(UnixMillis(1_700_000_120_000)),
        ordering_key: Some(OrderingKey::try_new("federation").unwrap()),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        payload: "payload one".into(),
    }
}

fn second() -> Message {
    Message {
        id: MessageId::new([0x33; 16]),
        kind: MessageKind(1000),
        priority: Priority::Low,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: "".into(),
    }
}

/// The segment as if each entry had been written alone, or all of them at once: what comes together
/// under one sync is for the writer to say.
fn regrouped(segment: &[u8], is_continued: bool) -> Vec<u8> {
    let mut regrouped = segment.to_vec();
    for (index, entry) in segment::entries(segment).iter().enumerate() {
        let flag = &mut regrouped[entry.offset + 3];
        assert!(*flag <= u8::from(index > 0), "entry {index}: {flag}");
        *flag = u8::from(is_continued && index > 0);
    }
    segment::seal(&mut regrouped);
    regrouped
}

#[tokio::test]
async fn the_same_bytes_are_written() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("identity"), IDENTITY).unwrap();
    let (buffer, _) = open(dir.path(), config());
    assert_eq!((buffer.log_id().as_bytes(), buffer.epoch().0), (&[0x11; 16], 7));
    buffer.append(NOW, vec![first(), second()]).unwrap();
    buffer.durable(Seq(2)).await.unwrap();
    buffer.settle(&seqs([1]));
    buffer.close().await;
    let written = fs::read(dir.path().join("0000000000000001.segment")).unwrap();
    let written = regrouped(&written, false);
    assert_eq!(written.len(), SEGMENT.len());
    let differs = written.iter().zip(SEGMENT).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first difference");
    assert_eq!(fs::read(dir.path().join("mark")).unwrap(), MARK);
}

#[test]
fn they_are_read() {
    for is_continued in [false, true] {
        check_reading(&regrouped(SEGMENT, is_continued));
    }
}

fn check_reading(segment: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("identity"), IDENTITY).unwrap();
    fs::write(dir.path().join("mark"), MARK).unwrap();
    fs::write(dir.path().join("0000000000000001.segment"), segment).unwrap();
    let (buffer, recovered) = open(dir.path(), config());
    assert_eq!((recovered.entries, recovered.gaps.len(), recovered.torn_tail), (3, 0, None));
    assert_eq!(buffer.settled_below(), Seq(2));
    assert_eq!(buffer.lookup(&first().id), Some(Seq(1)));
    assert_eq!(buffer.read(Seq(2)).unwrap(), Some(second()));
    let meta = &metas(&buffer)[0];
    assert_eq!((meta.kind, meta.accepted_at), (MessageKind(1000), NOW));
}

/// A file of ids from the table of `buffer::ids::spill`: `ids` by seq, of the group of 128 from 0 on.
fn ids_file(log_id: [u8; 16], ids: &[(MessageId, u32)]) -> Vec<u8> {
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    let mut block = Vec::new();
    for (id, place) in &sorted {
        block.extend_from_slice(id.as_bytes());
        block.extend_from_slice(&place.to_le_bytes());
    }
    block.resize(4060, 0);
    let count = u32::try_from(ids.len()).unwrap().to_le_bytes();
    block.extend_from_slice(&count);
    block.extend_from_slice(&count);
    block.extend_from_slice(&0_u64.to_le_bytes());
    block.extend_from_slice(&128_u64.to_le_bytes());
    block.extend_from_slice(&[0; 8]);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&log_id), &block);
    block.extend_from_slice(&crc.to_le_bytes());
    block
}

#[tokio::test]
async fn files_of_ids_are_written_and_read_as_described() {
    let dir = tempfile::tempdir().unwrap();
    let config = BufferConfig { id_group_messages: 128, ..config() };
    let name = "ids-0000000000000000-00000080";
    let (buffer, _) = open(dir.path(), config);
    let log_id = *buffer.log_id().as_bytes();
    // Numbers go down, so ids do: their order is another one than that of seqs.
    let ids: Vec<_> = (1..=30_u32).map(|seq| (message(1000 - u64::from(seq), 0).id, seq)).collect();
    for seq in 1..=30 {
        buffer.append_one(NOW, message(1000 - seq, 1000)).unwrap();
        buffer.durable(Seq(seq)).await.unwrap();
        buffer.settle(&seqs([seq]));
    }
    let written = |count: usize| ids_file(log_id, &ids[..count]);
    let read = || fs::read(dir.path().join(name)).unwrap_or_default();
    until(|| (1..=30).any(|count| read() == written(count))).await;
    until(|| files(dir.path(), ".segment").len() <= 3).await;
    buffer.close().await;
    drop(buffer);
    // What the log does not say any more the file says, with the ids that it has now.
    let mut others = ids.clone();
    others[0].0 = MessageId::new([0x77; 16]);
    fs::write(dir.path().join(name), ids_file(log_id, &others)).unwrap();
    let (buffer, recovered) = open(dir.path(), config);
    assert_eq!(recovered.ids_lost, 0);
    assert_eq!(buffer.lookup(&MessageId::new([0x77; 16])), Some(Seq(1)));
    assert_eq!(buffer.lookup(&message(998, 0).id), Some(Seq(2)));
}
