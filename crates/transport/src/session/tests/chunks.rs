//! Long records: in parts, without a copy, and whatever happens to them on their way.

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{OrderingKey, Settled};
use alys_stream_protocol::session::{Chunk, Data};

use super::*;

const LIMITS: Limits =
    Limits { credits: Credits { messages: 16, bytes: 1024 * 1024 }, message_bytes_max: 512 * 1024 };

fn pair(now: Instant) -> [Session; 2] {
    let mut sides = [Side::new(1, 2), Side::new(2, 1)];
    let config = SessionConfig::default();
    connect_with(now, &mut sides, LIMITS, Features::ALL, [config, config]).sessions
}

const fn view(settled_below: u64) -> LocalView {
    LocalView {
        settled: Settled::known_below(Seq(settled_below)),
        acks_durable: 0,
        wall: UnixMillis(1),
    }
}

fn received(session: &mut Session) -> Vec<Seq> {
    let mut received = Vec::new();
    while let Some(event) = session.poll_event() {
        if let Event::Received(records) = event {
            received.extend(records.into_iter().map(|record| record.seq));
        }
    }
    received
}

/// Moves every part that there is; returns how many.
fn pump(now: Instant, near: &mut Session, far: &mut Session, view: LocalView) -> usize {
    let parts = std::iter::from_fn(|| near.poll_part(now, view));
    parts.map(|frame| far.handle_frame(now, frame).unwrap()).count()
}

/// Up to the encoder a payload is the very bytes of the message, and the encoder writes them once.
#[test]
fn a_payload_is_copied_once_between_the_cache_and_the_wire() {
    use prost::Message as _;
    let now = start();
    let [mut near, _] = pair(now);
    let (short, long) = (record(1, 60_000), record(2, 300_000));
    let inside = |whole: &Bytes, part: &Bytes| {
        let whole = whole.as_ptr_range();
        part.is_empty() || (whole.contains(&part.as_ptr()) && part.as_ptr_range().end <= whole.end)
    };
    let frame = near.handle_send(now, view(1), &[short.clone(), long.clone()]).unwrap().unwrap();
    let Some(frame::Kind::Data(data)) = &frame.kind else { panic!("{frame:?}") };
    assert_eq!(data.records[0].payload.as_ptr(), short.message.payload.as_ptr(), "P5");
    let mut encoded = frame.encoded_len();
    while let Some(frame) = near.poll_part(now, view(1)) {
        let Some(frame::Kind::Chunk(chunk)) = &frame.kind else { panic!("{frame:?}") };
        assert!(chunk.part.len() <= limits::CHUNK_BYTES, "T33");
        assert!(inside(&long.message.payload, &chunk.part), "T34");
        encoded += frame.encoded_len();
    }
    // What the encoder writes: each payload byte once, and little else.
    assert!((360_000..361_000).contains(&encoded), "{encoded}");
}

#[test]
fn a_long_record_is_received_with_its_last_part_and_acknowledged_as_any() {
    let now = start();
    let [mut near, mut far] = pair(now);
    assert_eq!(near.handle_send(now, view(1), &[record(1, 300_000)]).unwrap(), None);
    assert_eq!(near.in_flight(), 1);
    let full = near.credit();
    assert_eq!(full, Credits { messages: 15, bytes: 1024 * 1024 - 300_000 });
    assert!(near.has_part() && !near.has_critical_part());
    assert_eq!(pump(now, &mut near, &mut far, view(1)), 5);
    assert_eq!(received(&mut far), [Seq(1)]);
    assert_eq!(far.processing(), Credits { messages: 1, bytes: 300_000 });
    far.handle_stored(now, Seq(1), 300_000);
    let later = now + Duration::from_secs(1);
    while let Some(frame) = far.poll_frame(later, view(1)) {
        near.handle_frame(later, frame).unwrap();
    }
    assert_eq!(near.in_flight(), 0);
}

#[test]
fn what_was_cut_is_put_together_as_it_was() {
    let now = start();
    let [mut near, mut far] = pair(now);
    let bytes = (0..300_001_u32).map(|place| place.to_le_bytes()[usize::from(place % 7 == 0)]);
    let message = Message {
        payload: bytes.collect(),
        traceparent: Some("00-ab-cd-01".into()),
        ..message(1, 0)
    };
    let sent = OutboundRecord { seq: Seq(1), message };
    near.handle_send(now, view(1), std::slice::from_ref(&sent)).unwrap();
    pump(now, &mut near, &mut far, view(1));
    let mut arrived = Vec::new();
    while let Some(event) = far.poll_event() {
        if let Event::Received(records) = event {
            arrived.extend(records);
        }
    }
    assert_eq!(arrived.len(), 1);
    assert!((arrived[0].seq, &arrived[0].message) == (sent.seq, &sent.message));
}

#[test]
fn what_follows_a_long_record_of_its_key_arrives_after_it() {
    let now = start();
    let [mut near, mut far] = pair(now);
    let keyed = |seq, bytes, key: &'static str| {
        let key = Bytes::from_static(key.as_bytes());
        let ordering_key = Some(OrderingKey::try_new(key).unwrap());
        let message = Message { ordering_key, ..message(seq, bytes) };
        OutboundRecord { seq: Seq(seq), message }
    };
    let records = [keyed(1, 200_000, "a"), keyed(2, 10, "a"), keyed(3, 10, "b"), record(4, 10)];
    let batch = near.handle_send(now, view(1), &records).unwrap().unwrap();
    far.handle_frame(now, batch).unwrap();
    let empty = near.handle_send(now, view(1), &[keyed(5, 0, "a")]).unwrap();
    assert_eq!(empty, None);
    pump(now, &mut near, &mut far, view(1));
    assert_eq!(received(&mut far), [3, 4, 1, 2, 5].map(Seq), "T60");
    // Its key is free again.
    assert!(near.handle_send(now, view(1), &[keyed(6, 10, "a")]).unwrap().is_some());
}

#[test]
fn what_is_settled_on_its_way_is_neither_awaited_nor_applied() {
    let now = start();
    let [mut near, mut far] = pair(now);
    let records = [record(1, 200_000), record(2, 200_000)];
    assert_eq!(near.handle_send(now, view(1), &records).unwrap(), None);
    let first = near.poll_part(now, view(1)).unwrap();
    far.handle_frame(now, first).unwrap();
    // Both are settled elsewhere: the one that began goes on, the other one is withdrawn.
    assert_eq!(pump(now, &mut near, &mut far, view(3)), 3);
    assert_eq!(received(&mut far), [], "T59");
    assert_eq!(far.processing(), Credits::default(), "T7");
    assert_eq!(near.in_flight(), 0, "T59");
    assert_eq!(near.credit(), Credits { messages: 15, bytes: 1024 * 1024 - 200_000 });
    // The stream carries on as before.
    let batch = near.handle_send(now, view(3), &[record(3, 10)]).unwrap().unwrap();
    far.handle_frame(now, batch).unwrap();
    assert_eq!(received(&mut far), [Seq(3)]);
}

#[test]
fn a_drain_lets_finish_what_has_begun_and_a_suspension_holds_all() {
    let now = start();
    let [mut near, mut far] = pair(now);
    let records = [record(1, 200_000), record(2, 200_000)];
    near.handle_send(now, view(1), &records).unwrap();
    let first = near.poll_part(now, view(1)).unwrap();
    far.handle_frame(now, first).unwrap();
    near.handle_frame(now, frame::Kind::Suspend(session::Suspend::default()).into()).unwrap();
    assert_eq!(near.poll_part(now, view(1)), None, "T14");
    near.handle_frame(now, frame::Kind::Resume(session::Resume::default()).into()).unwrap();
    near.handle_drain(now, Duration::from_secs(30), "age".into());
    assert_eq!(pump(now, &mut near, &mut far, view(1)), 3);
    assert_eq!(received(&mut far), [Seq(1)]);
    far.handle_stored(now, Seq(1), 200_000);
    let later = now + Duration::from_secs(1);
    while let Some(frame) = far.poll_frame(later, view(1)) {
        near.handle_frame(later, frame).unwrap();
    }
    while near.poll_frame(later, view(1)).is_some() {}
    assert!(near.is_finished(later), "the other one goes back to its queue");
}

#[test]
fn urgent_parts_come_first_and_transfers_may_overlap() {
    let now = start();
    let [mut near, mut far] = pair(now);
    near.handle_send(now, view(1), &[record(1, 200_000)]).unwrap();
    let first = near.poll_part(now, view(1)).unwrap();
    far.handle_frame(now, first).unwrap();
    let urgent = Message { priority: Priority::Critical, ..message(2, 200_000) };
    near.handle_send(now, view(1), &[OutboundRecord { seq: Seq(2), message: urgent }]).unwrap();
    assert!(near.has_critical_part());
    pump(now, &mut near, &mut far, view(1));
    assert_eq!(received(&mut far), [Seq(2), Seq(1)]);
}

#[test]
fn parts_out_of_order_are_refused_by_name() {
    let bare =
        |seq| Record { payload: Bytes::new(), ..Record::from_message(Seq(seq), &message(seq, 0)) };
    let chunk = |transfer, record, payload_bytes, part: usize| Chunk {
        transfer,
        record,
        payload_bytes,
        part: vec![7; part].into(),
        ..Chunk::default()
    };
    let first = |transfer, whole, part| chunk(transfer, Some(bare(transfer)), whole, part);
    let next = |transfer, part| chunk(transfer, None, 0, part);
    let cases = [
        vec![next(1, 5)],
        vec![first(2, 100, 5)],
        vec![first(1, 100, 5), first(1, 100, 5)],
        vec![first(1, 0, 5)],
        vec![first(1, 100, 0)],
        vec![first(1, 100, 50), next(1, 51)],
        vec![first(1, 600 * 1024, 5)],
        vec![first(1, 500 * 1024, 5), first(2, 500 * 1024, 5), first(3, 500 * 1024, 5)],
        vec![first(1, 100, 100), next(1, 5)],
        vec![Chunk { settled_below: 9, ..first(1, 100, 5) }],
        vec![chunk(1, Some(Record::from_message(Seq(1), &message(1, 9))), 100, 5)],
    ];
    let now = start();
    let refused = |chunks: Vec<Chunk>| {
        let [_, mut far] = pair(now);
        let mut frames = chunks.into_iter().map(|chunk| frame::Kind::Chunk(chunk).into());
        let refused = frames.find_map(|frame| far.handle_frame(now, frame).err());
        refused.map_or_else(|| "none".to_owned(), |violation| violation.to_string())
    };
    let mut shown: Vec<String> = cases.into_iter().map(refused).collect();
    let mut plain = session(now);
    let chunk = frame::Kind::Chunk(first(1, 100, 5)).into();
    shown.push(plain.handle_frame(now, chunk).unwrap_err().to_string());
    expect_test::expect![[r#"
        transfer 1 is not under way, and the next one would be 1
        transfer 2 is not under way, and the next one would be 1
        transfer 1 is not under way, and the next one would be 2
        a part of 5 bytes of transfer 1, of which 0 are missing
        a part of 0 bytes of transfer 1, of which 100 are missing
        a part of 51 bytes of transfer 1, of which 50 are missing
        record 1 has 614400 payload bytes, agreed are at most 524288
        a batch of 1 messages and 512000 bytes exceeds the credit granted
        transfer 1 is not under way, and the next one would be 2
        record 1 is below settled_below 9
        a payload beside its parts was not agreed in the handshake
        a record in parts was not agreed in the handshake"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn a_peer_without_features_gets_the_basics() {
    let now = start();
    let mut near = session(now);
    assert_eq!(near.compression(), Compression::Off);
    let sent = near.handle_send(now, view(1), &[record(1, 300)]).unwrap().unwrap();
    assert!(matches!(sent.kind, Some(frame::Kind::Data(Data { .. }))));
    assert!(!near.has_part());
    assert!(near.inflated_bytes_max().is_err());
    let [near, _] = pair(now);
    let bound = 1024 * 1024 + 16 * limits::RECORD_OVERHEAD_BYTES_MAX;
    assert_eq!(near.inflated_bytes_max(), Ok(bound), "T39");
}
