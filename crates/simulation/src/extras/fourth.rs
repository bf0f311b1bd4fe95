//! What the fourth edition of the world has beyond the third.

use std::time::Duration;

use alys_stream_protocol::limits;
use alys_stream_protocol::message::Priority;
use fastrand::Rng;

use crate::fault::Kind;
use crate::net::Machine;
use crate::plan::{Content, FIRST_NODE, For, Plan, Spec, Step};

use super::third::push;

/// Neighbours that do not deal with what they are told, and damage to files other than the buffer.
pub(super) fn draw_faults(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    for _ in 0..rng.u32(0..3) {
        let kind = rng.choice([Kind::Decay, Kind::Neighbour]).unwrap_or(Kind::Decay);
        push(plan, (kind, span_ms), rng);
    }
}

/// Transactions that are to be signed, and governance nodes that sign late or wrongly.
pub(super) fn draw_signatures(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    if rng.bool() {
        return;
    }
    for _ in 0..rng.u32(1..8) {
        let spec = Spec {
            number: next_number(plan),
            target: For::All,
            priority: rng.choice(Priority::ALL).unwrap_or_default(),
            key: rng.bool().then(|| rng.u8(0..4)),
            deadline: Some(Duration::from_millis(rng.u64(5_000..120_000))),
            bytes: 0,
            content: Content::Signature,
        };
        offer(plan, (spec, span_ms), rng);
    }
    for _ in 0..rng.u32(0..4) {
        let kind = if rng.bool() { Kind::SlowSigner } else { Kind::WrongSigner };
        push(plan, (kind, span_ms), rng);
    }
}

/// The number of a message that is not there yet.
fn next_number(plan: &Plan) -> u64 {
    let number = |step: &Step| match step {
        Step::Offer(_, spec) => Some(spec.number + 1),
        Step::Push(..) | Step::Fault(_) => None,
    };
    plan.steps.iter().filter_map(|(_, step)| number(step)).max().unwrap_or(0)
}

/// A message for any node, at any time.
fn offer(plan: &mut Plan, (spec, span_ms): (Spec, u64), rng: &mut Rng) {
    let at = Duration::from_millis(rng.u64(0..span_ms));
    let nodes: Vec<Machine> = plan.nodes.keys().copied().collect();
    let node = rng.choice(nodes).unwrap_or(FIRST_NODE);
    plan.steps.push((at, Step::Offer(node, spec)));
}

/// Messages that are longer than a batch, and so leave in parts.
pub(super) fn draw_long(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    // The published protocol carries none that are so long.
    if rng.u32(0..3) > 0 || plan.extras.plain.is_some() {
        return;
    }
    for _ in 0..rng.u32(1..5) {
        let spec = Spec {
            number: next_number(plan),
            target: rng.choice([For::Any, For::Quorum, For::All]).unwrap_or(For::All),
            priority: rng.choice(Priority::ALL).unwrap_or_default(),
            key: rng.bool().then(|| rng.u8(0..4)),
            deadline: None,
            bytes: rng.usize(limits::BATCH_BYTES_MAX..5 * limits::BATCH_BYTES_MAX),
            content: Content::Application,
        };
        offer(plan, (spec, span_ms), rng);
    }
}
