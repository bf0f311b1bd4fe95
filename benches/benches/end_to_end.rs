//! A node and a governance node in one process: accepted, delivered, acknowledged and settled, both
//! ends durable.
//!
//! | parameter | value |
//! |---|---|
//! | payload | 256 bytes |
//! | callers at the same time | 256 |
//! | endpoints | 1, on loopback, plaintext |
//! | seed | 7 |

use std::time::{Duration, Instant};

use alys_stream_benches::PAYLOAD_BYTES;
use alys_stream_benches::link::Link;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// Callers that send at the same time.
const PRODUCERS: u64 = 256;

#[expect(clippy::disallowed_methods, reason = "driver: a bench has no other clock")]
fn now() -> Instant {
    Instant::now()
}

fn deliver(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir_in(".").expect("a directory on a disk");
    let link = runtime.block_on(Link::start(dir.path(), true));
    let mut number = 0;
    let mut group = c.benchmark_group("link");
    group.measurement_time(Duration::from_secs(5)).sample_size(10);
    let bytes = u64::try_from(PAYLOAD_BYTES).expect("small");
    let units = [
        ("durable_messages", Throughput::Elements(1)),
        ("durable_bytes", Throughput::Bytes(bytes)),
    ];
    for (name, throughput) in units {
        group.throughput(throughput);
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let started = now();
                runtime.block_on(async {
                    link.accept(number, count, PRODUCERS).await;
                    link.settled().await;
                });
                number += count;
                started.elapsed()
            });
        });
    }
    group.finish();
    runtime.block_on(link.stop());
}

criterion_group!(benches, deliver);
criterion_main!(benches);
