//! How often the hot path allocates for a message: a bound, so that nobody adds one unnoticed.

use std::alloc::System;
use std::time::Instant;

use alys_stream_benches::{hot_path, message, pair::Pair};
use alys_stream_protocol::message::Message;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const BATCH: u64 = 128;

/// Both ends together, from records to the acknowledgement: the payloads are shared and cut out,
/// never copied. What is allocated belongs to the batch, its ids too.
const SESSION_MAX: f64 = 0.5;

/// From acceptance to settlement.
const OUTBOX_MAX: f64 = 0.5;

fn per_message(steps: u64, act: impl FnOnce()) -> f64 {
    let region = Region::new(ALLOCATOR);
    act();
    let stats = region.change();
    let allocations = stats.allocations + stats.reallocations;
    let count = |number: usize| f64::from(u32::try_from(number).expect("a short run"));
    count(allocations) / count(usize::try_from(steps * BATCH).expect("small"))
}

// One test: a second one at the same time would count as well.
#[test]
#[expect(clippy::disallowed_methods, reason = "any moment will do")]
fn the_hot_path_allocates_for_batches_and_not_for_messages() {
    let messages: Vec<Message> = (0..BATCH).map(message).collect();
    let mut pair = Pair::new(Instant::now());
    pair.carry(&messages);
    let session = per_message(64, || {
        for _ in 0..64 {
            pair.carry(&messages);
        }
    });
    println!("{session:.2} allocations for a message in a session");
    assert!(session <= SESSION_MAX, "{session:.2} allocations for a message in a session");
    let outbox = per_message(64, || hot_path::outbox(64));
    println!("{outbox:.2} allocations for a message in the outbox");
    assert!(outbox <= OUTBOX_MAX, "{outbox:.2} allocations for a message in the outbox");
}
