//! The actor layer: messages accepted through the handle, with nobody there to take them.
//!
//! | parameter | value |
//! |---|---|
//! | payload | 256 bytes |
//! | callers at the same time | 1, 64 |
//! | seed | 7 |

use std::time::{Duration, Instant};

use alys_stream_benches::link::Link;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// Callers that send at the same time.
const PRODUCERS: [u64; 2] = [1, 64];

#[expect(clippy::disallowed_methods, reason = "driver: a bench has no other clock")]
fn now() -> Instant {
    Instant::now()
}

/// From the call until the message is durable, checks and routing included.
fn accept(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group("handle");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(3));
    group.sample_size(20);
    for producers in PRODUCERS {
        let dir = tempfile::tempdir_in(".").expect("a directory on a disk");
        let link = runtime.block_on(Link::start(dir.path(), false));
        let mut number = 0;
        group.bench_function(BenchmarkId::new("accept_durable", producers), |b| {
            b.iter_custom(|count| {
                let started = now();
                runtime.block_on(link.accept(number, count, producers));
                number += count;
                started.elapsed()
            });
        });
        runtime.block_on(link.stop());
    }
    group.finish();
}

criterion_group!(benches, accept);
criterion_main!(benches);
