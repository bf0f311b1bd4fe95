//! The machine as an earlier process left it, rebuilt from the history and verified link by link.

use std::sync::Arc;

use alys_stream_protocol::federation::{Federation, update_digest};
use alys_stream_protocol::governance::FederationUpdate;

use super::emergency::{Emergency, Standing};
use super::entry::{EmergencyEntry, InForceEntry, RootEntry};
use super::machine::Checked;
use super::{Action, Entry, Federations, Moment, RECENT_MAX, Refused, Root, Version};

/// A history that does not lead to a federation in force. The node must not guess: it would trust
/// keys that may have been replaced.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It begins with something else than a configured federation.
    #[error(
        "the federation history has no beginning: put its folder back from a copy, or set it aside \
         and configure the federation in force with its version"
    )]
    NoRoot,
    /// An entry is not signed by what it replaces.
    #[error(
        "entry {entry} of the federation history does not follow from version {newest} \
         ({source}): put its folder back from a copy, or set it aside and configure the federation \
         in force with its version"
    )]
    Broken {
        /// Which entry, from 0.
        entry: u64,
        /// The last version that verified.
        newest: Version,
        /// What is wrong with it.
        #[source]
        source: Box<Refused>,
    },
    /// An entry says that something took effect which was not next.
    #[error(
        "entry {entry} of the federation history puts version {version} in force out of turn: put \
         its folder back from a copy, or set it aside and configure the federation in force with \
         its version"
    )]
    OutOfTurn {
        /// Which entry, from 0.
        entry: u64,
        /// The version.
        version: Version,
    },
    /// The configured federation is not the one that the history knows by its version.
    #[error(
        "the configured federation is another version {version} than the one in the history: correct \
         it, or give it a version above {newest} to have it take over"
    )]
    OtherRoot {
        /// The configured version.
        version: Version,
        /// The newest one in the history.
        newest: Version,
    },
}

impl Federations {
    /// Goes through the entries of a history, in order, and verifies every link again. `None` when
    /// there are none.
    ///
    /// # Errors
    ///
    /// At the first entry that does not follow from those before.
    pub fn restore(entries: impl IntoIterator<Item = Entry>) -> Result<Option<Self>, RestoreError> {
        let mut restored: Option<Self> = None;
        for (number, entry) in (0_u64..).zip(entries) {
            match (&mut restored, entry) {
                (None, Entry::Root(root)) => restored = Some(Self::from_root(root)),
                (None, _) => return Err(RestoreError::NoRoot),
                (Some(machine), entry) => machine.restore_entry(number, entry)?,
            }
        }
        Ok(restored)
    }

    /// Makes the configured federation and the history agree: the configured one begins a history,
    /// or takes over one that is older than it. What then has to be stored is the first action.
    ///
    /// # Errors
    ///
    /// When both know a version by different members.
    pub fn reconcile(
        restored: Option<Self>,
        configured: Option<Root>,
        moment: Moment,
    ) -> Result<Option<Self>, RestoreError> {
        let entry = |root: &Root| {
            let Root { version, federation } = root.clone();
            let Moment { at, next_seq } = moment;
            Entry::Root(RootEntry { version, federation, at, first_seq: next_seq })
        };
        match (restored, configured) {
            (None, None) => Ok(None),
            (Some(machine), None) => Ok(Some(machine)),
            (None, Some(root)) => {
                let first = entry(&root);
                let mut machine = Self::new(root, moment);
                machine.actions.push_back(Action::Store(Arc::new(first)));
                Ok(Some(machine))
            }
            (Some(mut machine), Some(root)) if root.version > machine.newest => {
                let next = entry(&root);
                machine.restore_root(root, moment);
                machine.actions.push_back(Action::Store(Arc::new(next)));
                Ok(Some(machine))
            }
            (Some(machine), Some(root)) => {
                let known = machine.federation_of(root.version);
                if known.is_some_and(|known| *known != root.federation) {
                    let newest = machine.newest;
                    return Err(RestoreError::OtherRoot { version: root.version, newest });
                }
                Ok(Some(machine))
            }
        }
    }

    fn from_root(entry: RootEntry) -> Self {
        let RootEntry { version, federation, at, first_seq } = entry;
        Self::new(Root { version, federation }, Moment { at, next_seq: first_seq })
    }

    fn restore_entry(&mut self, number: u64, entry: Entry) -> Result<(), RestoreError> {
        let newest = self.newest;
        let broken =
            |source| RestoreError::Broken { entry: number, newest, source: Box::new(source) };
        match entry {
            Entry::Root(RootEntry { version, federation, at, first_seq }) => {
                self.restore_root(Root { version, federation }, Moment { at, next_seq: first_seq });
                Ok(())
            }
            Entry::Accepted(accepted) => {
                // Its place among the messages is told when it takes effect.
                let moment = Moment { at: accepted.at, next_seq: self.in_force.first_seq };
                self.restore_accepted(moment, &accepted.update).map_err(broken)
            }
            Entry::InForce(in_force) => match self.restore_in_force(&in_force) {
                true => Ok(()),
                false => Err(RestoreError::OutOfTurn { entry: number, version: in_force.version }),
            },
            Entry::Burnt { version, .. } => {
                self.restore_burnt(version);
                Ok(())
            }
            Entry::Emergency(emergency) => self.restore_emergency(&emergency).map_err(broken),
        }
    }

    /// Takes an accepted update in again, at a restart. It takes effect when the history says so.
    fn restore_accepted(
        &mut self,
        moment: Moment,
        update: &Arc<FederationUpdate>,
    ) -> Result<(), Refused> {
        if let Checked::Fresh(fresh) = self.check(update)? {
            self.accept(moment, update, fresh);
        }
        Ok(())
    }

    /// The next scheduled one takes effect again, at a restart.
    fn restore_in_force(&mut self, entry: &InForceEntry) -> bool {
        if self.in_force.version == entry.version {
            // Written twice, by one who did not wait for the first time.
            return true;
        }
        if self.scheduled.front().is_none_or(|next| next.version != entry.version) {
            return false;
        }
        let Some(next) = self.scheduled.pop_front() else { return false };
        self.height = self.height.max((entry.height > 0).then_some(entry.height));
        self.height = self.height.max((next.effective_height > 0).then_some(next.effective_height));
        self.enter(&next, Moment { at: entry.at, next_seq: entry.first_seq });
        true
    }

    /// Takes a version, and what is chained to it, off the schedule.
    pub(super) fn restore_burnt(&mut self, version: Version) {
        let keep = self.scheduled.partition_point(|it| it.version < version);
        // Those above are chained to one that nobody can be sure of.
        for dropped in self.scheduled.drain(keep..).collect::<Vec<_>>() {
            if let Some(known) = self.known.get_mut(&dropped.version) {
                known.is_burnt = true;
            }
        }
        if let Some(known) = self.known.get_mut(&version) {
            known.is_burnt = true;
        }
        self.newest = self.newest.max(version);
    }

    /// Takes an emergency in again, at a restart.
    fn restore_emergency(&mut self, entry: &EmergencyEntry) -> Result<(), Refused> {
        if self.check_emergency(&entry.update)? == Standing::Fresh {
            let emergency = Emergency::new(&entry.update, &entry.endpoint, entry.at);
            self.emergencies.take(&Arc::new(emergency), update_digest(&entry.update));
        }
        Ok(())
    }

    /// Starts over from another root; what is known of emergencies stays.
    fn restore_root(&mut self, root: Root, moment: Moment) {
        let next = Self::new(root, moment);
        let before = std::mem::replace(self, next);
        self.newest = self.newest.max(before.newest);
        self.emergencies = before.emergencies;
        self.recent = before.recent;
        self.recent.push_back(before.in_force);
        while self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
    }

    /// The federation of a version that is or was in force, if it is remembered.
    fn federation_of(&self, version: Version) -> Option<&Federation> {
        let past = std::iter::once(&self.in_force).chain(self.recent.iter());
        past.into_iter().find(|it| it.version == version).map(|it| &it.federation)
    }
}
