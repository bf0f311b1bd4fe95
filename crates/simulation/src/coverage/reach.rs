//! Which kinds of failures a run may have at all.

use alys_stream_actor::failure::FailureKind as Kind;
use alys_stream_transport::connection::StateKind;

/// So many seeds exercise everything but what is rare; fewer are not judged by that.
pub const COVERING_SEEDS: u64 = 400;

/// So many exercise what is rare.
const COVERING_SEEDS_RARE: u64 = 4_000;

/// So many exercise everything.
const COVERING_SEEDS_RAREST: u64 = 40_000;

/// How many seeds have an edge of the connection machine.
#[must_use]
pub const fn seeds_for_edge(old: StateKind, new: StateKind) -> u64 {
    match (old, new) {
        // A node that stops within a few milliseconds.
        (StateKind::Connected, StateKind::Disconnected) => COVERING_SEEDS_RARE,
        _ => COVERING_SEEDS,
    }
}

/// How many seeds have failures of a kind that is reachable.
#[must_use]
pub const fn seeds_for_kind(kind: Kind) -> u64 {
    // Pings of HTTP/2, or the other side, end most silent connections before heartbeats do; a
    // certificate for another name has to meet a peer of the published protocol; an update is old
    // when a neighbour puts off dealing with it until a newer one is there.
    let is_rarest = matches!(kind, Kind::PeerSilent | Kind::CredentialRefused | Kind::UpdateOld);
    let is_rare = matches!(kind, Kind::GrpcStatus | Kind::CredentialForbidden);
    if is_rarest {
        COVERING_SEEDS_RAREST
    } else if is_rare {
        COVERING_SEEDS_RARE
    } else {
        COVERING_SEEDS
    }
}

/// Why no run has failures of a kind; `None` of a kind that many runs together must have.
#[must_use]
pub const fn unreachable(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::PeerNotListening
        | Kind::PeerSlow
        | Kind::LinkBroken
        | Kind::PeerClosed
        | Kind::PeerSilent
        | Kind::PeerNotAcknowledging
        | Kind::PeerBusy
        | Kind::GrpcStatus
        | Kind::PeerIncompatible
        | Kind::TlsUntrusted
        | Kind::TlsWrongName
        | Kind::TlsOutOfDate
        | Kind::TlsRevoked
        | Kind::TlsNotPinned
        | Kind::TlsRevocationUnclear
        | Kind::TlsOwnCertificate
        | Kind::TlsFailed
        | Kind::CredentialForbidden
        | Kind::CredentialRefused
        | Kind::SignatureInvalid
        | Kind::DiskFull
        | Kind::DiskFailed
        | Kind::LogFenced
        | Kind::LogRolledBack
        | Kind::UpdateOld
        | Kind::TargetAbsent
        | Kind::TargetSlow
        | Kind::TargetDied
        | Kind::TargetDeferred
        | Kind::ActorDied => return None,
        Kind::NameNotResolved => "every name has an address",
        Kind::PeerUnreachable => "a machine that is not there refuses, or says nothing",
        Kind::PeerShuttingDown => "a governance node that stops ends its streams",
        Kind::NotGrpc | Kind::TlsVersion | Kind::TlsMissing => "every peer speaks what it should",
        Kind::SessionViolated
        | Kind::SessionViolating
        | Kind::InboundInvalid
        | Kind::InboundNotAdmitted => "what governance nodes do wrong, they do within the protocol",
        Kind::KindUnknown | Kind::ConfigInvalid | Kind::NoFederation => "configurations are right",
        Kind::UpdateUnusable
        | Kind::ContentConflict
        | Kind::NoRoom
        | Kind::ProposalUnusable
        | Kind::EmergencyReplayed => "pushes are well-formed, few, and each is made once",
        Kind::EndpointNotEnabled => "endpoints change with a restart",
        Kind::CredentialExpired => "there are certificates alone",
        Kind::QuotaFull | Kind::DiskSlow => "quotas hold all that a run hands over",
        Kind::IdsUnreadable
        | Kind::LogClosed
        | Kind::RecordDamaged
        | Kind::DiskUnreadable
        | Kind::DamageFound
        | Kind::HistoryBroken => "bits flip while a machine is down, and reading does not fail",
        Kind::DirectoryLocked
        | Kind::DirectoryNotWritable
        | Kind::FormatNewer
        | Kind::FolderWrong => "every process has a folder of its own",
        Kind::ThreadRefused => "there are no threads",
        Kind::PeerLogRolledBack => "governance nodes keep their disks",
        Kind::SubmissionInvalid | Kind::MessageTooLarge | Kind::NotRunning => {
            "it goes back to whoever handed it over, and is not counted"
        }
        Kind::TargetRefused => "the neighbours refuse nothing for good",
        Kind::StartInterrupted | Kind::InvariantBroken => "it would be a bug",
    })
}
