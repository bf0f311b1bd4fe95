//! The protocol layer: frames, validation, sets of numbers.

use std::hint::black_box;

use alys_stream_benches::{NOW, message};
use alys_stream_protocol::governance::{
    PeginNotification, RequestMetadata, StreamRequest, stream_request,
};
use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{Data, Frame, Record, frame};
use alys_stream_protocol::validate;
use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;

/// Numbers in the set that another is put into.
const NUMBERS: u64 = 10_000;

fn data() -> Frame {
    let records = vec![Record::from_message(Seq(1), &message(1))];
    Frame { kind: Some(frame::Kind::Data(Data { records, ..Data::default() })) }
}

/// A frame with one record of 256 bytes, to bytes and back.
fn frames(c: &mut Criterion) {
    let frame = data();
    let encoded = Bytes::from(frame.encode_to_vec());
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(1));
    let mut out = BytesMut::with_capacity(4096);
    group.bench_function("encode_256", |b| {
        b.iter(|| {
            out.clear();
            black_box(&frame).encode(&mut out).expect("there is room");
            black_box(out.len())
        });
    });
    group.bench_function("decode_256", |b| {
        b.iter(|| Frame::decode(black_box(&encoded).clone()).expect("a frame"));
    });
    group.finish();
}

/// Checking a peg-in, as every message is checked before it is stored.
fn checks(c: &mut Criterion) {
    let request = StreamRequest {
        metadata: Some(RequestMetadata {
            request_id: MessageId::new([7; 16]).to_string(),
            timestamp: NOW.as_unix_seconds(),
            node_id: "alys-1".to_owned(),
            protocol_version: "1.0".to_owned(),
            priority: 2,
            timeout: None,
        }),
        payload: Some(stream_request::Payload::PeginNotification(PeginNotification {
            btc_txid: "ab".repeat(32),
            vout: 0,
            amount: 100_000,
            evm_address: "0x00112233445566778899aabbccddeeff00112233".to_owned(),
            confirmations: 6,
            extra_data: None,
        })),
    };
    validate::request(&request).expect("it is valid");
    c.bench_function("validate/pegin", |b| b.iter(|| validate::request(black_box(&request))));
}

/// Putting a number into a set with holes, and taking in the next one in order.
fn sets(c: &mut Criterion) {
    let holes: SeqSet = (0..NUMBERS).map(|number| Seq(2 * number + 1)).collect();
    let mut group = c.benchmark_group("seq_set");
    group.bench_function("insert_into_holes", |b| {
        let mut number = 0;
        b.iter_batched_ref(
            || holes.clone(),
            |set| {
                number = (number + 7) % NUMBERS;
                set.insert(Seq(2 * number + 2))
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("insert_in_order", |b| {
        let (mut set, mut number) = (SeqSet::new(), 0);
        b.iter(|| {
            number += 1;
            set.insert(Seq(number))
        });
    });
    group.finish();
}

criterion_group!(benches, frames, checks, sets);
criterion_main!(benches);
