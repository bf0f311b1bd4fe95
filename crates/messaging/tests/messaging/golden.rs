//! The bytes on disk, written from the tables of the `format`, `record` and `buffer` modules by
//! other means than this crate: a reader of today must read them for ever.

use std::fs;

use alys_stream_protocol::message::OrderingKey;

use super::*;

const IDENTITY: &[u8] = include_bytes!("../../testdata/identity-v1.bin");
const SEGMENT: &[u8] = include_bytes!("../../testdata/segment-v1.bin");

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
    assert_eq!(written.len(), SEGMENT.len());
    let differs = written.iter().zip(SEGMENT).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first difference");
}

#[test]
fn they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("identity"), IDENTITY).unwrap();
    fs::write(dir.path().join("0000000000000001.segment"), SEGMENT).unwrap();
    let (buffer, recovered) = open(dir.path(), config());
    assert_eq!((recovered.entries, recovered.gaps.len(), recovered.torn_tail), (3, 0, None));
    assert_eq!(buffer.settled_below(), Seq(2));
    assert_eq!(buffer.lookup(&first().id), Some(Seq(1)));
    assert_eq!(buffer.read(Seq(2)).unwrap(), Some(second()));
    let meta = &metas(&buffer)[0];
    assert_eq!((meta.kind, meta.accepted_at), (MessageKind(1000), NOW));
}
