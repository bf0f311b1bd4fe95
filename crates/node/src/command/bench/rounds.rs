//! Buffer and bare disk by turns, so that both see the same disk.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::disk::Bare;
use super::producers::{self, Commits};
use crate::failure::{Exit, Failure};

/// How often they take turns.
const ROUNDS: u32 = 6;

/// Single accepts, and bare syncs of the same bytes, in one turn.
const SINGLES: usize = 50;

/// Turns of those.
const SINGLE_ROUNDS: usize = 20;

/// Two quantiles, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Rates {
    /// Messages per second of the bare loop.
    pub(super) limit: f64,
    /// Messages per second of the producers.
    pub(super) append: f64,
    /// One producer: from the call until the message is durable.
    pub(super) accept: Quantiles,
    /// A bare write and fdatasync of the same bytes.
    pub(super) sync: Quantiles,
    /// Messages of one commit, on average.
    pub(super) batch_messages: f64,
}

/// Measures for about `span`, half of it the limit.
///
/// # Errors
///
/// When the disk says no.
pub(super) async fn run(
    dir: &Path,
    producers: u32,
    payload_bytes: usize,
    span: Duration,
) -> Result<Rates, Failure> {
    let payload = Bytes::from(vec![0x5a; payload_bytes]);
    let commits = Arc::new(Commits::default());
    let buffer = producers::open(&dir.join("rounds"))?;
    buffer.observe(Arc::<Commits>::clone(&commits) as Arc<_>);
    let mut bare = Bare::create(dir)?;
    let turn = span / (2 * ROUNDS);
    // Not measured: the first segments are prepared, and the file system learns the pattern.
    producers::run(&buffer, producers, &payload, turn).await?;
    settle(&buffer).await?;
    commits.take();
    let (mut appended, mut limit) = ((0, Duration::ZERO), (0, Duration::ZERO));
    let (mut entries, mut batches) = (0, 0);
    for _ in 0..ROUNDS {
        add(&mut appended, producers::run(&buffer, producers, &payload, turn).await?);
        let sizes = commits.take();
        entries += sizes.iter().map(|(entries, _)| entries).sum::<u64>();
        batches += u64::try_from(sizes.len()).unwrap_or(u64::MAX);
        // Off the runtime's threads: it blocks on the disk, as the buffer's own writer does.
        let bare_turn = tokio::task::block_in_place(|| bare.run(&sizes, turn));
        add(&mut limit, bare_turn.map_err(|error| failed(&error))?);
        settle(&buffer).await?;
        commits.take();
    }
    let (accept, sync) = singles(&buffer, &mut bare, &payload, &commits).await?;
    buffer.close().await;
    Ok(Rates {
        limit: rate(limit),
        append: rate(appended),
        accept,
        sync,
        batch_messages: float(entries) / float(batches.max(1)),
    })
}

/// One message at a time, and bare syncs of as many bytes, by turns.
async fn singles(
    buffer: &alys_stream_messaging::Buffer,
    bare: &mut Bare,
    payload: &Bytes,
    commits: &Commits,
) -> Result<(Quantiles, Quantiles), Failure> {
    let (mut accepts, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..SINGLE_ROUNDS {
        for _ in 0..SINGLES {
            let message = producers::message(payload);
            let started = Instant::now();
            producers::accept(buffer, message).await?;
            accepts.push(started.elapsed());
        }
        let bytes = commits.take().last().map_or(1, |(_, bytes)| *bytes);
        for _ in 0..SINGLES {
            let started = Instant::now();
            tokio::task::block_in_place(|| bare.commit(bytes)).map_err(|error| failed(&error))?;
            syncs.push(started.elapsed());
        }
    }
    Ok((quantiles(accepts), quantiles(syncs)))
}

/// Settles everything, so that the disk is given back between two turns.
async fn settle(buffer: &alys_stream_messaging::Buffer) -> Result<(), Failure> {
    let position = buffer.settle(&buffer.unsettled());
    let settled = buffer.position_durable(position).await;
    // What became durable is of no interest here, but must not pile up.
    while buffer.stat().records() == 0 && next_durable(buffer).await {}
    settled.map_err(|error| Failure::new(Exit::Io, error))
}

/// Takes what became durable, if there is some.
async fn next_durable(buffer: &alys_stream_messaging::Buffer) -> bool {
    let taken = futures::FutureExt::now_or_never(buffer.next_durable());
    futures::future::ready(taken.flatten().is_some()).await
}

fn quantiles(mut spans: Vec<Duration>) -> Quantiles {
    spans.sort_unstable();
    let at = |percent: usize| {
        let index = (spans.len() * percent / 100).min(spans.len().saturating_sub(1));
        let micros = spans.get(index).map_or(0.0, |span| span.as_secs_f64() * 1e6);
        (micros * 10.0).round() / 10.0
    };
    Quantiles { p50: at(50), p99: at(99) }
}

fn add(sum: &mut (u64, Duration), (count, span): (u64, Duration)) {
    sum.0 += count;
    sum.1 += span;
}

fn rate((count, span): (u64, Duration)) -> f64 {
    float(count) / span.as_secs_f64().max(f64::EPSILON)
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
const fn float(count: u64) -> f64 {
    count as f64
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Io, format_args!("the bare loop: {error}"))
}
