//! The messaging layer: durable appends, the priority queue, the outbox, opening a backlog.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use alys_stream_benches::{NOW, PAYLOAD_BYTES, message, open};
use alys_stream_messaging::outbox::{Action, Budget};
use alys_stream_messaging::queue::{Entry, PriorityQueue};
use alys_stream_messaging::{Buffer, EndpointId, Outbox, OutboxConfig, Policy, RecordMeta, Route};
use alys_stream_protocol::limits::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX};
use alys_stream_protocol::message::{Message, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Callers that append at the same time.
const PRODUCERS: u64 = 64;

/// Messages in the queue.
const QUEUED: [u64; 2] = [10_000, 10_000_000];

/// Messages in the backlog that is opened.
const BACKLOG: u64 = 100_000;

/// 64 callers, each appending a message and waiting until it is durable, over and over.
fn append(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir_in(".").expect("a directory on a disk");
    let buffer = open(dir.path());
    let mut group = c.benchmark_group("buffer");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(5));
    let mut number = 0;
    group.bench_function("append_durable_64_producers", |b| {
        b.iter_custom(|count| {
            let took = runtime.block_on(append_all(&buffer, number, count));
            number += count;
            let settled = buffer.settle(&buffer.unsettled());
            runtime.block_on(buffer.position_durable(settled)).expect("the disk works");
            took
        });
    });
    group.finish();
    runtime.block_on(buffer.close());
}

async fn append_all(buffer: &Buffer, first: u64, count: u64) -> Duration {
    let started = now();
    let mut tasks = JoinSet::new();
    for producer in 0..PRODUCERS {
        let buffer = buffer.clone();
        tasks.spawn(async move {
            let mut number = producer;
            while number < count {
                let accepted = buffer.append_one(NOW, message(first + number));
                let seq = accepted.expect("there is room").seq;
                buffer.durable(seq).await.expect("the disk works");
                number += PRODUCERS;
            }
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.expect("no producer panics");
    }
    started.elapsed()
}

/// One push and one pop, with many entries of every priority waiting.
fn queue(c: &mut Criterion) {
    let entry = |number: u64| Entry {
        seq: Seq(number),
        bytes: u32::try_from(PAYLOAD_BYTES).expect("small"),
        since: NOW,
    };
    let priority = |number: u64| Priority::ALL[usize::try_from(number % 4).expect("small")];
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(1));
    for queued in QUEUED {
        let mut queue = PriorityQueue::new();
        for number in 0..queued {
            queue.push(priority(number), entry(number));
        }
        let mut number = queued;
        group.bench_function(format!("push_pop_{queued}"), |b| {
            b.iter(|| {
                queue.push(priority(number), entry(number));
                number += 1;
                black_box(queue.pop(NOW))
            });
        });
    }
    group.finish();
}

/// A batch from acceptance to settlement, with one connected endpoint.
fn outbox(c: &mut Criterion) {
    let mut outbox = Outbox::new(OutboxConfig::default());
    let endpoint = EndpointId(0);
    outbox.handle_endpoint_added(endpoint, "gov-1").expect("there is room");
    outbox.handle_connected(endpoint, &SeqSet::new());
    let route = Route { policy: Policy::Any, awaits_answer: false };
    let sample = message(0);
    let mut next = 1;
    let batch = u64::try_from(BATCH_RECORDS_MAX).expect("small");
    let mut group = c.benchmark_group("outbox");
    group.throughput(Throughput::Elements(batch));
    group.bench_function("accept_to_ack", |b| {
        b.iter(|| {
            for seq in next..next + batch {
                let meta = RecordMeta::new(Seq(seq), NOW, &sample);
                outbox.handle_accepted(NOW, meta, route);
            }
            next += batch;
            let budget = Budget::new(u32::MAX, u64::MAX);
            let mut settled = 0;
            loop {
                let sent =
                    outbox.poll_batch(NOW, endpoint, budget, BATCH_RECORDS_MAX, BATCH_BYTES_MAX);
                if sent.is_empty() {
                    break;
                }
                outbox.handle_ack(endpoint, &sent.into_iter().collect());
            }
            while let Some(action) = outbox.poll_action() {
                if let Action::Settle { seqs } = action {
                    settled += seqs.count();
                }
            }
            assert_eq!(settled, batch);
        });
    });
    group.finish();
}

/// Opens a buffer with many unsettled messages.
fn open_backlog(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir_in(".").expect("a directory on a disk");
    let mut group = c.benchmark_group("buffer");
    group.sample_size(10).throughput(Throughput::Elements(BACKLOG));
    let mut is_filled = false;
    group.bench_function("open_100k_unsettled", |b| {
        if !std::mem::replace(&mut is_filled, true) {
            fill(&runtime, dir.path());
        }
        b.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                let started = now();
                let buffer = open(dir.path());
                took += started.elapsed();
                assert_eq!(buffer.stat().records(), BACKLOG);
                runtime.block_on(buffer.close());
            }
            took
        });
    });
    group.finish();
}

fn fill(runtime: &Runtime, dir: &Path) {
    let buffer = open(dir);
    let mut last = Seq::FIRST;
    for numbers in (0..BACKLOG).collect::<Vec<_>>().chunks(1000) {
        let messages: Vec<Message> = numbers.iter().map(|number| message(*number)).collect();
        let accepted = buffer.append(NOW, messages).expect("there is room");
        last = accepted.last().map_or(last, |accepted| accepted.seq);
    }
    runtime.block_on(buffer.durable(last)).expect("the disk works");
    runtime.block_on(buffer.close());
}

#[expect(clippy::disallowed_methods, reason = "driver: what is measured is time")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, append, queue, outbox, open_backlog);
criterion_main!(benches);
