//! What the third edition of the world has beyond the second.

use std::time::Duration;

use fastrand::Rng;

use crate::fault::{Fault, Kind};
use crate::net::Machine;
use crate::plan::{FIRST_NODE, Plan, Step};

/// Half-open connections, reordered ones, and syncs in which the power fails.
pub(super) fn draw_faults(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    for _ in 0..rng.u32(0..4) {
        let kinds = [Kind::HalfOpen, Kind::Reorder, Kind::TornWrite];
        let kind = rng.choice(kinds).unwrap_or(Kind::HalfOpen);
        push(plan, (kind, span_ms), rng);
    }
}

/// Now and then everything is refused for good, and an operator looks after the dead letters.
pub(super) fn draw_letters(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    if rng.u32(0..5) > 0 {
        return;
    }
    let (at_ms, time) = (rng.u64(0..span_ms / 2), Duration::from_millis(rng.u64(2_000..15_000)));
    for gov in (1..=plan.govs).map(Machine) {
        let fault = Fault::misbehaviour(Kind::RefuseForGood, (gov, time), rng);
        plan.steps.push((Duration::from_millis(at_ms), Step::Fault(fault)));
    }
    let kind = if rng.bool() { Kind::Replay } else { Kind::Purge };
    for _ in 0..2 {
        let at = Duration::from_millis(at_ms + rng.u64(1_000..40_000));
        for node in plan.nodes.keys().copied().collect::<Vec<_>>() {
            let fault = Fault::draw(kind, (node, plan.govs), rng);
            plan.steps.push((at, Step::Fault(fault)));
        }
    }
}

/// A fault of any node, at any time.
pub(super) fn push(plan: &mut Plan, (kind, span_ms): (Kind, u64), rng: &mut Rng) {
    let at = Duration::from_millis(rng.u64(0..span_ms));
    let nodes: Vec<Machine> = plan.nodes.keys().copied().collect();
    let node = rng.choice(nodes).unwrap_or(FIRST_NODE);
    plan.steps.push((at, Step::Fault(Fault::draw(kind, (node, plan.govs), rng))));
}
