//! What operators do with certificates.

use std::time::Duration;

use super::{Later, World};
use crate::fault::Rotation;
use crate::journal::Fact;
use crate::net::Machine;
use crate::plan::FIRST_NODE;

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

impl Pending {
    /// Where it happens; what is about everybody is told of the first node.
    const fn machine(self) -> Machine {
        match self {
            Self::Issue { .. } | Self::Distrust { .. } => FIRST_NODE,
            Self::Mend(machine) | Self::Renew(machine) => machine,
        }
    }
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
        self.note(pending.machine(), Fact::Fault(format!("of certificates: {pending:?}")));
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

    /// The machines whose files are not in force as they are now (T62).
    pub(super) async fn flawed(&self) -> Vec<Machine> {
        let is_flawed = |status: &serde_json::Value| !status["tls"]["error"].is_null();
        let nodes = self.nodes.values().filter(|site| is_flawed(&site.status()));
        let mut flawed: Vec<Machine> = nodes.map(|site| site.machine).collect();
        for (machine, gov) in &self.govs {
            if is_flawed(&gov.status().await["server"]) {
                flawed.push(*machine);
            }
        }
        flawed
    }
}
