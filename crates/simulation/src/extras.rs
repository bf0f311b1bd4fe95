//! What was added to the world after its first shape: peers that speak only `governance.v1`,
//! compressed batches, what operators do, a second process with the identity of a node, updates for a
//! height, stops at bad moments, damage outside payloads, TLS, more nodes than one.
//!
//! Each is drawn from a stream of its own, so that what a seed had before it still has. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;

use crate::fault::{Fault, Kind, Operation, Rotation, Way};
use crate::net::Machine;
use crate::plan::{Content, FIRST_NODE, For, Plan, Push, Step};
use crate::run::Edition;

mod fourth;
mod nodes;
mod third;

pub use nodes::NODES_MAX;

/// What a run has beyond the first shape of the world; nothing by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extras {
    /// How peg-ins are sent when some governance nodes speak only `governance.v1`, and which do.
    pub(crate) plain: Option<(For, BTreeSet<Machine>)>,
    /// Whether bits flip anywhere in a node's buffer, and not only in payloads.
    pub(crate) flips_anywhere: bool,
    /// Whether there are blocks, and updates that wait for one.
    pub(crate) has_blocks: bool,
    /// How links have TLS, if they have.
    pub(crate) tls: Option<Tls>,
    /// Whether the network and the governance nodes are mended for a second process, as before the
    /// fourth edition.
    pub(crate) are_peers_mended: bool,
}

/// How links have TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Whether the node pins the keys of governance nodes.
    pub(crate) are_pinned: bool,
    /// Whether there are revocation lists.
    pub(crate) are_listed: bool,
}

impl Extras {
    /// Whether a governance node begins as one that has no sessions.
    pub(crate) fn is_plain(&self, machine: Machine) -> bool {
        self.plain.as_ref().is_some_and(|(_, plain)| plain.contains(&machine))
    }
}

/// Adds to a plan what its seed has of everything here.
pub(crate) fn widen(plan: &mut Plan, edition: Edition, span_ms: u64) {
    if edition == Edition::First {
        return;
    }
    let mut rng = Rng::with_seed(plan.seed.rotate_left(29) ^ 0x9e37_79b9_7f4a_7c15);
    let mut stream = || Rng::with_seed(rng.u64(..));
    draw_plain(plan, span_ms, &mut stream());
    let is_compressing = stream().u32(0..3) == 0;
    plan.nodes.values_mut().for_each(|shape| shape.is_compressing = is_compressing);
    draw_operator(plan, (FIRST_NODE, span_ms), &mut stream());
    draw_twin(plan, (FIRST_NODE, span_ms), &mut stream());
    draw_heights(plan, span_ms, &mut stream());
    draw_slow_stop(plan, span_ms, &mut stream());
    plan.extras.flips_anywhere = stream().bool();
    nodes::draw(plan, span_ms);
    draw_tls(plan, span_ms, &mut stream());
    plan.extras.are_peers_mended = edition < Edition::Fourth;
    if edition >= Edition::Third {
        widen_again(plan, span_ms);
    }
    if edition >= Edition::Fourth {
        widen_once_more(plan, span_ms);
    }
}

/// What came with the third edition.
fn widen_again(plan: &mut Plan, span_ms: u64) {
    let mut rng = Rng::with_seed(plan.seed.rotate_left(53) ^ 0x94d0_49bb_1331_11eb);
    let mut stream = || Rng::with_seed(rng.u64(..));
    third::draw_faults(plan, span_ms, &mut stream());
    third::draw_letters(plan, span_ms, &mut stream());
    draw_slow_stop(plan, span_ms, &mut stream());
}

/// What came with the fourth.
fn widen_once_more(plan: &mut Plan, span_ms: u64) {
    let mut rng = Rng::with_seed(plan.seed.rotate_left(17) ^ 0xd1b5_4a32_d192_ed03);
    let mut stream = || Rng::with_seed(rng.u64(..));
    fourth::draw_faults(plan, span_ms, &mut stream());
    fourth::draw_signatures(plan, span_ms, &mut stream());
    fourth::draw_long(plan, span_ms, &mut stream());
}

/// TLS, and what operators do with certificates.
fn draw_tls(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    if rng.u32(0..4) > 0 {
        return;
    }
    plan.extras.tls = Some(Tls { are_pinned: rng.bool(), are_listed: rng.bool() });
    let nodes: Vec<Machine> = plan.nodes.keys().copied().collect();
    for _ in 0..rng.u32(1..7) {
        let at = Duration::from_millis(rng.u64(0..span_ms));
        let kind = rng.choice(Rotation::KINDS).unwrap_or(Kind::RenewNode);
        let node = rng.choice(&nodes).copied().unwrap_or(FIRST_NODE);
        plan.steps.push((at, Step::Fault(Fault::draw(kind, (node, plan.govs), rng))));
    }
}

/// A stop while a connection on a slow link begins, is parked or ends: states that are short.
fn draw_slow_stop(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    if rng.u32(0..4) > 0 {
        return;
    }
    let (gov, at_ms) = (Machine(rng.u8(1..=plan.govs)), rng.u64(0..span_ms));
    let slow_ms = rng.u64(200..1_200);
    let link = |to_gov, how| Fault::Link {
        kind: if to_gov { Kind::Latency } else { Kind::OneWay },
        node: FIRST_NODE,
        govs: vec![gov],
        to_gov,
        to_node: true,
        how,
        time: Duration::from_secs(30),
    };
    let slow = link(true, Way::Slow(Duration::from_millis(slow_ms)));
    let mut faults = vec![(at_ms, slow)];
    let disturbance = rng.choice([Kind::Reset, Kind::Leave, Kind::Suspend]);
    let stop_ms = match disturbance.filter(|kind| *kind != Kind::Reset) {
        Some(kind) => {
            let fault = Fault::misbehaviour(kind, (gov, Duration::from_secs(5)), rng);
            faults.push((at_ms + 100, fault));
            at_ms + rng.u64(1_000..20_000)
        }
        // A new stream that nobody has answered yet, and nobody will: after the backoff, and the way
        // there and back for the connection and for the handshake.
        None => {
            let open_ms = at_ms + 1_100 + slow_ms * rng.u64(4..10);
            faults.push((at_ms + 100, Fault::Reset { node: FIRST_NODE, gov }));
            faults.push((open_ms, link(false, Way::Held)));
            open_ms + 50
        }
    };
    let drain = Duration::from_millis(rng.u64(0..100));
    let down = Duration::from_millis(rng.u64(10..2_000));
    faults.push((stop_ms, Fault::Restart { machine: FIRST_NODE, drain, down }));
    for (at_ms, fault) in faults {
        plan.steps.push((Duration::from_millis(at_ms), Step::Fault(fault)));
    }
}

/// Heights at which updates take force.
fn draw_heights(plan: &mut Plan, span_ms: u64, rng: &mut Rng) {
    plan.extras.has_blocks = rng.bool();
    if !plan.extras.has_blocks {
        return;
    }
    for (_, step) in &mut plan.steps {
        if let Step::Push(_, Push::Update { height, .. }) = step {
            *height = if rng.u32(0..4) == 0 { 0 } else { rng.u64(0..span_ms / 1000 + 20) };
        }
    }
}

/// What operators do to a node while it works.
fn draw_operator(plan: &mut Plan, (node, span_ms): (Machine, u64), rng: &mut Rng) {
    if rng.bool() {
        return;
    }
    for _ in 0..rng.u32(1..5) {
        let at = Duration::from_millis(rng.u64(0..span_ms));
        let kind = rng.choice(Operation::KINDS).unwrap_or(Kind::Balance);
        plan.steps.push((at, Step::Fault(Fault::draw(kind, (node, plan.govs), rng))));
    }
}

/// Now and then a node runs twice.
fn draw_twin(plan: &mut Plan, (node, span_ms): (Machine, u64), rng: &mut Rng) {
    if rng.u32(0..5) > 0 {
        return;
    }
    let at = Duration::from_millis(rng.u64(0..span_ms));
    plan.steps.push((at, Step::Fault(Fault::draw(Kind::Twin, (node, plan.govs), rng))));
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
        if let Step::Offer(_, spec) = step {
            (spec.content, spec.target) = (Content::Pegin, policy);
        }
    }
    plan.extras.plain = Some((policy, plain));
    for _ in 0..rng.u32(0..3) {
        let at = Duration::from_millis(rng.u64(0..span_ms));
        plan.steps
            .push((at, Step::Fault(Fault::draw(Kind::Upgrade, (FIRST_NODE, plan.govs), rng))));
    }
}
