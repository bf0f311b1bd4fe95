//! What operators do with certificates while everything works, and what they do wrong.

use std::time::Duration;

use fastrand::Rng;

use super::Kind;
use crate::certificates::Flaw;
use crate::net::Machine;
use crate::plan::FIRST_NODE;

/// One act with certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// A machine gets a new key, and a certificate for it.
    Renew { machine: Machine },
    /// A new authority: trusted at once, in use after a while, and after another while the only one.
    Authority { overlap: Duration },
    /// The files of a machine are wrong for a while.
    Spoil { machine: Machine, flaw: Flaw, time: Duration },
    /// A certificate is revoked, and its machine gets another one after a while.
    Revoke { machine: Machine, time: Duration },
}

impl Rotation {
    /// The kinds that are about certificates.
    pub(crate) const KINDS: [Kind; 7] = [
        Kind::RenewNode,
        Kind::RenewGovernance,
        Kind::RotateAuthority,
        Kind::BadCertificate,
        Kind::OutOfDate,
        Kind::BadTrust,
        Kind::Revoke,
    ];

    pub(super) fn draw(kind: Kind, (node, govs): (Machine, u8), rng: &mut Rng) -> Self {
        let gov = Machine(rng.u8(1..=govs));
        let struck = rng.u8(0..=govs);
        let machine = if struck == 0 { node } else { Machine(struck) };
        let time = Duration::from_millis(rng.u64(500..30_000));
        let spoil = |machine, flaw| Self::Spoil { machine, flaw, time };
        if kind == Kind::RenewNode {
            return Self::Renew { machine: node };
        }
        if kind == Kind::RenewGovernance {
            return Self::Renew { machine: gov };
        }
        if kind == Kind::RotateAuthority {
            return Self::Authority { overlap: time / 3 };
        }
        if kind == Kind::BadCertificate {
            let flaws = [Flaw::Foreign, Flaw::Missing, Flaw::Torn, Flaw::OtherKey, Flaw::OtherName];
            return spoil(machine, rng.choice(flaws).unwrap_or(Flaw::Foreign));
        }
        if kind == Kind::OutOfDate {
            let expires = Flaw::Expires(rng.u64(0..90));
            return spoil(machine, if rng.bool() { expires } else { Flaw::Early });
        }
        if kind == Kind::BadTrust {
            let flaws = [Flaw::OtherAuthority, Flaw::OldLists, Flaw::OtherPins];
            let flaw = rng.choice(flaws).unwrap_or(Flaw::OtherAuthority);
            // Only nodes have pins.
            return spoil(if flaw == Flaw::OtherPins { node } else { machine }, flaw);
        }
        Self::Revoke { machine, time }
    }

    /// Where it strikes; what is about everybody is told of the first node.
    pub(super) const fn machine(self) -> Machine {
        match self {
            Self::Renew { machine }
            | Self::Spoil { machine, .. }
            | Self::Revoke { machine, .. } => machine,
            Self::Authority { .. } => FIRST_NODE,
        }
    }

    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Renew { machine } if machine.identity().is_some() => Kind::RenewNode,
            Self::Renew { .. } => Kind::RenewGovernance,
            Self::Authority { .. } => Kind::RotateAuthority,
            Self::Spoil { flaw, .. } => flaw.kind(),
            Self::Revoke { .. } => Kind::Revoke,
        }
    }
}
