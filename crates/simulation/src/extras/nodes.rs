//! How many Alys nodes there are, and what happens to those beyond the first.
//!
//! They share the messages of the seed, so that a run takes about as long as one with one node.

use std::time::Duration;

use fastrand::Rng;

use super::{draw_operator, draw_twin};
use crate::fault::{Fault, Kind};
use crate::net::Machine;
use crate::plan::{FIRST_NODE, Plan, Push, Shape, Step};

/// The most nodes that a run has.
pub const NODES_MAX: usize = 3;

/// Draws the nodes from a stream that does not depend on what else there is.
pub(super) fn draw(plan: &mut Plan, span_ms: u64) {
    let mut rng = Rng::with_seed(plan.seed.rotate_left(47) ^ 0xbf58_476d_1ce4_e5b9);
    let count = match rng.u32(0..12) {
        0 => 3,
        1 | 2 => 2,
        _ => 1,
    };
    for node in (1..count).map(Machine::node) {
        let mut shape = Shape::draw(&mut rng);
        shape.is_compressing = rng.u32(0..3) == 0;
        plan.nodes.insert(node, shape);
        draw_faults(plan, (node, span_ms), &mut rng);
        draw_operator(plan, (node, span_ms), &mut rng);
        draw_twin(plan, (node, span_ms), &mut rng);
    }
    if count > 1 && rng.bool() {
        let at = Duration::from_millis(rng.u64(0..span_ms));
        plan.steps.push((at, Step::Push(Machine(1), Push::Halt)));
    }
    let nodes: Vec<Machine> = plan.nodes.keys().copied().collect();
    for (_, step) in &mut plan.steps {
        if let Step::Offer(node, _) = step {
            *node = rng.choice(&nodes).copied().unwrap_or(FIRST_NODE);
        }
    }
}

fn draw_faults(plan: &mut Plan, (node, span_ms): (Machine, u64), rng: &mut Rng) {
    let kinds: Vec<Kind> = Kind::FIRST.into_iter().filter(|_| rng.u32(0..3) == 0).collect();
    for _ in 0..rng.u32(0..8) {
        let at = Duration::from_millis(rng.u64(0..span_ms));
        let Some(kind) = rng.choice(&kinds) else { return };
        plan.steps.push((at, Step::Fault(Fault::draw(*kind, (node, plan.govs), rng))));
    }
}
