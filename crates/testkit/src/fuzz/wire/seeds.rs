//! What the corpora begin with: things that peers and operators really say.

use alys_stream_protocol::governance::{
    FederationConfig, FederationMember, FederationUpdate, PeginNotification, RequestMetadata,
    ResponseMetadata, StreamRequest, StreamResponse, stream_request, stream_response,
};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, OrderingKey, Priority, Seq};
use alys_stream_protocol::session::{
    Ack, AuthProof, AuthRefresh, AuthScheme, Batch, Chunk, Credit, Data, Drain, Frame, Gap,
    Heartbeat, Nack, Record, Resume, SeqRange, Suspend, frame,
};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::session::handshake;
use bytes::Bytes;
use prost::Message as _;

use super::{SETTLED_BELOW, Target, acceptance, credentials, filters, offer};

pub(super) fn of(target: Target) -> Vec<(String, Vec<u8>)> {
    let named = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    let owned = |(name, bytes): (&'static str, Vec<u8>)| named(name, bytes);
    match target {
        Target::Session => vec![
            named("data", session(&[data(51), ack(11, 12), data(54)])),
            named("control", session(&controls())),
            named("refusals", session(&[nack(11), gap(51, 53), data(54), ack(11, 49)])),
            named("twice", session(&[data(51), data(51)])),
            named("proof", session(&[proof(), data(51)])),
            named("compressed", session(&[compressed(), data(54)])),
            named("parts", session(&parts())),
        ],
        Target::Handshake => vec![
            named("hello", handshake::hello(&offer()).encode_to_vec()),
            named("welcome", handshake::welcome(&acceptance()).encode_to_vec()),
        ],
        Target::Decompression => vec![
            named("block", sized(batch().len(), &block(&batch()))),
            named("larger", sized(1 << 16, &block(&batch()))),
            named("smaller", sized(8, &block(&batch()))),
            named("plain", sized(64, &batch())),
        ],
        Target::Governance => vec![
            named("pegin", pegin().encode_to_vec()),
            named("update", response().encode_to_vec()),
            named("bare_update", update().encode_to_vec()),
        ],
        Target::Configuration => vec![
            named("node", NODE.as_bytes().to_vec()),
            named("node_full", NODE_FULL.as_bytes().to_vec()),
            named("governance", GOVERNANCE.as_bytes().to_vec()),
        ],
        Target::Credentials => credentials::seeds().into_iter().map(owned).collect(),
        Target::Filters => filters::seeds().into_iter().map(owned).collect(),
    }
}

fn batch() -> Vec<u8> {
    Batch { records: (51..54).map(record).collect() }.encode_to_vec()
}

/// A frame of zstd with one block that is stored as it is: a seed needs no compressor.
fn block(plain: &[u8]) -> Vec<u8> {
    // The magic number; one segment, with a size of four bytes; the size; the last block, stored.
    let size = u32::try_from(plain.len()).unwrap_or(u32::MAX);
    let header = ((size << 3) | 1).to_le_bytes();
    [
        [0x28, 0xB5, 0x2F, 0xFD, 0xA0].as_slice(),
        &size.to_le_bytes(),
        header.get(..3).unwrap_or_default(),
        plain,
    ]
    .concat()
}

fn record(seq: u64) -> Record {
    let message = Message {
        id: MessageId::new([0xC5; 16]),
        kind: MessageKind(1000),
        priority: Priority::High,
        deadline: Some(UnixMillis(1_900_000_000_000)),
        ordering_key: OrderingKey::try_new("key").ok(),
        traceparent: None,
        payload: Bytes::from_static(&[0xAB; 40]),
    };
    Record::from_message(Seq(seq), &message)
}

fn data(first: u64) -> Frame {
    let records = (first..first + 3).map(record).collect();
    let data = Data { records, settled_below: SETTLED_BELOW.0, ..Data::default() };
    Frame { kind: Some(frame::Kind::Data(data)) }
}

/// A batch as one block.
fn compressed() -> Frame {
    let plain = batch();
    let data = Data {
        compressed: block(&plain).into(),
        uncompressed_bytes: u32::try_from(plain.len()).unwrap_or(u32::MAX),
        settled_below: SETTLED_BELOW.0,
        ..Data::default()
    };
    Frame { kind: Some(frame::Kind::Data(data)) }
}

/// A record in two parts, and another one between them.
fn parts() -> [Frame; 3] {
    let head = Record { payload: Bytes::new(), ..record(60) };
    let part = |record: Option<Record>, payload_bytes| {
        let chunk = Chunk {
            transfer: 1,
            record,
            payload_bytes,
            part: Bytes::from_static(&[0xAB; 20]),
            settled_below: SETTLED_BELOW.0,
            ..Chunk::default()
        };
        Frame { kind: Some(frame::Kind::Chunk(chunk)) }
    };
    [part(Some(head), 40), data(51), part(None, 0)]
}

fn ack(first: u64, last: u64) -> Frame {
    let ranges = vec![SeqRange { first, last }];
    Frame { kind: Some(frame::Kind::Ack(Ack { ack_id: 1, ranges })) }
}

fn nack(seq: u64) -> Frame {
    let nack = Nack { seq, kind: 1, retry_after_ms: 50, code: 3, text: "later".to_owned() };
    Frame { kind: Some(frame::Kind::Nack(nack)) }
}

fn gap(first: u64, last: u64) -> Frame {
    let range = Some(SeqRange { first, last });
    Frame { kind: Some(frame::Kind::Gap(Gap { range, cause: 1, text: "damaged".to_owned() })) }
}

fn proof() -> Frame {
    let auth = AuthProof {
        scheme: AuthScheme::Bearer.into(),
        credential: Bytes::from_static(b"token"),
        expires_at_ms: 1_900_000_000_000,
    };
    Frame { kind: Some(frame::Kind::AuthRefresh(AuthRefresh { auth: Some(auth) })) }
}

fn controls() -> Vec<Frame> {
    let beat = Heartbeat {
        sequence: 1,
        sent_at_ms: 5,
        settled_below: SETTLED_BELOW.0,
        ..Heartbeat::default()
    };
    let reason = || "because".to_owned();
    [
        frame::Kind::Heartbeat(beat),
        frame::Kind::Credit(Credit { messages: 10, bytes: 1000 }),
        frame::Kind::Suspend(Suspend { reason: reason() }),
        frame::Kind::Resume(Resume { reason: reason() }),
        frame::Kind::Drain(Drain { deadline_ms: 100, reason: reason() }),
    ]
    .map(|kind| Frame { kind: Some(kind) })
    .to_vec()
}

fn session(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let encoded = frame.encode_to_vec();
        let length = u16::try_from(encoded.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&encoded);
    }
    bytes
}

fn sized(plain_bytes: usize, block: &[u8]) -> Vec<u8> {
    let size = u32::try_from(plain_bytes).unwrap_or(u32::MAX);
    [size.to_le_bytes().as_slice(), block].concat()
}

fn pegin() -> StreamRequest {
    let metadata = RequestMetadata {
        request_id: "0af76519-16cd-43dd-8448-eb211c80319c".to_owned(),
        ..RequestMetadata::default()
    };
    let pegin = PeginNotification {
        btc_txid: "ab".repeat(32),
        vout: 1,
        amount: 100_000,
        evm_address: "0x00112233445566778899aabbccddeeff00112233".to_owned(),
        confirmations: 6,
        extra_data: None,
    };
    let payload = Some(stream_request::Payload::PeginNotification(pegin));
    StreamRequest { metadata: Some(metadata), payload }
}

fn update() -> FederationUpdate {
    let member = |n: u8| FederationMember {
        member_id: format!("m{n}"),
        public_key: Bytes::from(vec![2; 33]),
        weight: 1,
        active: true,
    };
    let config = FederationConfig {
        signature_threshold: 2,
        parameters: [("version".to_owned(), "3".to_owned())].into(),
        ..FederationConfig::default()
    };
    FederationUpdate {
        update_type: 3,
        effective_height: 7,
        config: Some(config),
        members: vec![member(1), member(2)],
        update_signature: Bytes::from_static(&[1; 70]),
    }
}

fn response() -> StreamResponse {
    let payload = Some(stream_response::Payload::FederationUpdate(update()));
    StreamResponse { metadata: Some(ResponseMetadata::default()), payload }
}

const NODE: &str = "\
node: {id: node-1}
data_dir: data
endpoints:
  - {name: gov-1, url: 'https://gov-1.example:9443'}
";

const NODE_FULL: &str = "\
node: {id: node-1, region: eu, node_type: signer}
data_dir: data
endpoints:
  - {name: gov-1, url: 'http://127.0.0.1:9443', insecure: plaintext, weight: 3, dialect: plain}
transport: {heartbeat: {interval: 2s}, compression: always, breaker: {consecutive_failures: 3}}
buffer: {quota_bytes: 1073741824, when_full: drop_oldest_low}
router:
  kinds:
    application: {policy: {quorum: 1}, priority: high, deadline: 90s}
    1007: {policy: all, durability: os}
balance: {policy: peak_ewma}
shutdown: {drain: 5s}
";

const GOVERNANCE: &str = "\
id: gov-1
listen: 127.0.0.1:0
data_dir: data
keys: keys
insecure: plaintext_without_authentication
dialects: [session, plain]
limits: {connections_max: 10}
misbehave: {delay_ms: 20, refuse: {retryable: {after_ms: 5}}}
federation:
  network: regtest
  threshold: 1
  members: [{id: a, public_key: 0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798}]
";
