//! The end of a run: everything is mended, everything must end, and everything is written down.

use std::sync::atomic::Ordering;
use std::time::Duration;

use alys_stream_actor::StreamHandle;
use alys_stream_actor::letters::{CauseKind, LetterFilter, PageBounds};
use serde_json::Value;
use tokio::time::Instant;

use super::{World, acts, number_of};
use crate::coverage::Coverage;
use crate::fault::Kind;
use crate::history::History;
use crate::journal::{Fact, Journal};
use crate::net::Machine;
use crate::plan::Push;
use crate::planted::Planted;

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
        self.note(Machine::NODE, Fact::Fault("everything is mended".to_owned()));
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
            while self.tasks.try_join_next().is_some() {}
            let is_over = self.tasks.is_empty() && self.is_quiet() && self.held().await == 0;
            if is_over && self.are_files_in_force().await {
                return;
            }
        }
        let held = self.held().await;
        let status = self.status();
        let endpoints = status["endpoints"].as_array().into_iter().flatten();
        let endpoints: Vec<String> = endpoints
            .map(|it| format!("{} {} ({})", it["name"], it["state"], it["last_error"]))
            .collect();
        let text = format!(
            "not everything ended: {} senders wait, {held} to be applied, certificates are in force: \
             {}, {} unsettled, waiting {}, {}",
            self.tasks.len(),
            self.are_files_in_force().await,
            status["queues"]["unsettled"],
            status["pushed_waiting"],
            endpoints.join(", ")
        );
        self.note(Machine::NODE, Fact::Fault(text.clone()));
        self.history.unended = Some(text);
    }

    async fn held(&self) -> u64 {
        let mut held = 0_u64;
        for gov in self.govs.values() {
            held = held.saturating_add(gov.held().await);
        }
        held
    }

    pub(super) fn status(&self) -> Value {
        let status = self.node.system().map(|system| system.handle().status());
        status.and_then(|status| serde_json::to_value(status).ok()).unwrap_or_default()
    }

    fn is_quiet(&self) -> bool {
        let status = self.status();
        let waiting = status["pushed_waiting"].as_object();
        let is_told = waiting.is_some_and(|lanes| lanes.values().all(|count| count == 0));
        status["queues"]["unsettled"] == 0 && is_told && self.are_pushes_told()
    }

    /// Whether every proposal that governance holds was told.
    fn are_pushes_told(&self) -> bool {
        let entries = self.journal.entries();
        let told = |what: &str| {
            entries
                .iter()
                .any(|entry| matches!(&entry.fact, Fact::Told { what: it, .. } if it == what))
        };
        let mut owed = self.history.pushed.iter().filter(|pushed| self.history.is_owed(pushed));
        owed.all(|pushed| match &pushed.push {
            Push::Proposal(number) => told(&format!("proposal proposal-{number}")),
            Push::Update { .. } | Push::Unsigned { .. } => true,
        })
    }

    pub(super) fn is_rolled_back(&self) -> bool {
        let status = self.status();
        let mut errors = status["endpoints"].as_array().into_iter().flatten();
        errors.any(|endpoint| {
            let error = endpoint["last_error"].as_str().unwrap_or_default().to_lowercase();
            error.contains("rolled_back") || error.contains("stale_epoch")
        })
    }

    /// Asks the node and the disks what there is in the end.
    pub(super) async fn conclude(mut self) -> (History, Journal, Coverage) {
        if let Some(system) = self.node.system() {
            let handle = system.handle();
            if tokio::time::timeout(ANSWER_TIMEOUT, self.ask_ends(&handle)).await.is_err() {
                self.note(Machine::NODE, Fact::Fault("the node does not answer".to_owned()));
            }
        }
        let status = self.status();
        self.learn_gaps(&status);
        let gaps = std::mem::take(&mut self.gaps);
        if self.plan.planted != Some(Planted::SkipGap) {
            self.history.gaps = gaps.into_values().collect();
        }
        for (machine, gov) in &self.govs {
            let mut applied = gov.applied();
            for it in &mut applied {
                it.is_plain = !self.logs.is_known(it.log.as_slice());
                let (message, seq, is_plain) = (it.id, it.seq, it.is_plain);
                self.journal.note(*machine, Fact::Applied { message, seq, is_plain });
            }
            self.history.applied.insert(*machine, applied);
        }
        for machine in self.machines() {
            let hardware = self.hardware(machine);
            let misused = hardware.misused.load(Ordering::Relaxed);
            self.history.misused.insert(machine, misused);
        }
        for (message, accepted) in self.senders.accepted() {
            let offered = self.history.offered.iter_mut();
            for it in offered.filter(|offered| offered.spec.number == message) {
                it.accepted = Some(accepted);
            }
        }
        let panics = self.coverage.faults.get(&Kind::Panic).copied().unwrap_or(0);
        self.history.lives += self.node.hardware.life + panics;
        self.history.entries = self.journal.entries().clone();
        (self.history, self.journal, self.coverage)
    }

    async fn ask_ends(&mut self, handle: &StreamHandle) {
        let seed = self.plan.seed;
        for offered in &mut self.history.offered {
            let follow = handle.follow(offered.id).await.ok().flatten();
            let Some(mut follow) = follow else { continue };
            if let Some(outcome) = follow.next().await {
                let how = outcome.state().as_str_name().to_owned();
                let message = offered.spec.number;
                self.journal.note(Machine::NODE, Fact::Ended { message, how: how.clone() });
                offered.end = Some(how);
            }
        }
        let Ok(page) = handle.dead_letters(LetterFilter::default(), PAGE).await else { return };
        for (_, letter) in page.letters {
            let Some(message) = number_of(seed, &letter.message.id) else { continue };
            let cause = CauseKind::of(&letter.cause).as_str();
            self.journal.note(Machine::NODE, Fact::Letter { message, cause });
            let offered = self.history.offered.iter_mut();
            for it in offered.filter(|offered| offered.spec.number == message) {
                it.letter = Some(cause);
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
    // Damage beside damage makes one stretch longer.
    let place = |gap: &Value| format!("{} {} {}", gap["segment"], gap["offset"], gap["bytes"]);
    gaps.iter().map(|gap| (place(gap), seqs(gap))).collect()
}
