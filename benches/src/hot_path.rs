//! The hot path in pieces that can be counted: each does the same for every step, and nothing that
//! waits, so that the instructions of a step are the same in every run.

use std::hint::black_box;
use std::time::Instant;

use alys_stream_messaging::outbox::{Action, Budget};
use alys_stream_messaging::queue::{Entry, PriorityQueue};
use alys_stream_messaging::{EndpointId, Outbox, OutboxConfig, Policy, RecordMeta, Route};
use alys_stream_protocol::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use alys_stream_protocol::message::{Message, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{Data, Frame, Record, frame};
use bytes::{Bytes, BytesMut};
use prost::Message as _;

use crate::pair::Pair;
use crate::{NOW, message};

/// Records of a batch.
const BATCH: u64 = 128;

/// Every piece, and how many messages one step of it is about.
pub const PIECES: [(&str, u64); 5] =
    [("encode", BATCH), ("decode", BATCH), ("session", BATCH), ("outbox", BATCH), ("queue", 1)];

/// Does so many steps of a piece; `false` when there is none of that name.
#[must_use]
pub fn run(name: &str, steps: u64) -> bool {
    match name {
        "encode" => encode(steps),
        "decode" => decode(steps),
        "session" => session(steps),
        "outbox" => {
            outbox(steps);
        }
        "queue" => queue(steps),
        _ => return false,
    }
    true
}

fn batch() -> Frame {
    let records = (1..=BATCH).map(|seq| Record::from_message(Seq(seq), &message(seq))).collect();
    Frame { kind: Some(frame::Kind::Data(Data { records, ..Data::default() })) }
}

fn encode(steps: u64) {
    let (frame, mut out) = (batch(), BytesMut::with_capacity(128 * 1024));
    for _ in 0..steps {
        out.clear();
        black_box(&frame).encode(&mut out).expect("there is room");
        black_box(out.len());
    }
}

fn decode(steps: u64) {
    let encoded = Bytes::from(batch().encode_to_vec());
    for _ in 0..steps {
        black_box(Frame::decode(black_box(&encoded).clone()).expect("a frame of our own"));
    }
}

#[expect(clippy::disallowed_methods, reason = "driver: any moment will do")]
fn session(steps: u64) {
    let messages: Vec<Message> = (0..BATCH).map(message).collect();
    let mut pair = Pair::new(Instant::now());
    for _ in 0..steps {
        black_box(pair.carry(&messages));
    }
}

/// A batch from acceptance to settlement, with one connected endpoint.
///
/// # Panics
///
/// When something is not settled.
pub fn outbox(steps: u64) {
    let mut outbox = Outbox::new(OutboxConfig::default());
    let endpoint = EndpointId(0);
    outbox.handle_endpoint_added(endpoint, "gov-1").expect("there is room");
    outbox.handle_connected(endpoint, &SeqSet::new());
    let route = Route { policy: Policy::Any, awaits_answer: false };
    let (sample, budget) = (message(0), Budget::new(u32::MAX, u64::MAX));
    for step in 0..steps {
        let first = step * BATCH + 1;
        for seq in first..first + BATCH {
            outbox.handle_accepted(NOW, RecordMeta::new(Seq(seq), NOW, &sample), route);
        }
        loop {
            let sent = outbox.poll_batch(NOW, endpoint, budget, BATCH_RECORDS_MAX, BATCH_BYTES_MAX);
            if sent.is_empty() {
                break;
            }
            outbox.handle_ack(endpoint, &sent.into_iter().collect());
        }
        let mut settled = 0;
        while let Some(action) = outbox.poll_action() {
            if let Action::Settle { seqs } = action {
                settled += seqs.count();
                outbox.handle_ends_durable(&seqs);
            }
        }
        assert_eq!(settled, BATCH);
    }
}

fn queue(steps: u64) {
    let entry = |number: u64| Entry { seq: Seq(number), bytes: 256, since: NOW };
    let priority = |number: u64| Priority::ALL[usize::try_from(number % 4).expect("small")];
    let mut queue = PriorityQueue::new();
    for number in 0..10_000 {
        queue.push(priority(number), entry(number));
    }
    for number in 10_000..10_000 + steps {
        queue.push(priority(number), entry(number));
        black_box(queue.pop(NOW));
    }
}
