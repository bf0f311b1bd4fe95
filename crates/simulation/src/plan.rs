//! What is to happen in one run, drawn from its seed: the shape of the system, the messages, the
//! faults. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use alys_stream_protocol::message::Priority;
use alys_stream_testkit::disk::Crash;
use fastrand::Rng;

use crate::extras::{self, Extras};
use crate::fault::{Fault, Kind};
use crate::net::Machine;
use crate::planted::Planted;
use crate::run::Trial;

/// The policies by which one of several endpoints is chosen.
pub(crate) const BALANCE: [&str; 5] =
    ["round_robin", "least_connections", "peak_ewma", "priority", "latency"];

/// The node that every run has.
pub(crate) const FIRST_NODE: Machine = Machine::node(0);

/// Which governance nodes a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum For {
    /// One of them.
    Any,
    /// Two of them.
    Quorum,
    /// Every one.
    All,
}

impl For {
    /// The name of the policy in a configuration.
    pub(crate) const fn policy(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Quorum => "{quorum: 2}",
            Self::All => "all",
        }
    }

    /// The application kind that the configuration of the node routes this way.
    pub(crate) const fn kind(self) -> u32 {
        match self {
            Self::Any => 1000,
            Self::Quorum => 1001,
            Self::All => 1002,
        }
    }
}

/// A message to be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) number: u64,
    pub(crate) target: For,
    pub(crate) priority: Priority,
    pub(crate) key: Option<u8>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) bytes: usize,
    pub(crate) content: Content,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// What an application defines; only sessions carry it.
    Application,
    /// A notification of the published protocol, which every peer understands.
    Pegin,
    /// A request to sign a transaction.
    Signature,
}

/// What a governance node is told to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Push {
    Proposal(u64),
    /// Signed by enough members.
    Update {
        version: u64,
        /// From which height on; 0 is at once.
        height: u64,
    },
    /// Block production is to stop: one halt in a run.
    Halt,
    /// Signed by one member alone.
    Unsigned {
        version: u64,
    },
}

impl Push {
    /// What the Chain of every node is told of it in the end, if that does not depend on others.
    pub(crate) fn told_as(&self) -> Option<String> {
        match self {
            Self::Proposal(number) => Some(format!("proposal proposal-{number}")),
            Self::Halt => Some("halt".to_owned()),
            Self::Update { .. } | Self::Unsigned { .. } => None,
        }
    }
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Offer(Machine, Spec),
    Push(Machine, Push),
    Fault(Fault),
}

/// How an Alys node is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) segment_bytes: u64,
    pub(crate) window_max: usize,
    pub(crate) balance: &'static str,
    /// Whether it compresses batches.
    pub(crate) is_compressing: bool,
}

impl Shape {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            segment_bytes: rng.choice([8, 16, 64, 256]).unwrap_or(16) * 1024,
            window_max: rng.choice([8, 32, 4096]).unwrap_or(32),
            balance: rng.choice(BALANCE).unwrap_or("round_robin"),
            is_compressing: false,
        }
    }
}

/// One run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) planted: Option<Planted>,
    /// How many governance nodes; the last one holds one key only.
    pub(crate) govs: u8,
    pub(crate) nodes: BTreeMap<Machine, Shape>,
    pub(crate) steps: Vec<(Duration, Step)>,
    pub(crate) extras: Extras,
}

impl Plan {
    /// The run of a seed.
    pub(crate) fn draw(trial: Trial) -> Self {
        let Trial { seed, planted, .. } = trial;
        let mut rng = Rng::with_seed(seed);
        let govs = rng.u8(2..=4);
        let span_ms = rng.u64(20_000..90_000);
        let mut plan = Self {
            seed,
            planted,
            govs,
            nodes: BTreeMap::from([(FIRST_NODE, Shape::draw(&mut rng))]),
            steps: Vec::new(),
            extras: Extras::default(),
        };
        // What was drawn here once; what follows is what it was for each seed.
        let _drawn = rng.bool();
        plan.draw_messages(&mut rng, span_ms);
        plan.draw_pushes(&mut rng, span_ms);
        plan.draw_faults(&mut rng, span_ms);
        extras::widen(&mut plan, trial.edition, span_ms);
        plan.steps.sort_by_key(|(at, _)| *at);
        plan
    }

    fn draw_messages(&mut self, rng: &mut Rng, span_ms: u64) {
        let (messages, keys) = (rng.u64(20..220), rng.u8(1..6));
        let is_bursty = rng.bool();
        let mut at_ms = 0;
        for number in 0..messages {
            at_ms = match is_bursty {
                true if rng.u32(0..10) > 0 => at_ms,
                _ => rng.u64(0..span_ms),
            };
            let spec = Spec {
                number,
                target: rng.choice([For::Any, For::Any, For::Quorum, For::All]).unwrap_or(For::Any),
                priority: rng.choice(Priority::ALL).unwrap_or_default(),
                key: rng.bool().then(|| rng.u8(0..keys)),
                deadline: (rng.u32(0..8) == 0).then(|| Duration::from_millis(rng.u64(200..60_000))),
                bytes: match rng.u32(0..20) {
                    0 => rng.usize(10_000..60_000),
                    _ => rng.usize(1..600),
                },
                content: Content::Application,
            };
            self.steps.push((Duration::from_millis(at_ms), Step::Offer(FIRST_NODE, spec)));
        }
    }

    fn draw_pushes(&mut self, rng: &mut Rng, span_ms: u64) {
        let mut versions: Vec<u64> = (0..rng.usize(0..4)).map(|_| rng.u64(0..span_ms)).collect();
        versions.sort_unstable();
        for (version, at_ms) in (1..).zip(versions) {
            let push = Push::Update { version, height: 0 };
            self.steps.push((Duration::from_millis(at_ms), Step::Push(Machine(1), push)));
        }
        for number in 0..rng.u64(0..6) {
            let gov = Machine(rng.u8(1..=self.govs));
            let at = Duration::from_millis(rng.u64(0..span_ms));
            self.steps.push((at, Step::Push(gov, Push::Proposal(number))));
        }
        if rng.bool() {
            let push = Push::Unsigned { version: rng.u64(1..90) };
            let at = Duration::from_millis(rng.u64(0..span_ms));
            self.steps.push((at, Step::Push(Machine(self.govs), push)));
        }
    }

    fn draw_faults(&mut self, rng: &mut Rng, span_ms: u64) {
        let whom = (FIRST_NODE, self.govs);
        let kinds: Vec<Kind> = Kind::FIRST.into_iter().filter(|_| rng.u32(0..3) == 0).collect();
        if kinds.is_empty() {
            return;
        }
        for _ in 0..rng.u32(2..14) {
            let at = Duration::from_millis(rng.u64(0..span_ms));
            let kind = kinds[rng.usize(0..kinds.len())];
            self.steps.push((at, Step::Fault(Fault::draw(kind, whom, rng))));
        }
    }

    /// How the node is set up whose identity runs on a machine.
    pub(crate) fn shape(&self, machine: Machine) -> Shape {
        let shape = machine.identity().and_then(|node| self.nodes.get(&node));
        *shape.expect("a node of the plan")
    }

    /// The first `count` steps alone.
    pub(crate) fn prefix(&self, count: usize) -> Self {
        let mut shorter = self.clone();
        shorter.steps.truncate(count);
        shorter
    }
}

/// The ways in which a machine goes down.
pub(crate) fn crash(rng: &mut Rng) -> Crash {
    rng.choice(Crash::ALL).unwrap_or(Crash::Kill)
}
