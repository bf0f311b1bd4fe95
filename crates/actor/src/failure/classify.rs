//! Which kind of failure every error of every layer is.
//!
//! Total matches without a catch-all, as far as the enums allow: a new variant does not compile
//! until somebody has thought about it.

use alys_stream_config::ConfigError;
use alys_stream_messaging::buffer::{AppendCause, AppendError, Unreadable};
use alys_stream_messaging::inbox::Fenced;
use alys_stream_messaging::log::{DurabilityError, OpenError, ReadError};
use alys_stream_messaging::outbox::TooManyEndpoints;
use alys_stream_messaging::router::{RouterError, UnknownKind};
use alys_stream_messaging::storage::LockError;
use alys_stream_messaging::tools::ToolError;
use alys_stream_protocol::federation::{FederationError, UpdateError};
use alys_stream_protocol::session::{InvalidRecord, RefuseCode};
use alys_stream_protocol::signing::SigningError;
use alys_stream_protocol::validate::Invalid;
use alys_stream_transport::balance::BalanceConfigError;
use alys_stream_transport::endpoint::EndpointError;
use alys_stream_transport::exchange::{ReceiveError, Refusal};
use alys_stream_transport::grpc::{LinkCause, LinkError};
use alys_stream_transport::session::{Dead, HandshakeError, OverBudget, SessionViolation};
use alys_stream_transport::tls::{TlsConfigError, TlsFault, TlsLoadError};

use super::FailureKind as Kind;
use crate::delivery::{SendError, StartError};
use crate::federation::{self, FederationFailure, HistoryError, RestoreError};
use crate::letters::LettersError;
use crate::neighbours::TargetError;
use crate::proposals::{self, ProposalFailure, ProposalLogError};
use crate::submit::SubmitError;

/// An error that has its row in the table.
pub trait Classified {
    /// Which one.
    fn kind(&self) -> Kind;
}

impl Classified for LinkError {
    fn kind(&self) -> Kind {
        self.cause.kind()
    }
}

impl Classified for LinkCause {
    fn kind(&self) -> Kind {
        match self {
            Self::NotResolved { .. } => Kind::NameNotResolved,
            Self::Refused => Kind::PeerNotListening,
            Self::Unreachable(_) => Kind::PeerUnreachable,
            Self::TimedOut(_) => Kind::PeerSlow,
            Self::TlsMissing => Kind::TlsMissing,
            Self::Tls(fault) => fault.kind(),
            Self::Http1 | Self::Garbage => Kind::NotGrpc,
            Self::Broken(_) => Kind::LinkBroken,
            Self::Dead(dead) => dead.kind(),
            Self::NotStored(error) => error.kind(),
            Self::Invariant(_) => Kind::InvariantBroken,
            Self::Closed => Kind::PeerClosed,
            Self::Unimplemented(_) => Kind::PeerIncompatible,
            Self::Refusal(refusal) => refusal.kind(),
            Self::NotRegistered(_) => Kind::CredentialRefused,
            Self::Violation(violation) => violation.kind(),
            Self::Died(_) => Kind::ActorDied,
            Self::Status { .. } | _ => Kind::GrpcStatus,
        }
    }
}

impl Classified for TlsFault {
    fn kind(&self) -> Kind {
        match self {
            Self::UnknownAuthority | Self::BadCertificate(_) => Kind::TlsUntrusted,
            Self::WrongName { .. } => Kind::TlsWrongName,
            Self::Expired | Self::NotYetValid => Kind::TlsOutOfDate,
            Self::Revoked => Kind::TlsRevoked,
            Self::NotPinned { .. } => Kind::TlsNotPinned,
            Self::RevocationUnknown
            | Self::RevocationListExpired
            | Self::RevocationListUnusable(_) => Kind::TlsRevocationUnclear,
            Self::Version => Kind::TlsVersion,
            Self::NotTls | Self::NoHttp2 => Kind::NotGrpc,
            Self::ClientCertificateMissing | Self::ClientCertificateRefused(_) => {
                Kind::TlsOwnCertificate
            }
            Self::Alert(_) | Self::Closed | Self::Other(_) | _ => Kind::TlsFailed,
        }
    }
}

impl Classified for Refusal {
    fn kind(&self) -> Kind {
        match self.code {
            RefuseCode::Unauthenticated => Kind::CredentialRefused,
            RefuseCode::Forbidden => Kind::CredentialForbidden,
            RefuseCode::StaleEpoch => Kind::LogFenced,
            RefuseCode::LogRolledBack => Kind::LogRolledBack,
            RefuseCode::Incompatible => Kind::PeerIncompatible,
            RefuseCode::Unspecified | RefuseCode::Busy => Kind::PeerBusy,
            RefuseCode::ShuttingDown => Kind::PeerShuttingDown,
            RefuseCode::ProtocolViolation => Kind::SessionViolating,
            RefuseCode::CredentialExpired => Kind::CredentialExpired,
        }
    }
}

impl Classified for HandshakeError {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            // What we refuse of the peer's: its log, not ours.
            Self::Refusing(refusal) => {
                let is_log =
                    matches!(refusal.code, RefuseCode::LogRolledBack | RefuseCode::StaleEpoch);
                if is_log { Kind::PeerLogRolledBack } else { refusal.kind() }
            }
            Self::Violation(violation) => violation.kind(),
        }
    }
}

impl Classified for Dead {
    fn kind(&self) -> Kind {
        match self {
            Self::Silent { .. } => Kind::PeerSilent,
            Self::Unacknowledged { .. } => Kind::PeerNotAcknowledging,
        }
    }
}

impl Classified for OpenError {
    fn kind(&self) -> Kind {
        match self {
            Self::Locked { .. } => Kind::DirectoryLocked,
            Self::NotWritable { .. } => Kind::DirectoryNotWritable,
            Self::NewerVersion { .. } => Kind::FormatNewer,
            Self::Foreign { .. } | Self::Aside { .. } => Kind::FolderWrong,
            Self::Corrupt { .. } | Self::Missing { .. } => Kind::DamageFound,
            Self::DiskFull { .. } => Kind::DiskFull,
            Self::Io { .. } => Kind::DiskUnreadable,
            Self::Thread(_) => Kind::ThreadRefused,
        }
    }
}

impl Classified for DurabilityError {
    fn kind(&self) -> Kind {
        match self {
            Self::Failed { .. } => Kind::DiskFailed,
            Self::Closed => Kind::LogClosed,
        }
    }
}

impl Classified for ReadError {
    fn kind(&self) -> Kind {
        match self {
            Self::Damaged { .. } => Kind::RecordDamaged,
            Self::Io { .. } => Kind::DiskUnreadable,
        }
    }
}

impl Classified for AppendCause {
    fn kind(&self) -> Kind {
        match self {
            Self::Full { .. } => Kind::QuotaFull,
            Self::DiskFull => Kind::DiskFull,
            Self::Backlog => Kind::DiskSlow,
            Self::IdsUnreadable => Kind::IdsUnreadable,
            Self::TooLarge { .. } => Kind::MessageTooLarge,
            Self::Poisoned => Kind::DiskFailed,
        }
    }
}

impl Classified for Fenced {
    fn kind(&self) -> Kind {
        match self {
            Self::StaleEpoch { .. } | Self::RolledBack { .. } | Self::Copied { .. } => {
                Kind::PeerLogRolledBack
            }
        }
    }
}

impl Classified for LockError {
    fn kind(&self) -> Kind {
        match self {
            Self::Held { .. } => Kind::DirectoryLocked,
            Self::Io(_) => Kind::DirectoryNotWritable,
        }
    }
}

impl Classified for ToolError {
    fn kind(&self) -> Kind {
        match self {
            Self::NotABuffer { .. }
            | Self::NotEmpty { .. }
            | Self::Kept { .. }
            | Self::NoCopy { .. } => Kind::FolderWrong,
            Self::Open(error) => error.kind(),
            Self::Changed { .. } => Kind::DirectoryLocked,
        }
    }
}

impl Classified for AppendError {
    fn kind(&self) -> Kind {
        self.cause.kind()
    }
}

impl Classified for Unreadable {
    fn kind(&self) -> Kind {
        self.source.kind()
    }
}

impl Classified for UpdateError {
    fn kind(&self) -> Kind {
        match self {
            Self::Unsigned | Self::UnderSigned(_) => Kind::SignatureInvalid,
            Self::Unreadable(_) | Self::TooMany(_) | Self::NoVersion | Self::Version => {
                Kind::InboundInvalid
            }
        }
    }
}

impl Classified for SendError {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid { source, .. } => source.kind(),
            Self::TooLarge { cause, .. } | Self::Backpressure { cause, .. } => cause.kind(),
            Self::UnknownKind { source, .. } => source.kind(),
            Self::Io(_) => Kind::DiskFailed,
            Self::Unavailable => Kind::NotRunning,
        }
    }
}

impl Classified for SubmitError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoFederation => Kind::NoFederation,
            Self::UnknownKind(unknown) => unknown.kind(),
            Self::TooLarge(_) => Kind::MessageTooLarge,
            Self::Empty
            | Self::Id(_)
            | Self::Key(_)
            | Self::Priority(_)
            | Self::Traceparent
            | Self::Deadline(_)
            | Self::Invalid(_)
            | Self::ReservedKind(_)
            | Self::Unsignable(_)
            | Self::Expired { .. } => Kind::SubmissionInvalid,
        }
    }
}

impl Classified for StartError {
    fn kind(&self) -> Kind {
        match self {
            Self::Open(error) => error.kind(),
            Self::Router(error) => error.kind(),
            Self::Endpoints(error) => error.kind(),
            Self::Tls(error) => error.kind(),
            Self::History(error) => error.kind(),
            Self::Restore(error) => error.kind(),
            Self::Proposals(error) => error.kind(),
            Self::Fence(_) => Kind::DiskFailed,
            Self::Deaths(error) => error.kind(),
            Self::Interrupted(_) => Kind::StartInterrupted,
        }
    }
}

impl Classified for LettersError {
    fn kind(&self) -> Kind {
        match self {
            Self::Io(_) => Kind::DiskFailed,
            Self::Unavailable => Kind::NotRunning,
        }
    }
}

impl Classified for TargetError {
    fn kind(&self) -> Kind {
        match self {
            Self::Absent(_) => Kind::TargetAbsent,
            Self::Busy(_) | Self::TimedOut { .. } => Kind::TargetSlow,
            Self::Died(_) => Kind::TargetDied,
            Self::Deferred { .. } => Kind::TargetDeferred,
            Self::Refused { .. } => Kind::TargetRefused,
        }
    }
}

impl Classified for federation::Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(invalid) => invalid.kind(),
            Self::Signature { source, .. } => source.kind(),
            Self::OldVersion { .. } => Kind::UpdateOld,
            Self::Conflict { .. } => Kind::ContentConflict,
            Self::Members(_) | Self::WrongType { .. } | Self::MemberCount { .. } => {
                Kind::UpdateUnusable
            }
            Self::ScheduleFull | Self::UnversionedHalts => Kind::NoRoom,
            Self::ReplayedHalt | Self::ResumeWithoutVersion { .. } => Kind::EmergencyReplayed,
            Self::NotEnabled => Kind::EndpointNotEnabled,
        }
    }
}

impl Classified for FederationFailure {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refused) => refused.kind(),
            Self::History(error) => error.kind(),
            Self::Target(error) => error.kind(),
        }
    }
}

impl Classified for HistoryError {
    fn kind(&self) -> Kind {
        match self {
            Self::Open(error) => error.kind(),
            Self::Lost { .. } | Self::Invalid { .. } | Self::Full => Kind::HistoryBroken,
            Self::Read { source, .. } => source.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

impl Classified for RestoreError {
    fn kind(&self) -> Kind {
        match self {
            Self::NoRoot | Self::Broken { .. } | Self::OutOfTurn { .. } => Kind::HistoryBroken,
            Self::OtherRoot { .. } => Kind::ConfigInvalid,
        }
    }
}

impl Classified for proposals::Refused {
    fn kind(&self) -> Kind {
        match self {
            Self::Invalid(invalid) => invalid.kind(),
            Self::NoDeadline | Self::TooFar { .. } | Self::Expired { .. } => Kind::ProposalUnusable,
            Self::Conflict { .. } => Kind::ContentConflict,
            Self::NotEnabled => Kind::EndpointNotEnabled,
            Self::Full => Kind::NoRoom,
        }
    }
}

impl Classified for ProposalFailure {
    fn kind(&self) -> Kind {
        match self {
            Self::Refused(refused) => refused.kind(),
            Self::Target(error) => error.kind(),
            Self::Log(error) => error.kind(),
        }
    }
}

impl Classified for ProposalLogError {
    fn kind(&self) -> Kind {
        match self {
            Self::Open(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}

/// Errors all of whose variants are one kind.
macro_rules! all_of {
    ($($error:ty => $kind:ident),* $(,)?) => {
        $(impl Classified for $error {
            fn kind(&self) -> Kind {
                Kind::$kind
            }
        })*
    };
}

all_of! {
    SessionViolation => SessionViolated,
    OverBudget => InvariantBroken,
    // The inbox did not take it: its disk.
    ReceiveError => DiskFailed,
    Invalid => InboundInvalid,
    InvalidRecord => InboundInvalid,
    UnknownKind => KindUnknown,
    FederationError => UpdateUnusable,
    SigningError => SubmissionInvalid,
    ConfigError => ConfigInvalid,
    RouterError => ConfigInvalid,
    TooManyEndpoints => ConfigInvalid,
    EndpointError => ConfigInvalid,
    BalanceConfigError => ConfigInvalid,
    TlsConfigError => ConfigInvalid,
    TlsLoadError => ConfigInvalid,
}
