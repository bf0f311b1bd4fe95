//! Halts and resumes: how they are told apart, and which of them may act.

use std::collections::BTreeSet;
use std::sync::Arc;

use alys_stream_protocol::federation::{
    EMERGENCY_PARAMETER, EMERGENCY_RESUME, REASON_PARAMETER, update_digest, update_version,
};
use alys_stream_protocol::governance::FederationUpdate;
use alys_stream_protocol::time::UnixMillis;

use super::entry::EmergencyEntry;
use super::machine::verify;
use super::{
    Action, Conflict, Entry, Federations, Moment, Refused, Signer, Taken, UNVERSIONED_HALTS_MAX,
    Version,
};

/// Longest reason that is kept, in bytes.
const REASON_BYTES_MAX: usize = 256;

/// What an emergency asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EmergencyKind {
    /// Stop producing blocks.
    Halt,
    /// Go on.
    Resume,
}

/// A halt or a resume with valid signatures.
#[derive(Debug, Clone, PartialEq)]
pub struct Emergency {
    /// What it asks for.
    pub kind: EmergencyKind,
    /// Its place on the number line of emergencies; `None` for a halt that names none.
    pub version: Option<Version>,
    /// Why, in the words of the federation; may be empty.
    pub reason: String,
    /// The endpoint that it came from.
    pub endpoint: String,
    /// When.
    pub at: UnixMillis,
    /// As signed.
    pub update: Arc<FederationUpdate>,
}

impl Emergency {
    pub(super) fn new(update: &Arc<FederationUpdate>, endpoint: &str, at: UnixMillis) -> Self {
        let mut reason = parameter(update, REASON_PARAMETER).unwrap_or_default().to_owned();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self {
            kind: kind_of(update),
            version: version_of(update),
            reason,
            endpoint: endpoint.to_owned(),
            at,
            update: Arc::clone(update),
        }
    }
}

fn parameter<'a>(update: &'a FederationUpdate, name: &str) -> Option<&'a str> {
    update.config.as_ref()?.parameters.get(name).map(String::as_str)
}

/// What an update of the type `EMERGENCY_HALT` asks for.
pub(crate) fn kind_of(update: &FederationUpdate) -> EmergencyKind {
    match parameter(update, EMERGENCY_PARAMETER) {
        Some(EMERGENCY_RESUME) => EmergencyKind::Resume,
        // Fail safe: what nobody knows halts.
        Some(_) | None => EmergencyKind::Halt,
    }
}

/// Validation has seen it, so what is there is a number.
pub(super) fn version_of(update: &FederationUpdate) -> Option<Version> {
    update_version(update).ok().map(Version)
}

/// What is remembered of emergencies.
#[derive(Debug, Clone, Default)]
pub(super) struct Emergencies {
    /// The halt in force.
    pub(super) halted: Option<Arc<Emergency>>,
    /// The newest version that acted, and its digest.
    newest: Option<(Version, [u8; 32])>,
    /// Halts without a version that acted.
    unversioned: BTreeSet<[u8; 32]>,
    /// The version whose contradiction was told.
    disputed: Option<Version>,
}

/// What an emergency is before its signatures were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may act when it is signed.
    Fresh,
    /// It acted before.
    Known,
    /// Another one acted under its version: a conflict when it is signed.
    Contradicts(Version),
}

impl Emergencies {
    pub(super) fn newest(&self) -> Version {
        self.newest.map_or(Version(0), |(version, _)| version)
    }

    pub(super) fn standing(
        &self,
        update: &FederationUpdate,
        digest: &[u8; 32],
    ) -> Result<Standing, Refused> {
        let kind = kind_of(update);
        let Some(found) = version_of(update) else {
            return self.unversioned_standing(kind, digest);
        };
        match self.newest {
            Some((newest, known)) if found == newest && known == *digest => Ok(Standing::Known),
            Some((newest, _)) if found == newest => Ok(Standing::Contradicts(found)),
            Some((newest, _)) if found < newest => Err(Refused::OldVersion { found, newest }),
            Some(_) | None => Ok(Standing::Fresh),
        }
    }

    fn unversioned_standing(
        &self,
        kind: EmergencyKind,
        digest: &[u8; 32],
    ) -> Result<Standing, Refused> {
        match kind {
            EmergencyKind::Resume => Err(Refused::ResumeWithoutVersion { newest: self.newest() }),
            EmergencyKind::Halt if self.unversioned.contains(digest) => match self.halted {
                Some(_) => Ok(Standing::Known),
                None => Err(Refused::ReplayedHalt),
            },
            EmergencyKind::Halt if self.unversioned.len() >= UNVERSIONED_HALTS_MAX => {
                Err(Refused::UnversionedHalts)
            }
            EmergencyKind::Halt => Ok(Standing::Fresh),
        }
    }

    /// Takes one in. Says whether it changes anything.
    pub(super) fn take(&mut self, emergency: &Arc<Emergency>, digest: [u8; 32]) -> bool {
        match emergency.version {
            Some(version) => self.newest = Some((version, digest)),
            None => {
                self.unversioned.insert(digest);
            }
        }
        let was_halted = self.halted.is_some();
        match emergency.kind {
            EmergencyKind::Halt => {
                if !was_halted {
                    self.halted = Some(Arc::clone(emergency));
                }
                !was_halted
            }
            EmergencyKind::Resume => {
                self.halted = None;
                was_halted
            }
        }
    }
}

impl Federations {
    pub(super) fn check_emergency(&self, update: &FederationUpdate) -> Result<Standing, Refused> {
        let digest = update_digest(update);
        let standing = self.emergencies.standing(update, &digest)?;
        if standing == Standing::Known {
            return Ok(standing);
        }
        let signer =
            Signer { version: self.in_force.version, federation: self.in_force.federation.clone() };
        verify(&signer, update)?;
        match standing {
            Standing::Contradicts(version) => Err(Refused::Conflict { version, is_in_force: true }),
            Standing::Fresh | Standing::Known => Ok(standing),
        }
    }

    /// A halt or a resume: checked, taken, told (A13).
    pub(super) fn act(
        &mut self,
        moment: Moment,
        endpoint: &str,
        update: &Arc<FederationUpdate>,
    ) -> Result<Taken, Refused> {
        let standing = self.check_emergency(update).inspect_err(|refused| {
            if let Refused::Conflict { version, .. } = refused
                && self.emergencies.disputed.replace(*version) != Some(*version)
            {
                let conflict =
                    Conflict { version: *version, is_emergency: true, is_in_force: true };
                self.actions.push_back(Action::Alert(conflict));
            }
        })?;
        if standing == Standing::Known {
            return Ok(Taken::AlreadyKnown);
        }
        let emergency = Arc::new(Emergency::new(update, endpoint, moment.at));
        let changed = self.emergencies.take(&emergency, update_digest(update));
        let entry = Entry::Emergency(EmergencyEntry {
            at: moment.at,
            endpoint: endpoint.to_owned(),
            update: Arc::clone(update),
        });
        self.actions.push_back(Action::Store(Arc::new(entry)));
        match emergency.kind {
            EmergencyKind::Halt => {
                if changed {
                    self.halts.push_back(emergency);
                }
                Ok(Taken::Halted)
            }
            EmergencyKind::Resume => {
                self.halts.clear();
                if changed {
                    self.actions.push_back(Action::TellResumed(emergency));
                }
                Ok(Taken::Resumed)
            }
        }
    }
}
