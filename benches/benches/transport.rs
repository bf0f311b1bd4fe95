//! The transport layer: a batch through two session machines, and the choice of an endpoint.

use std::hint::black_box;
use std::time::{Duration, Instant};

use alys_stream_benches::{NOW, message};
use alys_stream_protocol::limits::BATCH_RECORDS_MAX;
use alys_stream_protocol::message::{Seq, Settled};
use alys_stream_protocol::session::Frame;
use alys_stream_transport::balance::{
    BalanceConfig, Balancer, Candidate, EndpointKey, EndpointTraits, Policy,
};
use alys_stream_transport::exchange::OutboundRecord;
use alys_stream_transport::session::features::Features;
use alys_stream_transport::session::{Event, Limits, LocalView, Session, SessionConfig, Terms};
use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;

/// Endpoints to choose from, as many as a small federation has.
const ENDPOINTS: u16 = 3;

fn session(at: Instant) -> Session {
    let terms = Terms {
        session_id: "bench".to_owned(),
        peer_id: "peer".to_owned(),
        send: Limits::default(),
        receive: Limits::default(),
        heartbeat_interval: None,
        features: Features::ALL.names(),
        software: "bench/1".to_owned(),
        highest_sent: Seq(0),
        peer_settled_below: Seq::FIRST,
    };
    Session::new(at, terms, SessionConfig::default())
}

/// Two machines, what the sender's disk has settled, and room for a frame.
struct Pair {
    at: Instant,
    near: Session,
    far: Session,
    next: u64,
    acks_durable: u64,
    room: BytesMut,
}

impl Pair {
    fn new(at: Instant) -> Self {
        let (near, far) = (session(at), session(at));
        Self { at, near, far, next: 1, acks_durable: 0, room: BytesMut::new() }
    }

    fn view(&self) -> LocalView {
        let acks_durable = self.acks_durable;
        LocalView { settled: Settled::known_below(Seq(self.next)), acks_durable, wall: NOW }
    }

    /// To bytes and back, as on a wire.
    fn carried(&mut self, frame: &Frame) -> Frame {
        frame.encode(&mut self.room).expect("there is room");
        let encoded: Bytes = self.room.split().freeze();
        Frame::decode(encoded).expect("a frame")
    }

    /// A full batch leaves, is stored, and is acknowledged; credit comes back. How many were.
    fn batch(&mut self) -> u64 {
        let view = self.view();
        let count = u64::try_from(BATCH_RECORDS_MAX).expect("small");
        let records: Vec<OutboundRecord> = (self.next..self.next + count)
            .map(|seq| OutboundRecord { seq: Seq(seq), message: message(seq) })
            .collect();
        let sent = self.near.handle_send(self.at, view, &records);
        let frame = sent.expect("there is credit").expect("a batch");
        let frame = self.carried(&frame);
        self.far.handle_frame(self.at, frame).expect("nothing is wrong with it");
        while let Some(event) = self.far.poll_event() {
            let Event::Received(records) = event else { continue };
            for record in records {
                let bytes = u64::try_from(record.message.payload.len()).expect("small");
                self.far.handle_stored(self.at, record.seq, bytes);
            }
        }
        while let Some(frame) = self.far.poll_frame(self.at, self.view()) {
            let frame = self.carried(&frame);
            self.near.handle_frame(self.at, frame).expect("nothing is wrong with it");
        }
        let mut acked = 0;
        while let Some(event) = self.near.poll_event() {
            if let Event::Acked { ack_id, ranges } = event {
                self.acks_durable = ack_id;
                acked += ranges.count();
            }
        }
        self.next += count;
        acked
    }
}

/// A batch of 128 records through both machines and the codec, up to its acknowledgement.
fn batches(c: &mut Criterion) {
    let mut pair = Pair::new(now());
    let count = u64::try_from(BATCH_RECORDS_MAX).expect("small");
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(count));
    group.bench_function("batch_to_ack_128", |b| b.iter(|| assert_eq!(pair.batch(), count)));
    group.finish();
}

/// One message is given an endpoint, sent and acknowledged, by each policy.
fn choices(c: &mut Criterion) {
    let at = now();
    let mut group = c.benchmark_group("balance");
    group.throughput(Throughput::Elements(1));
    for policy in Policy::ALL {
        let config = BalanceConfig { policy, ..BalanceConfig::default() };
        let mut balancer = Balancer::new(config, 1);
        let keys: Vec<EndpointKey> = (0..ENDPOINTS).map(EndpointKey).collect();
        for key in &keys {
            balancer.handle_endpoint_added(at, *key, EndpointTraits::default());
            balancer.handle_up(at, *key);
        }
        let candidates: Vec<Candidate> = keys.iter().map(|key| Candidate::new(*key, 0)).collect();
        group.bench_function(format!("choose_{policy:?}"), |b| {
            b.iter(|| {
                let chosen = balancer.choose(at, black_box(&candidates)).expect("all are up");
                balancer.handle_sent(at, chosen, 1);
                balancer.handle_acked(at, chosen, 1, Duration::from_millis(1));
                chosen
            });
        });
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "driver: what is measured is time")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, batches, choices);
criterion_main!(benches);
