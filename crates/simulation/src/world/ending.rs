//! The end of a run: everything is mended, everything must end, and everything is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_stream_actor::StreamHandle;
use alys_stream_actor::letters::{CauseKind, LetterFilter, PageBounds};
use serde_json::Value;
use tokio::time::Instant;

use super::site::Site;
use super::{World, acts, number_of};
use crate::check;
use crate::coverage::Coverage;
use crate::history::History;
use crate::journal::{Actor, Fact, Journal};
use crate::net::Machine;

/// How long everything that was accepted may take to end once nothing is broken any more.
const PATIENCE: Duration = Duration::from_secs(900);

/// How long one answer of the node may take at the end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Letters on one page.
pub(super) const PAGE: PageBounds =
    PageBounds { after: None, count_max: 4096, bytes_max: 64 << 20 };

impl World {
    /// Takes every fault back and starts what is down.
    pub(super) async fn mend(&mut self) {
        for node in self.nodes() {
            self.note(node, Fact::Fault("everything is mended".to_owned()));
        }
        // First: what is to start again needs a disk with room.
        self.heal();
        self.is_mended = true;
        // Undoing one thing may leave another to be undone.
        while !self.later.is_empty() {
            for later in std::mem::take(&mut self.later).into_values() {
                self.undo(later).await;
            }
        }
        self.heal();
        for gov in self.govs.values() {
            gov.misbehave(&acts::honest()).await;
        }
        for machine in self.machines() {
            if !self.is_running(machine) {
                self.start(machine).await;
            }
        }
    }

    /// The machines and the network are well.
    fn heal(&self) {
        self.net.heal();
        if let Some(certificates) = &self.certificates {
            certificates.mend();
        }
        for machine in self.machines() {
            let hardware = self.hardware(machine);
            hardware.disk.set_space(None);
            hardware.disk.fail_syncs(0, 0);
            hardware.disk.fail_dir_syncs(0, 0);
            hardware.pace.set(None);
            hardware.clock.set_offset(0);
        }
    }

    /// Waits until every message has ended, and every governance node has applied what it holds.
    pub(super) async fn end(&mut self) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            self.pass_until(Instant::now() + Duration::from_secs(1)).await;
            let is_over = self.restless().is_empty() && self.held().await == 0;
            if is_over && self.flawed().await.is_empty() {
                return;
            }
        }
        let held = self.held().await;
        if held > 0 {
            self.history.unended.push(format!("{held} messages wait to be applied"));
        }
        for machine in self.flawed().await {
            let text = format!("{}: its certificates are not in force", machine.name());
            self.history.unended.push(text);
        }
        for node in self.restless() {
            let text = format!("not everything ended: {}", self.site(node).describe());
            self.note(node, Fact::Fault(text.clone()));
            self.history.unended.push(format!("{}: {text}", node.name()));
        }
    }

    /// How many messages governance nodes have taken and not applied.
    async fn held(&self) -> u64 {
        let mut held = 0_u64;
        for gov in self.govs.values() {
            held = held.saturating_add(gov.held().await);
        }
        held
    }

    /// The nodes that somebody waits for, and those that something waits for.
    fn restless(&mut self) -> Vec<Machine> {
        let busy: BTreeSet<Machine> = self
            .nodes
            .values_mut()
            .filter_map(|site| (!site.is_quiet()).then_some(site.machine))
            .collect();
        let is_restless = |node: &Machine| busy.contains(node) || !self.are_pushes_told(*node);
        self.nodes().filter(is_restless).collect()
    }

    /// Whether everything that governance holds for a node was told there.
    fn are_pushes_told(&self, node: Machine) -> bool {
        let (entries, site) = (self.journal.entries(), self.site(node));
        let of_node = entries.iter().filter(|entry| entry.node() == Some(node));
        let newest = of_node.filter_map(|entry| entry.fact.version_told()).max();
        if site.history.newest_owed(node, &self.history.pushed) > newest {
            return false;
        }
        if site.history.restored.is_empty() && !check::is_level(&entries, node) {
            return false;
        }
        let told = |what: &str| {
            let is_it = |fact: &Fact| fact.told(Actor::Chain) == Some(what);
            entries.iter().any(|entry| is_it(&entry.fact) && entry.node() == Some(node))
        };
        let mut owed = self.history.pushed.iter().filter(|it| site.history.is_owed(node, it));
        owed.all(|pushed| pushed.push.told_as().is_none_or(|what| told(&what)))
    }

    /// Asks the nodes and the disks what there is in the end.
    pub(super) async fn conclude(mut self) -> (History, Coverage) {
        let (seed, journal) = (self.plan.seed, self.journal.clone());
        for site in self.nodes.values_mut() {
            site.conclude(seed, &journal).await;
        }
        let owners = self.owners();
        for (machine, gov) in &self.govs {
            let mut applied = gov.applied();
            for it in &mut applied {
                let log = self.surroundings.logs.find(it.log.as_slice());
                it.by = log.and_then(|log| owners.get(&log).copied());
            }
            self.history.applied.insert(*machine, applied);
            self.history.doubtful.insert(*machine, gov.hardware.files.doubtful());
        }
        for (node, site) in self.nodes {
            self.history.nodes.insert(node, site.history);
        }
        self.coverage.faults = self.strikes.counts();
        self.history.entries = journal.entries().clone();
        (self.history, self.coverage)
    }

    /// Whose each log is: of the node that showed it first.
    fn owners(&self) -> BTreeMap<u8, Machine> {
        let mut owners = BTreeMap::new();
        for entry in &*self.journal.entries() {
            if let (Fact::Hello { log, .. }, Some(node)) = (&entry.fact, entry.node()) {
                owners.entry(*log).or_insert(node);
            }
        }
        owners
    }
}

impl Site {
    /// Asks a node how everything ended.
    async fn conclude(&mut self, seed: u64, journal: &Journal) {
        if let Some(system) = self.node.system() {
            let handle = system.handle();
            let asking = self.ask_ends(&handle, seed, journal);
            if tokio::time::timeout(ANSWER_TIMEOUT, asking).await.is_err() {
                journal.note(self.machine, Fact::Fault("the node does not answer".to_owned()));
            }
        }
        let status = self.status();
        self.learn_gaps(&status);
        self.history.gaps = std::mem::take(&mut self.gaps).into_values().collect();
        for (message, accepted) in self.senders.accepted() {
            let offered = self.history.offered.iter_mut();
            for it in offered.filter(|offered| offered.spec.number == message) {
                it.accepted = Some(accepted);
            }
        }
        self.history.lives += self.node.hardware.life;
    }

    async fn ask_ends(&mut self, handle: &StreamHandle, seed: u64, journal: &Journal) {
        let note = |fact| journal.note(self.machine, fact);
        let signed = &mut self.history.signed;
        for offered in &mut self.history.offered {
            let follow = handle.follow(offered.id).await.ok().flatten();
            let Some(mut follow) = follow else { continue };
            if let Some(outcome) = follow.next().await {
                let how = outcome.state().as_str_name().to_owned();
                let message = offered.spec.number;
                note(Fact::Ended { message, how: how.clone() });
                offered.end = Some(how);
                if !outcome.transaction.is_empty() {
                    signed.insert(message, outcome.transaction.to_vec());
                }
            }
        }
        let Ok(page) = handle.dead_letters(LetterFilter::default(), PAGE).await else { return };
        for (_, letter) in page.letters {
            let Some(message) = number_of(seed, &letter.message.id) else { continue };
            let cause = CauseKind::of(&letter.cause).as_str();
            note(Fact::Letter { message, cause });
            let offered = self.history.offered.iter_mut();
            for it in offered.filter(|offered| offered.spec.number == message) {
                it.letter = Some(cause.to_owned());
            }
        }
    }
}

/// The holes that the status of the node reports.
pub(super) fn gaps(status: &Value) -> Vec<(String, Option<[u64; 2]>)> {
    let gaps = status["gaps"].as_array().cloned().unwrap_or_default();
    let seqs = |gap: &Value| {
        let seqs = gap["seqs"].as_array()?;
        Some([seqs.first()?.as_u64()?, seqs.last()?.as_u64()?])
    };
    // Damage beside damage makes one stretch longer. What is missing altogether has no place.
    let place = |gap: &Value| {
        let is_placed = gap["bytes"].as_u64().is_some_and(|bytes| bytes > 0);
        let missing = if is_placed { &Value::Null } else { &gap["seqs"] };
        format!("{} {} {} {missing}", gap["segment"], gap["offset"], gap["bytes"])
    };
    gaps.iter().map(|gap| (place(gap), seqs(gap))).collect()
}
