//! What was added to the world after its first shape: peers that speak only `governance.v1`,
//! compressed batches, what operators do, a second process with the identity of the node.
//!
//! Each is drawn from a stream of its own, so that what a seed had before it still has. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::fault::{Fault, Kind, Operation};
use crate::net::Machine;
use crate::plan::{For, Plan, Step};

/// What a run has beyond the first shape of the world; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extras {
    /// How peg-ins are sent when some governance nodes speak only `governance.v1`, and which do.
    pub(crate) plain: Option<(For, BTreeSet<Machine>)>,
    /// Whether the node compresses batches.
    pub(crate) is_compressing: bool,
}

impl Extras {
    /// Whether a governance node begins as one that has no sessions.
    pub(crate) fn is_plain(&self, machine: Machine) -> bool {
        self.plain.as_ref().is_some_and(|(_, plain)| plain.contains(&machine))
    }
}

/// Adds to a plan what its seed has of everything here.
pub(crate) fn widen(plan: &mut Plan, span_ms: u64) {
    let mut rng = Rng::with_seed(plan.seed.rotate_left(29) ^ 0x9e37_79b9_7f4a_7c15);
    let mut stream = || Rng::with_seed(rng.u64(..));
    draw_plain(plan, span_ms, &mut stream());
    plan.extras.is_compressing = stream().u32(0..3) == 0;
    draw_operator(plan, span_ms, &mut stream());
    draw_twin(plan, span_ms, &mut stream());
}

/// What operators do to the node while it works.
fn draw_operator(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    if rng.bool() {
        return;
    }
    for _ in 0..rng.u32(1..5) {
        let at = Duration::from_millis(rng.u64(0..span_ms));
        let kind = rng.choice(Operation::KINDS).unwrap_or(Kind::Balance);
        plan.steps.push((at, Step::Fault(Fault::draw(kind, plan.govs, rng))));
    }
}

/// Now and then the node runs twice.
fn draw_twin(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    if rng.u32(0..5) > 0 {
        return;
    }
    let at = Duration::from_millis(rng.u64(0..span_ms));
    plan.steps.push((at, Step::Fault(Fault::draw(Kind::Twin, plan.govs, rng))));
}

/// Some governance nodes without sessions, peg-ins among the messages, and now and then a node that
/// changes what it speaks.
fn draw_plain(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    if rng.u32(0..3) > 0 {
        return;
    }
    let plain: BTreeSet<_> = (1..=plan.govs).map(Machine).filter(|_| rng.bool()).collect();
    let policy = rng.choice([For::Any, For::Quorum, For::All]).unwrap_or(For::All);
    for (_, step) in &mut plan.steps {
        // Nobody but a session carries what applications define: see `docs/testing.md`.
        if let Step::Offer(spec) = step {
            (spec.is_pegin, spec.target) = (true, policy);
        }
    }
    plan.extras.plain = Some((policy, plain));
    for _ in 0..rng.u32(0..3) {
        let at = Duration::from_millis(rng.u64(0..span_ms));
        plan.steps.push((at, Step::Fault(Fault::draw(Kind::Upgrade, plan.govs, rng))));
    }
}
