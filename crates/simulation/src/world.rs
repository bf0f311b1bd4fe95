//! One run: the nodes and governance nodes, and the director who lets the plan happen to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_testkit::disk::{Crash, Image};
use fastrand::Rng;
use serde_json::Value;
use tokio::time::Instant;

use crate::certificates::Certificates;
use crate::coverage::Coverage;
use crate::fault::Settings;
use crate::governance::Governance;
use crate::history::{History, Offered, Pushed};
use crate::journal::{Entry, Fact, Journal};
use crate::logs::Logs;
use crate::machine::{Hardware, Surroundings};
use crate::net::{Machine, Net};
use crate::plan::{Plan, Push, Step};
use crate::planted::Mixer;
use crate::sender;
use crate::strikes::Strikes;
use crate::tap::sealed::SealedTap;
use crate::tap::{SessionTap, Tapped, Way};

mod acts;
mod decay;
mod ending;
mod operator;
mod rotation;
mod site;
mod twin;

use site::Site;

/// How often the director looks at the node.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long starting may fail before it is tried no more.
const START_TRIES: u32 = 40;

/// What is to be undone, and when.
enum Later {
    Start(Machine),
    Link {
        node: Machine,
        govs: Vec<Machine>,
    },
    Space(Machine),
    Pace(Machine),
    Clock(Machine),
    Behave(Machine, Value),
    Reconnect {
        node: Machine,
        gov: Machine,
    },
    /// The neighbours of a node deal with everything again.
    Mood(Machine),
    /// Whether the power of a machine has failed.
    Torn {
        machine: Machine,
        until: Instant,
        down: Duration,
    },
    Speak {
        gov: Machine,
        is_plain: bool,
        down: Duration,
    },
    /// The endpoint that is off, and what was in force before.
    Settings {
        node: Machine,
        settings: Settings,
        down: Duration,
    },
    /// A rotation of certificates goes on.
    Rotate(rotation::Pending),
    TwinStarts {
        node: Machine,
        at: Duration,
        image: Image,
        time: Duration,
        goes_on: bool,
    },
    TwinEnds {
        node: Machine,
        at: Duration,
        goes_on: bool,
    },
    Restore {
        node: Machine,
        at: Duration,
        image: Image,
        down: Duration,
    },
}

/// One simulation.
pub(crate) struct World {
    plan: Plan,
    journal: Journal,
    net: Net,
    surroundings: Surroundings,
    strikes: Strikes,
    nodes: BTreeMap<Machine, Site>,
    govs: BTreeMap<Machine, Governance>,
    /// Where links have TLS.
    certificates: Option<Certificates>,
    rng: Rng,
    later: BTreeMap<(Instant, u64), Later>,
    next_later: u64,
    next_look: Instant,
    history: History,
    pub(crate) coverage: Coverage,
    /// Whether every fault was taken back.
    is_mended: bool,
}

impl World {
    pub(crate) fn new(plan: &Plan, keys: &std::path::Path) -> Self {
        let journal = Journal::new();
        let strikes = Strikes::default();
        let net = Net::new(plan.seed.rotate_left(11), strikes.clone());
        let surroundings = Surroundings {
            net: net.clone(),
            journal: journal.clone(),
            logs: Arc::default(),
            seed: plan.seed,
            planted: plan.planted,
        };
        let hardware = |machine| Hardware::new(machine, &surroundings);
        let govs = (1..=plan.govs).map(Machine);
        let govs = govs.map(|machine| {
            let name = if machine.0 == plan.govs { "one" } else { "all" };
            let keys = keys.join(name);
            let is_plain = plan.extras.is_plain(machine);
            (machine, Governance::new(hardware(machine), &journal, &keys, plan.planted, is_plain))
        });
        let mut govs: BTreeMap<_, _> = govs.collect();
        let site = |node: &Machine| (*node, Site::new(hardware(*node), &journal, plan));
        let mut nodes: BTreeMap<_, _> = plan.nodes.keys().map(site).collect();
        let machines = nodes.keys().chain(govs.keys()).copied();
        let certificates =
            plan.extras.tls.map(|tls| Certificates::new(tls, machines, strikes.clone()));
        nodes.values_mut().for_each(|it| it.node.certificates.clone_from(&certificates));
        govs.values_mut().for_each(|gov| gov.certificates.clone_from(&certificates));
        let secrets = certificates.as_ref().map(|it| it.secrets.clone());
        let tapped = Arc::new(Tapped {
            journal: journal.clone(),
            clocks: nodes.values().flat_map(Site::clocks).collect(),
            logs: Arc::clone(&surroundings.logs),
            ids: Logs::default(),
            planted: plan.planted,
            mixer: Mixer::default(),
        });
        net.set_tapping(Arc::new(move |node, gov| {
            let tap = |way| SessionTap::new(Arc::clone(&tapped), way, (node, gov));
            let taps = [Way::ToGovernance, Way::ToNode].map(tap);
            match &secrets {
                Some(secrets) => SealedTap::pair(taps, secrets).map(|it| Box::new(it) as Box<_>),
                None => taps.map(|it| Box::new(it) as Box<_>),
            }
        }));
        Self {
            plan: plan.clone(),
            journal,
            net,
            surroundings,
            strikes,
            nodes,
            govs,
            certificates,
            rng: Rng::with_seed(plan.seed.rotate_left(41)),
            later: BTreeMap::new(),
            next_later: 0,
            next_look: Instant::now(),
            history: History { seed: plan.seed, ..History::default() },
            coverage: Coverage::of(plan.nodes.len()),
            is_mended: false,
        }
    }

    /// Its event log.
    pub(crate) fn journal(&self) -> Journal {
        self.journal.clone()
    }

    /// Lets everything happen, mends everything, waits for the end, and tells what there was.
    pub(crate) async fn run(mut self) -> (History, Coverage) {
        let governance = (1..=self.plan.govs).map(Machine);
        for machine in governance.chain(self.nodes()) {
            self.start(machine).await;
        }
        let begun = Instant::now();
        let steps = std::mem::take(&mut self.plan.steps);
        for (at, step) in steps {
            self.pass_until(begun + at).await;
            self.step(step).await;
        }
        self.mend().await;
        self.end().await;
        self.conclude().await
    }

    fn note(&self, machine: Machine, fact: Fact) {
        self.journal.note(machine, fact);
    }

    fn after(&mut self, time: Duration, later: Later) {
        self.next_later += 1;
        self.later.insert((Instant::now() + time, self.next_later), later);
    }

    /// Lets time pass, and what is due in it happen.
    async fn pass_until(&mut self, until: Instant) {
        loop {
            let due = self.later.first_key_value().map(|((at, _), _)| *at);
            let next = due.map_or(self.next_look, |due| due.min(self.next_look)).min(until);
            tokio::time::sleep_until(next).await;
            let now = Instant::now();
            if now >= self.next_look {
                self.next_look = now + LOOK_EVERY;
                self.look();
            }
            while let Some(entry) = self.later.first_entry()
                && entry.key().0 <= now
            {
                let later = entry.remove();
                self.undo(later).await;
            }
            if now >= until {
                return;
            }
        }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Offer(node, spec) => {
                let id = id_of(self.plan.seed, spec.number);
                let offered = Offered { spec, id, accepted: None, end: None, letter: None };
                let site = self.site_mut(node);
                site.history.offered.push(offered);
                let (senders, life) = (site.senders.clone(), site.node.watch());
                let clock = Arc::clone(&site.node.hardware.clock);
                site.tasks.spawn(sender::run(senders, life, clock, spec, id));
            }
            Step::Push(gov, push) => self.push(gov, push).await,
            Step::Fault(fault) => {
                self.note(fault.machine(), Fact::Fault(format!("{fault:?}")));
                self.fault(fault).await;
            }
        }
    }

    async fn push(&mut self, gov: Machine, push: Push) {
        let Some(governance) = self.govs.get(&gov) else { return };
        if let Push::Update { version, height } = push {
            // Once signed it may be stored, whatever the answer.
            self.history.signed.insert(version, height);
        }
        let known = self.welcomed(gov);
        let stored = tokio::time::timeout(Duration::from_secs(5), governance.push(&push)).await;
        // It stores one for each node that it knows of.
        let promised = match usize::try_from(stored.unwrap_or(0)).unwrap_or(0) {
            0 => BTreeSet::new(),
            stored if stored >= self.nodes.len() => self.nodes().collect(),
            _ => known,
        };
        if !promised.is_empty() {
            self.note(gov, Fact::Fault(format!("pushes {push:?}")));
        }
        self.history.pushed.push(Pushed { at: self.journal.elapsed(), by: gov, push, promised });
    }

    /// The nodes that a governance node welcomed: it knows these for good.
    fn welcomed(&self, gov: Machine) -> BTreeSet<Machine> {
        let welcomed = |entry: &Entry| {
            let is_welcome = entry.who == gov && matches!(entry.fact, Fact::Welcome { .. });
            entry.node().filter(|_| is_welcome)
        };
        self.journal.entries().iter().filter_map(welcomed).collect()
    }

    /// Looks at the machines as operators would, and starts what has given up.
    fn look(&mut self) {
        for machine in self.machines() {
            let Some(why) = self.govs.get_mut(&machine).and_then(Governance::ended) else {
                continue;
            };
            self.note(machine, Fact::GaveUp { why });
            self.crash(machine, Crash::Kill);
            self.after(Duration::from_secs(1), Later::Start(machine));
        }
        self.nodes().for_each(|node| self.look_at(node));
    }

    fn look_at(&mut self, node: Machine) {
        if !self.is_running(node) {
            return;
        }
        let at = self.journal.elapsed();
        let site = self.site_mut(node);
        let status = site.status();
        site.learn_gaps(&status);
        site.learn_fill(at, &status);
        let is_rolled_back = site.is_rolled_back();
        self.coverage.status(node, &status);
        if is_rolled_back {
            self.adopt(node);
            return;
        }
        if status["phase"] == "failed" {
            let why = status["reason"].as_str().unwrap_or_default().to_owned();
            self.note(node, Fact::GaveUp { why });
            self.site_mut(node).node.crash(Crash::Kill);
            self.after(Duration::from_secs(1), Later::Start(node));
        }
    }

    /// Starts a machine; tries again, as whatever starts processes on a machine does.
    async fn start(&mut self, machine: Machine) {
        for _ in 0..START_TRIES {
            let is_up = match self.govs.get_mut(&machine) {
                Some(gov) => gov.start().await,
                None => self.site_mut(machine).start().await,
            };
            if is_up {
                return;
            }
            self.crash(machine, Crash::Kill);
            if !self.is_mended {
                // What keeps it down may be taken back meanwhile.
                self.after(Duration::from_secs(1), Later::Start(machine));
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.history.down.push(machine);
    }

    fn is_running(&self, machine: Machine) -> bool {
        match self.govs.get(&machine) {
            Some(gov) => gov.is_running(),
            None => self.site(machine).node.system().is_some(),
        }
    }

    fn crash(&mut self, machine: Machine, crash: Crash) {
        if let Some(gov) = self.govs.get_mut(&machine) {
            gov.crash(crash);
            return;
        }
        let status = self.site(machine).status();
        self.coverage.status(machine, &status);
        self.site_mut(machine).node.crash(crash);
    }

    fn hardware(&self, machine: Machine) -> &Hardware {
        match self.govs.get(&machine) {
            Some(gov) => &gov.hardware,
            None => &self.site(machine).node.hardware,
        }
    }

    fn site(&self, node: Machine) -> &Site {
        self.nodes.get(&node).expect("a node of the plan")
    }

    fn site_mut(&mut self, node: Machine) -> &mut Site {
        self.nodes.get_mut(&node).expect("a node of the plan")
    }

    fn nodes(&self) -> impl Iterator<Item = Machine> + use<> {
        self.plan.nodes.keys().copied().collect::<Vec<_>>().into_iter()
    }

    /// The nodes, and then the governance nodes.
    fn machines(&self) -> impl Iterator<Item = Machine> + use<> {
        self.nodes().chain((1..=self.plan.govs).map(Machine))
    }
}

/// The id of a message of a run.
pub(crate) fn id_of(seed: u64, number: u64) -> MessageId {
    let mut bytes = [0; 16];
    let (high, low) = bytes.split_at_mut(8);
    high.copy_from_slice(&(seed ^ 0xa1a1_a1a1_0000_0000).to_be_bytes());
    low.copy_from_slice(&number.to_be_bytes());
    MessageId::new(bytes)
}

/// The number of a message, if it is one of this run.
pub(crate) fn number_of(seed: u64, id: &MessageId) -> Option<u64> {
    let low = id.as_bytes().get(8..)?.try_into().ok()?;
    let number = u64::from_be_bytes(low);
    (id_of(seed, number) == *id).then_some(number)
}
