//! What operators do with certificates.

use std::time::Duration;

use super::{Later, World};
use crate::fault::Rotation;
use crate::journal::Fact;
use crate::net::Machine;

/// What is still to be done of a rotation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pending {
    /// The authority signs all certificates from now on.
    Issue { authority: u8, overlap: Duration },
    /// Nobody trusts the authorities before it any more.
    Distrust { authority: u8 },
    /// The files of a machine are well again.
    Mend(Machine),
    /// A machine whose certificate was revoked gets another one.
    Renew(Machine),
}

impl World {
    pub(super) fn rotate(&mut self, rotation: Rotation) {
        let Some(certificates) = self.certificates.clone() else { return };
        let (time, pending) = match rotation {
            Rotation::Renew { machine } => return certificates.renew(machine),
            Rotation::Authority { overlap } => {
                let authority = certificates.add_authority();
                (overlap, Pending::Issue { authority, overlap })
            }
            Rotation::Spoil { machine, flaw, time } => {
                certificates.set_flaw(machine, Some(flaw));
                (time, Pending::Mend(machine))
            }
            Rotation::Revoke { machine, time } => {
                certificates.revoke(machine);
                (time, Pending::Renew(machine))
            }
        };
        self.after(time, Later::Rotate(pending));
    }

    pub(super) fn go_on(&mut self, pending: Pending) {
        let Some(certificates) = self.certificates.clone() else { return };
        self.note(Machine::NODE, Fact::Fault(format!("of certificates: {pending:?}")));
        match pending {
            Pending::Issue { authority, overlap } => {
                certificates.issue_by(authority);
                self.after(overlap, Later::Rotate(Pending::Distrust { authority }));
            }
            Pending::Distrust { authority } => certificates.trust_from(authority),
            Pending::Mend(machine) => certificates.set_flaw(machine, None),
            Pending::Renew(machine) => certificates.renew(machine),
        }
    }

    /// Whether the files of every machine are in force as they are now (T62).
    pub(super) async fn are_files_in_force(&self) -> bool {
        let mut errors = vec![self.status()["tls"]["error"].take()];
        for gov in self.govs.values() {
            errors.push(gov.status().await["server"]["tls"]["error"].take());
        }
        errors.iter().all(serde_json::Value::is_null)
    }
}
