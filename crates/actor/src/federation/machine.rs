//! What the machine does about updates, heights and emergencies.

use std::collections::VecDeque;
use std::sync::Arc;

use alys_stream_protocol::federation::{Federation, UpdateError, update_digest, update_version};
use alys_stream_protocol::governance::{FederationUpdate, FederationUpdateType};
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::validate;

use super::emergency::{Emergencies, Emergency};
use super::entry::{AcceptedEntry, InForceEntry};
use super::successor::successor;
use super::{
    Action, Conflict, Entry, FederationCounts, Federations, InForce, KNOWN_VERSIONS_MAX, Known,
    Moment, RECENT_MAX, Refused, Root, SCHEDULED_MAX, Scheduled, Signer, Taken, Version,
};

/// What an update is, once everything about it was checked and before anything changed.
#[derive(Debug)]
pub(super) enum Checked {
    /// The same content was taken before.
    Known,
    /// It may be taken.
    Fresh(Fresh),
}

/// An update that may be taken.
#[derive(Debug)]
pub(super) struct Fresh {
    version: Version,
    federation: Federation,
    predecessor: Signer,
    /// How many of the scheduled ones stay; the others take effect no earlier, and give way.
    keep: usize,
}

impl Federations {
    /// A machine that has only the configured federation.
    #[must_use]
    pub fn new(root: Root, moment: Moment) -> Self {
        let Root { version, federation } = root;
        let in_force = InForce {
            version,
            federation,
            effective_height: 0,
            since: moment.at,
            first_seq: moment.next_seq,
            update: None,
        };
        Self {
            in_force: Arc::new(in_force),
            scheduled: VecDeque::new(),
            recent: VecDeque::new(),
            known: std::collections::BTreeMap::new(),
            newest: version,
            height: None,
            emergencies: Emergencies::default(),
            actions: VecDeque::new(),
            halts: VecDeque::new(),
            counts: FederationCounts::default(),
        }
    }

    /// The federation in force.
    #[must_use]
    pub const fn in_force(&self) -> &Arc<InForce> {
        &self.in_force
    }

    /// The highest version that was accepted or burnt: later ones are above it.
    #[must_use]
    pub const fn newest(&self) -> Version {
        self.newest
    }

    /// What waits for its height, next first.
    pub fn scheduled(&self) -> impl Iterator<Item = &Arc<Scheduled>> {
        self.scheduled.iter()
    }

    /// The halt in force, if there is one.
    #[must_use]
    pub const fn halted(&self) -> Option<&Arc<Emergency>> {
        self.emergencies.halted.as_ref()
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counts(&self) -> &FederationCounts {
        &self.counts
    }

    /// The federation that a message was accepted under: its answers are verified against that
    /// one, whatever is in force by then. `None` when that was more than [`RECENT_MAX`] changes ago.
    #[must_use]
    pub fn under(&self, seq: Seq) -> Option<&Arc<InForce>> {
        let newest_first = std::iter::once(&self.in_force).chain(self.recent.iter().rev());
        newest_first.into_iter().find(|federation| federation.first_seq <= seq)
    }

    /// Whether an update could be taken now: form, version, signatures and members, without taking
    /// it. `Ok` holds also for a copy of what was taken before.
    ///
    /// Ask this before its content counts towards an agreement of several endpoints, so that
    /// nothing unsigned can contradict what is signed.
    ///
    /// # Errors
    ///
    /// As [`Federations::handle_update`].
    pub fn examine(&self, update: &FederationUpdate) -> Result<(), Refused> {
        validate::federation_update(update).map_err(Refused::Invalid)?;
        match update.update_type() {
            FederationUpdateType::EmergencyHalt => self.check_emergency(update).map(drop),
            FederationUpdateType::MemberAdd
            | FederationUpdateType::MemberRemove
            | FederationUpdateType::ConfigChange
            | FederationUpdateType::Unspecified => self.check(update).map(drop),
        }
    }

    /// Takes an update or an emergency in. What is to be done follows as actions, even when it is
    /// refused: a conflict burns its version.
    ///
    /// # Errors
    ///
    /// When it is not acted on, and why. [`Refused::is_for_now`] says whether that may change.
    pub fn handle_update(
        &mut self,
        moment: Moment,
        endpoint: &str,
        update: &Arc<FederationUpdate>,
    ) -> Result<Taken, Refused> {
        let result = self.dispatch(moment, endpoint, update);
        match &result {
            Ok(Taken::AlreadyKnown) => self.counts.duplicates += 1,
            Ok(
                Taken::Scheduled { .. } | Taken::InForce { .. } | Taken::Halted | Taken::Resumed,
            ) => self.counts.taken += 1,
            Err(refused) => *self.counts.refused.entry(refused.word()).or_default() += 1,
        }
        result
    }

    fn dispatch(
        &mut self,
        moment: Moment,
        endpoint: &str,
        update: &Arc<FederationUpdate>,
    ) -> Result<Taken, Refused> {
        validate::federation_update(update).map_err(Refused::Invalid)?;
        match update.update_type() {
            FederationUpdateType::EmergencyHalt => self.act(moment, endpoint, update),
            FederationUpdateType::MemberAdd
            | FederationUpdateType::MemberRemove
            | FederationUpdateType::ConfigChange
            | FederationUpdateType::Unspecified => self.take(moment, endpoint, update),
        }
    }

    /// Chain is at this height. What is due takes effect, in order. A lower one than before, after
    /// a reorganisation, takes nothing back.
    pub fn handle_height(&mut self, moment: Moment, height: u64) {
        self.height = self.height.max(Some(height));
        self.apply_due(moment);
    }

    /// Several endpoints brought different contents for a version, each of them signed: none of
    /// them is applied, and the version is burnt.
    pub fn handle_conflict(&mut self, moment: Moment, version: Version) {
        self.burn(moment, version);
    }

    /// Begins after a restart: what was at once and not in force yet takes effect, and everybody is
    /// told how things are.
    pub fn handle_started(&mut self, moment: Moment) {
        if let Some(halt) = self.emergencies.halted.clone() {
            self.halts.push_back(halt);
        }
        let before = self.in_force.version;
        self.apply_due(moment);
        if self.in_force.version == before {
            self.actions.push_back(Action::TellInForce(Arc::clone(&self.in_force)));
        }
        for scheduled in &self.scheduled {
            self.actions.push_back(Action::TellScheduled(Arc::clone(scheduled)));
        }
    }

    /// The next halt to tell Chain and Bridge, ahead of every action.
    #[must_use]
    pub fn peek_halt(&self) -> Option<&Arc<Emergency>> {
        self.halts.front()
    }

    /// Chain and Bridge have dealt with this halt.
    pub fn finish_halt(&mut self, halt: &Arc<Emergency>) {
        self.halts.retain(|it| !Arc::ptr_eq(it, halt));
    }

    /// A resume was told: a halt that is in force is to be told after it.
    pub fn repeat_halt(&mut self) {
        if let Some(halt) = self.emergencies.halted.clone() {
            self.halts.push_back(halt);
        }
    }

    /// The next action.
    #[must_use]
    pub fn peek_action(&self) -> Option<&Action> {
        self.actions.front()
    }

    /// The next action is done.
    pub fn finish_action(&mut self) {
        self.actions.pop_front();
    }

    pub(super) fn check(&self, update: &FederationUpdate) -> Result<Checked, Refused> {
        let version = update_version(update)
            .map(Version)
            .map_err(|source| Refused::Signature { predecessor: self.in_force.version, source })?;
        if version <= self.newest {
            return self.check_old(version, update).map(|()| Checked::Known);
        }
        let effective = self.effective(update);
        // What would take effect no earlier gives way.
        let keep = self.scheduled.partition_point(|it| it.effective_height < effective);
        let predecessor = match keep.checked_sub(1).and_then(|last| self.scheduled.get(last)) {
            Some(last) => Signer { version: last.version, federation: last.federation.clone() },
            None => Signer {
                version: self.in_force.version,
                federation: self.in_force.federation.clone(),
            },
        };
        verify(&predecessor, update)?;
        let federation = successor(&predecessor.federation, update)?;
        if keep >= SCHEDULED_MAX {
            return Err(Refused::ScheduleFull);
        }
        Ok(Checked::Fresh(Fresh { version, federation, predecessor, keep }))
    }

    /// A version that is not new: a copy, an old one, or a conflict.
    fn check_old(&self, version: Version, update: &FederationUpdate) -> Result<(), Refused> {
        let old = || Refused::OldVersion { found: version, newest: self.newest };
        let known = self.known.get(&version).ok_or_else(old)?;
        let is_in_force = self.in_force.version >= version && !known.is_burnt;
        if known.digest != update_digest(update) {
            // Without signatures it contradicts nothing.
            verify(&known.predecessor, update)?;
            return Err(Refused::Conflict { version, is_in_force });
        }
        match known.is_burnt {
            true => Err(Refused::Conflict { version, is_in_force }),
            false => Ok(()),
        }
    }

    /// From which height on; 0 for at once, also when that height has been reached.
    fn effective(&self, update: &FederationUpdate) -> u64 {
        match self.height {
            Some(height) if update.effective_height <= height => 0,
            Some(_) | None => update.effective_height,
        }
    }

    fn take(
        &mut self,
        moment: Moment,
        endpoint: &str,
        update: &Arc<FederationUpdate>,
    ) -> Result<Taken, Refused> {
        let checked = self.check(update).inspect_err(|refused| {
            if let Refused::Conflict { version, .. } = refused {
                self.burn(moment, *version);
            }
        });
        let version = match checked? {
            Checked::Known => return Ok(Taken::AlreadyKnown),
            Checked::Fresh(fresh) => {
                let version = fresh.version;
                self.accept(moment, update, fresh);
                version
            }
        };
        let entry = AcceptedEntry {
            at: moment.at,
            endpoint: endpoint.to_owned(),
            update: Arc::clone(update),
        };
        self.actions.push_back(Action::Store(Arc::new(Entry::Accepted(entry))));
        self.apply_due(moment);
        if self.in_force.version == version {
            return Ok(Taken::InForce { version });
        }
        if let Some(scheduled) = self.scheduled.back() {
            self.actions.push_back(Action::TellScheduled(Arc::clone(scheduled)));
        }
        Ok(Taken::Scheduled { version, effective_height: update.effective_height })
    }

    pub(super) fn accept(&mut self, moment: Moment, update: &Arc<FederationUpdate>, fresh: Fresh) {
        let Fresh { version, federation, predecessor, keep } = fresh;
        self.scheduled.truncate(keep);
        let digest = update_digest(update);
        self.remember(version, Known { digest, predecessor, is_burnt: false, is_disputed: false });
        self.scheduled.push_back(Arc::new(Scheduled {
            version,
            federation,
            effective_height: update.effective_height,
            accepted_at: moment.at,
            update: Arc::clone(update),
        }));
        debug_assert!(self.newest < version, "A11: versions ascend");
        self.newest = version;
    }

    fn remember(&mut self, version: Version, known: Known) {
        self.known.insert(version, known);
        while self.known.len() > KNOWN_VERSIONS_MAX {
            self.known.pop_first();
        }
    }

    fn apply_due(&mut self, moment: Moment) {
        while self.scheduled.front().is_some_and(|next| {
            next.effective_height == 0 || self.height >= Some(next.effective_height)
        }) {
            let Some(next) = self.scheduled.pop_front() else { return };
            let entry = InForceEntry {
                version: next.version,
                height: self.height.unwrap_or_default(),
                at: moment.at,
                first_seq: moment.next_seq,
            };
            self.enter(&next, moment);
            self.actions.push_back(Action::Store(Arc::new(Entry::InForce(entry))));
            self.actions.push_back(Action::TellInForce(Arc::clone(&self.in_force)));
        }
    }

    pub(super) fn enter(&mut self, next: &Scheduled, moment: Moment) {
        debug_assert!(self.in_force.version < next.version, "A11: versions ascend");
        debug_assert!(
            next.effective_height == 0 || self.height >= Some(next.effective_height),
            "A12: nothing takes effect below its height"
        );
        let in_force = InForce {
            version: next.version,
            federation: next.federation.clone(),
            effective_height: next.effective_height,
            since: moment.at,
            first_seq: moment.next_seq,
            update: Some(Arc::clone(&next.update)),
        };
        self.recent.push_back(std::mem::replace(&mut self.in_force, Arc::new(in_force)));
        while self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }

    /// Takes a version, and what is chained to it, off the schedule for good. Alerts once.
    fn burn(&mut self, moment: Moment, version: Version) {
        let is_in_force = version <= self.in_force.version;
        let is_settled = match self.known.get_mut(&version) {
            Some(known) => std::mem::replace(&mut known.is_disputed, true),
            // Burnt, or forgotten, before.
            None => version <= self.newest,
        };
        if is_settled {
            return;
        }
        if !is_in_force {
            self.restore_burnt(version);
            let entry = Entry::Burnt { version, at: moment.at };
            self.actions.push_back(Action::Store(Arc::new(entry)));
        }
        let conflict = Conflict { version, is_emergency: false, is_in_force };
        self.actions.push_back(Action::Alert(conflict));
    }
}

pub(super) fn verify(signer: &Signer, update: &FederationUpdate) -> Result<(), Refused> {
    let verified = signer.federation.verify_update(update);
    verified
        .map(drop)
        .map_err(|source: UpdateError| Refused::Signature { predecessor: signer.version, source })
}
