//! What was added to the world after its first shape: peers that speak only `governance.v1`.
//!
//! Each is drawn from a stream of its own, so that what a seed had before it still has. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::fault::{Fault, Kind};
use crate::net::Machine;
use crate::plan::{For, Plan, Step};

/// What a run has beyond the first shape of the world; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extras {
    /// How peg-ins are sent when some governance nodes speak only `governance.v1`, and which do.
    pub(crate) plain: Option<(For, BTreeSet<Machine>)>,
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
}

/// Some governance nodes without sessions, peg-ins among the messages, and now and then a node that
/// changes what it speaks.
fn draw_plain(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    if rng.u32(0..3) > 0 {
        return;
    }
    let plain: BTreeSet<_> = (1..=plan.govs).map(Machine).filter(|_| rng.bool()).collect();
    let policy = rng.choice([For::Any, For::Quorum, For::All]).unwrap_or(For::All);
    let has_sessions = plain.len() < usize::from(plan.govs);
    for (_, step) in &mut plan.steps {
        let Step::Offer(spec) = step else { continue };
        // Nobody but a session carries what applications define: see `docs/testing.md`.
        let is_for_sessions = has_sessions && spec.target == For::Any && spec.key.is_none();
        if !is_for_sessions || rng.bool() {
            (spec.is_pegin, spec.target) = (true, policy);
        }
    }
    plan.extras.plain = Some((policy, plain));
    for _ in 0..rng.u32(0..3) {
        let at = Duration::from_millis(rng.u64(0..span_ms));
        plan.steps.push((at, Step::Fault(Fault::draw(Kind::Upgrade, plan.govs, rng))));
    }
}
