//! Blocks both ways: round trips, what does not shrink, and what a peer may not pack.

use alys_stream_protocol::message::Seq;

use super::*;
use crate::session::tests::message;

fn data(count: u64, bytes: usize) -> Data {
    let record = |seq| Record::from_message(Seq(seq), &message(seq, bytes));
    Data { records: (1..=count).map(record).collect(), settled_below: 1, ..Data::default() }
}

/// A block as a peer may make it.
fn block(plain: &[u8]) -> Bytes {
    Compressor::new(LEVEL).unwrap().compress(plain).unwrap().into()
}

fn inflate(compressed: Bytes, uncompressed_bytes: u32, bytes_max: usize) -> String {
    let mut data = Data { compressed, uncompressed_bytes, ..Data::default() };
    let result = Inflate::default().inflate(&mut data, bytes_max);
    result.map_or_else(|violation| violation.to_string(), |()| data.records.len().to_string())
}

#[test]
fn a_batch_comes_back_as_it_was_and_contexts_are_used_again() {
    let (mut squeeze, mut inflate) = (Squeeze::default(), Inflate::default());
    for count in [1, 100, 7, 128] {
        let whole = data(count, 300);
        let mut packed = whole.clone();
        let (before, after) = squeeze.compress(&mut packed).unwrap();
        assert!(after * 3 < before, "{before} to {after}");
        assert!(packed.records.is_empty() && packed.compressed.len() == after);
        inflate.inflate(&mut packed, before).unwrap();
        assert_eq!(packed, whole);
    }
}

#[test]
fn a_batch_that_does_not_shrink_stays_as_it_is() {
    let mut rng = fastrand::Rng::with_seed(3);
    let mut noise = data(3, 0);
    for record in &mut noise.records {
        record.payload = (0..400).map(|_| rng.u8(..)).collect();
    }
    let whole = noise.clone();
    let (before, after) = Squeeze::default().compress(&mut noise).unwrap();
    assert!(after * 10 > before * 9, "{before} to {after}");
    if noise.compressed.is_empty() {
        assert_eq!(noise, whole);
    }
    let mut hard = Data {
        records: vec![Record {
            payload: (0..9).map(|_| rng.u8(..)).collect(),
            ..Record::default()
        }],
        ..Data::default()
    };
    let whole = hard.clone();
    Squeeze::default().compress(&mut hard).unwrap();
    assert_eq!(hard, whole);
}

#[test]
fn what_a_peer_may_not_pack_is_refused_by_name() {
    let bound = 256 * 1024;
    let zeros = block(&vec![0; 64 * 1024 * 1024]);
    assert!(zeros.len() < 10_000, "a bomb");
    let mut lying = zeros.to_vec();
    // The frame header with a content size of four bytes: magic, descriptor, then window or size.
    let size_at = 4 + 1 + usize::from(lying[4] & 0x20 == 0);
    lying[size_at..size_at + 4].copy_from_slice(&1000_u32.to_le_bytes());
    let batch = Batch { records: data(129, 0).records }.encode_to_vec();
    let shown = [
        inflate(zeros.clone(), 64 * 1024 * 1024, bound),
        inflate(zeros, 1000, bound),
        inflate(lying.into(), 1000, bound),
        inflate(block(&batch), u32::try_from(batch.len()).unwrap(), bound),
        inflate(block(b"\x12\x00"), 2, bound),
        inflate(block(b"\x0a\x7f"), 2, bound),
        inflate(block(b"\x0a"), 1, bound),
        inflate(Bytes::from_static(b"nonsense"), 8, bound),
        inflate(block(b"\x0a\x00\x0a\x00"), 4, bound),
    ];
    expect_test::expect![[r#"
        a compressed batch of 67108864 bytes, of which at most 262144 can be valid
        a compressed batch is unreadable: its length is not the one stated
        a compressed batch is unreadable: Destination buffer is too small
        a batch of 129 records, allowed are 128
        a compressed batch is unreadable: it holds something else than records
        a compressed batch is unreadable: it holds something else than records
        a compressed batch is unreadable: failed to decode Protobuf message: invalid varint
        a compressed batch is unreadable: its length is not the one stated
        2"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn records_beside_a_block_are_refused() {
    let mut both = data(1, 1);
    both.compressed = block(b"\x0a\x00");
    both.uncompressed_bytes = 2;
    assert!(Inflate::default().inflate(&mut both, 100).is_err());
}
