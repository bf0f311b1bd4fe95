//! All 15 frames of `alys.stream.v1`, and what else it encodes.

use alys_stream_protocol::session::frame::Kind;
use alys_stream_protocol::session::*;
use bytes::Bytes;

use crate::cases::Cases;

const SIXTEEN: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn record() -> Record {
    Record {
        seq: 7,
        message_id: Bytes::from_static(&SIXTEEN),
        kind: 20,
        priority: Priority::Critical.into(),
        flags: Record::FLAG_REPLAYED,
        deadline_ms: 1_700_000_000_123,
        ordering_key: Bytes::from_static(b"peg"),
        traceparent: "00-ab-cd-01".into(),
        payload: Bytes::from_static(&[0xca, 0xfe]),
    }
}

fn ranges() -> Vec<SeqRange> {
    vec![SeqRange { first: 1, last: 5 }, SeqRange { first: 9, last: 300 }]
}

fn auth() -> AuthProof {
    AuthProof {
        scheme: AuthScheme::Bearer.into(),
        credential: Bytes::from_static(b"secret"),
        expires_at_ms: 1_700_000_002_000,
    }
}

fn load() -> LoadReport {
    LoadReport { queued_messages: 3, busy_permille: 250 }
}

fn hello() -> Hello {
    Hello {
        node_id: "alys-1".into(),
        log_id: Bytes::from_static(&SIXTEEN),
        epoch: 3,
        next_seq: 301,
        settled_below: 6,
        features: vec!["zstd".into(), "drain".into()],
        software: "alys-stream 0.1".into(),
        auth: Some(auth()),
        receive_cursors: vec![ReceiveCursor {
            log_id: Bytes::from_static(&[0xff; 16]),
            received: ranges(),
            highest_seq_seen: 300,
            seen_epoch: 2,
            seen_epoch_nonce: 0x0102_0304_0506_0708,
            forgotten_epoch: 2,
            forgotten_epoch_nonce: 0x2122_2324_2526_2728,
            forgotten_settled_count: 7,
        }],
        credit_messages: 1024,
        credit_bytes: 8_388_608,
        message_bytes_max: 4_194_304,
        epoch_nonce: 0x1112_1314_1516_1718,
    }
}

fn welcome() -> Welcome {
    Welcome {
        session_id: "s-1".into(),
        peer_id: "gov-1".into(),
        peer_log_id: Bytes::from_static(&[0xff; 16]),
        peer_epoch: 2,
        next_seq: 11,
        settled_below: 4,
        received: ranges(),
        highest_seq_seen: 300,
        credit_messages: 512,
        credit_bytes: 4_194_304,
        heartbeat_interval_ms: 15_000,
        message_bytes_max: 4_194_304,
        features: vec!["zstd".into()],
        server_time_ms: 1_700_000_000_123,
        software: "gov 1".into(),
        peer_epoch_nonce: 0x2122_2324_2526_2728,
        seen_epoch: 3,
        seen_epoch_nonce: 0x1112_1314_1516_1718,
        forgotten_epoch: 3,
        forgotten_epoch_nonce: 0x1112_1314_1516_1718,
        forgotten_settled_count: 299,
    }
}

/// Frames that open, refuse and close a session.
fn handshake() -> [(Kind, Kind); 7] {
    let refuse = Refuse {
        code: RefuseCode::LogRolledBack.into(),
        reason: "rolled back".into(),
        retry_after_ms: 1500,
    };
    let drain = Drain { deadline_ms: 30_000, reason: "restart".into() };
    [
        (Kind::Hello(hello()), Kind::Hello(Hello::default())),
        (Kind::Welcome(welcome()), Kind::Welcome(Welcome::default())),
        (Kind::Refuse(refuse), Kind::Refuse(Refuse::default())),
        (
            Kind::AuthRefresh(AuthRefresh { auth: Some(auth()) }),
            Kind::AuthRefresh(AuthRefresh::default()),
        ),
        (Kind::Suspend(Suspend { reason: "busy".into() }), Kind::Suspend(Suspend::default())),
        (Kind::Resume(Resume { reason: "idle".into() }), Kind::Resume(Resume::default())),
        (Kind::Drain(drain), Kind::Drain(Drain::default())),
    ]
}

/// Frames that move messages.
fn traffic() -> [(Kind, Kind); 8] {
    let data = Data {
        settled_below: 6,
        acks_durable: 2,
        records: vec![record(), Record { seq: 8, ..Record::default() }],
        compressed: Bytes::from_static(&[0x28, 0xb5]),
        uncompressed_bytes: 4096,
        settled_count: 5,
    };
    let nack = Nack {
        seq: 7,
        kind: NackKind::Terminal.into(),
        retry_after_ms: 250,
        code: 8,
        text: "bad".into(),
    };
    let heartbeat = Heartbeat {
        sequence: 1,
        sent_at_ms: 1_700_000_000_123,
        acks_durable: 2,
        settled_below: 6,
        load: Some(load()),
        settled_count: 5,
    };
    let heartbeat_ack = HeartbeatAck {
        sequence: 1,
        sent_at_ms: 1_700_000_000_456,
        acks_durable: 3,
        settled_below: 4,
        load: Some(load()),
        settled_count: 4,
    };
    let gap = Gap {
        range: Some(SeqRange { first: 1, last: 5 }),
        cause: GapCause::Corruption.into(),
        text: "crc".into(),
    };
    let chunk = Chunk {
        transfer: 3,
        record: Some(Record { payload: Bytes::new(), ..record() }),
        payload_bytes: 300_000,
        part: Bytes::from_static(&[0xca, 0xfe]),
        settled_below: 6,
        acks_durable: 2,
        settled_count: 6,
    };
    [
        (Kind::Data(data), Kind::Data(Data::default())),
        (Kind::Ack(Ack { ack_id: 5, ranges: ranges() }), Kind::Ack(Ack::default())),
        (Kind::Nack(nack), Kind::Nack(Nack::default())),
        (Kind::Credit(Credit { messages: 64, bytes: 262_144 }), Kind::Credit(Credit::default())),
        (Kind::Heartbeat(heartbeat), Kind::Heartbeat(Heartbeat::default())),
        (Kind::HeartbeatAck(heartbeat_ack), Kind::HeartbeatAck(HeartbeatAck::default())),
        (Kind::Gap(gap), Kind::Gap(Gap::default())),
        (Kind::Chunk(chunk), Kind::Chunk(Chunk::default())),
    ]
}

#[test]
fn frames() {
    let cases = Cases::read("session/Frame");
    for (full, empty) in handshake().into_iter().chain(traffic()) {
        let name = full.as_str();
        cases.exact(name, &Frame::from(full));
        cases.exact(&format!("empty {name}"), &Frame::from(empty));
    }
    let drain = Drain { deadline_ms: 30_000, reason: "restart".into() };
    cases.decodes("unknown fields", &Frame::from(Kind::Drain(drain)));
    cases.decodes("unknown kind", &Frame { kind: None });
    let suspend = Suspend { reason: "busy".into() };
    cases.decodes("last kind wins", &Frame::from(Kind::Suspend(suspend)));
    let refuse = Refuse { code: 999, ..Refuse::default() };
    cases.exact("unknown enum numbers", &Frame::from(Kind::Refuse(refuse)));
    let heartbeat = Heartbeat { sent_at_ms: -1, ..Heartbeat::default() };
    cases.exact("negative numbers", &Frame::from(Kind::Heartbeat(heartbeat)));
    cases.done();
}

#[test]
fn batches_and_signature_sets() {
    let cases = Cases::read("session/Batch");
    let records = vec![record(), Record { seq: 8, ..Record::default() }];
    cases.exact("every field", &Batch { records });
    cases.exact("nothing", &Batch::default());
    cases.done();
    let cases = Cases::read("session/SignatureSet");
    let of = |id: &str, bytes: &'static [u8]| MemberSignature {
        member_id: id.into(),
        signature: Bytes::from_static(bytes),
    };
    let signatures = vec![of("member-1", &[1, 2]), of("m2", &[3])];
    cases.exact("every field", &SignatureSet { signatures });
    cases.exact("nothing", &SignatureSet::default());
    cases.done();
}

/// The payload of a received record is a view into the bytes that came off the wire (P5).
#[test]
fn payloads_are_not_copied_when_a_frame_is_decoded() {
    use prost::Message as _;
    let data = Data { records: vec![record()], ..Data::default() };
    let wire = Bytes::from(Frame::from(Kind::Data(data)).encode_to_vec());
    let Some(Kind::Data(data)) = Frame::decode(wire.clone()).unwrap().kind else {
        panic!("a data frame");
    };
    assert!(wire.as_ptr_range().contains(&data.records[0].payload.as_ptr()));
}
