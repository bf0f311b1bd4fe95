//! The table: one row for each kind of failure.

use super::{Class, Escalation, Severity, Strategy};

/// What is known of one kind of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Which kind.
    pub kind: FailureKind,
    /// Whose fault it is.
    pub class: Class,
    /// How bad it is.
    pub severity: Severity,
    /// What is done about it.
    pub strategy: Strategy,
    /// Who has to know.
    pub escalation: Escalation,
    /// What an operator does.
    pub cure: &'static str,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The name of an endpoint has no address.
    NameNotResolved,
    /// Nobody listens at the address of an endpoint.
    PeerNotListening,
    /// The network has no way to an endpoint.
    PeerUnreachable,
    /// An endpoint did not answer in time.
    PeerSlow,
    /// A connection broke.
    LinkBroken,
    /// The peer ended the stream.
    PeerClosed,
    /// The peer answers no heartbeats.
    PeerSilent,
    /// The peer answers heartbeats and acknowledges nothing.
    PeerNotAcknowledging,
    /// The peer takes no session now.
    PeerBusy,
    /// The peer is shutting down.
    PeerShuttingDown,
    /// The peer answered with a gRPC status that says nothing more.
    GrpcStatus,
    /// Whatever answers does not speak gRPC over HTTP/2.
    NotGrpc,
    /// The peer does not offer what is needed.
    PeerIncompatible,
    /// The peer broke the rules of the session.
    SessionViolated,
    /// The peer says that we broke the rules of the session.
    SessionViolating,
    /// Something that governance sent is no valid message.
    InboundInvalid,
    /// A message of a kind that has no route.
    KindUnknown,
    /// A federation update whose members, threshold or type do not fit.
    UpdateUnusable,
    /// A federation update or an emergency with a version that is not new.
    UpdateOld,
    /// Two contents under one version or id.
    ContentConflict,
    /// More open updates, halts or proposals than there may be.
    NoRoom,
    /// A proposal without a usable deadline, or after it.
    ProposalUnusable,
    /// An endpoint that is not enabled says something.
    EndpointNotEnabled,
    /// An endpoint wants TLS and none is configured.
    TlsMissing,
    /// The certificate of a peer is not trusted or not usable.
    TlsUntrusted,
    /// The certificate of a peer is for another name.
    TlsWrongName,
    /// The certificate of a peer is out of its dates.
    TlsOutOfDate,
    /// The certificate of a peer is revoked.
    TlsRevoked,
    /// The certificate of a peer has a key that is not pinned.
    TlsNotPinned,
    /// Nobody can say whether a certificate is revoked.
    TlsRevocationUnclear,
    /// A peer does not accept our certificate, or wants one.
    TlsOwnCertificate,
    /// A peer speaks no TLS that we accept.
    TlsVersion,
    /// A TLS handshake failed otherwise.
    TlsFailed,
    /// A peer does not accept our credentials.
    CredentialRefused,
    /// A peer knows us and does not let us in.
    CredentialForbidden,
    /// Our credentials, or a peer's, expired.
    CredentialExpired,
    /// A federation update or an emergency that the federation did not sign.
    SignatureInvalid,
    /// A halt or a resume that could be an old one.
    EmergencyReplayed,
    /// The security gate does not let in what an endpoint sent.
    InboundNotAdmitted,
    /// The buffer holds as much as it may.
    QuotaFull,
    /// The disk is full.
    DiskFull,
    /// The disk is slower than the senders.
    DiskSlow,
    /// A file with ids of earlier messages cannot be read.
    IdsUnreadable,
    /// The disk does not take writes any more.
    DiskFailed,
    /// A log was closed while somebody waited for it.
    LogClosed,
    /// A record cannot be read back.
    RecordDamaged,
    /// Another process has the folder.
    DirectoryLocked,
    /// The folder cannot be written.
    DirectoryNotWritable,
    /// A newer program wrote the folder.
    FormatNewer,
    /// The folder holds what does not belong there, or not what it should.
    FolderWrong,
    /// Damage was found at the start, and the configuration says to halt.
    DamageFound,
    /// The file system says no.
    DiskUnreadable,
    /// The machine has no thread left.
    ThreadRefused,
    /// A newer process holds the log.
    LogFenced,
    /// Governance has seen more of the log than there is.
    LogRolledBack,
    /// The log of a peer went back.
    PeerLogRolledBack,
    /// The configuration cannot be used.
    ConfigInvalid,
    /// Something that was handed in cannot be sent.
    SubmissionInvalid,
    /// A message is larger than both sides accept.
    MessageTooLarge,
    /// No federation is configured.
    NoFederation,
    /// The stream is starting, restarting or stopping.
    NotRunning,
    /// An actor is not running.
    TargetAbsent,
    /// An actor does not keep up.
    TargetSlow,
    /// An actor died while it dealt with something.
    TargetDied,
    /// An actor says: not now.
    TargetDeferred,
    /// An actor says: never.
    TargetRefused,
    /// An actor of the tree ended without being told to.
    ActorDied,
    /// The federation history does not lead to a federation in force.
    HistoryBroken,
    /// Starting was cut short.
    StartInterrupted,
    /// This program contradicts itself.
    InvariantBroken,
}

const fn row(
    kind: FailureKind,
    class: Class,
    severity: Severity,
    strategy: Strategy,
    escalation: Escalation,
    cure: &'static str,
) -> Row {
    Row { kind, class, severity, strategy, escalation, cure }
}

use {Class as C, Escalation as E, FailureKind as K, Severity as S, Strategy as T};

/// Every kind, in the order of [`FailureKind`].
#[rustfmt::skip]
pub const TABLE: [Row; 70] = [
    row(K::NameNotResolved, C::Connection, S::Warning, T::Fallback, E::Alert, "check the URL and the resolver"),
    row(K::PeerNotListening, C::Connection, S::Warning, T::Fallback, E::Alert, "start the peer, or check the port"),
    row(K::PeerUnreachable, C::Connection, S::Warning, T::Fallback, E::Alert, "check the network between the two"),
    row(K::PeerSlow, C::Connection, S::Warning, T::Fallback, E::Alert, "check the load of the peer and the network"),
    row(K::LinkBroken, C::Connection, S::Info, T::Fallback, E::Nobody, "none: it is dialled again"),
    row(K::PeerClosed, C::Connection, S::Info, T::Fallback, E::Nobody, "none: it is opened again"),
    row(K::PeerSilent, C::Connection, S::Warning, T::Fallback, E::Alert, "check the load of the peer and the network"),
    row(K::PeerNotAcknowledging, C::Connection, S::Error, T::Breaker, E::Alert, "look at the disk of the peer"),
    row(K::PeerBusy, C::Connection, S::Info, T::Fallback, E::Nobody, "none: it is tried again when the peer says"),
    row(K::PeerShuttingDown, C::Connection, S::Info, T::Fallback, E::Nobody, "none: it is tried again after a backoff"),
    row(K::GrpcStatus, C::Connection, S::Warning, T::Fallback, E::Alert, "read the text of the status"),
    row(K::NotGrpc, C::Protocol, S::Error, T::Breaker, E::Human, "check that address and port are those of a governance node"),
    row(K::PeerIncompatible, C::Protocol, S::Error, T::Breaker, E::Human, "update the older one of the two"),
    row(K::SessionViolated, C::Protocol, S::Error, T::Breaker, E::Alert, "report it to whoever runs the peer, with the text"),
    row(K::SessionViolating, C::Protocol, S::Error, T::Breaker, E::Alert, "report it with the text: one of the two is wrong"),
    row(K::InboundInvalid, C::Protocol, S::Warning, T::Reject, E::Alert, "report it to whoever runs the peer, with the text"),
    row(K::KindUnknown, C::Protocol, S::Warning, T::Reject, E::Alert, "update this node, or correct the sender"),
    row(K::UpdateUnusable, C::Protocol, S::Error, T::Reject, E::Alert, "have the federation issue a correct one under a higher version"),
    row(K::UpdateOld, C::Protocol, S::Info, T::Reject, E::Nobody, "none: it is a copy, or an endpoint lags behind"),
    row(K::ContentConflict, C::Protocol, S::Critical, T::Reject, E::Human, "ask the federation which one it meant, and why there are two"),
    row(K::NoRoom, C::Protocol, S::Warning, T::Retry, E::Alert, "look at who sends so many"),
    row(K::ProposalUnusable, C::Protocol, S::Warning, T::Reject, E::Nobody, "have it proposed again with a deadline"),
    row(K::EndpointNotEnabled, C::Protocol, S::Info, T::Reject, E::Nobody, "none: it was enabled a moment ago"),
    row(K::TlsMissing, C::Auth, S::Error, T::Breaker, E::Human, "name a CA, a certificate and a key"),
    row(K::TlsUntrusted, C::Auth, S::Error, T::Breaker, E::Human, "add its CA, or check that it is the right peer"),
    row(K::TlsWrongName, C::Auth, S::Error, T::Breaker, E::Human, "set server_name, or use the right address"),
    row(K::TlsOutOfDate, C::Auth, S::Error, T::Breaker, E::Human, "renew it, or correct the clock"),
    row(K::TlsRevoked, C::Auth, S::Critical, T::Breaker, E::Human, "find out why before anything else"),
    row(K::TlsNotPinned, C::Auth, S::Critical, T::Breaker, E::Human, "pin the key if the peer really has a new one"),
    row(K::TlsRevocationUnclear, C::Auth, S::Error, T::Breaker, E::Human, "install the current revocation lists"),
    row(K::TlsOwnCertificate, C::Auth, S::Error, T::Breaker, E::Human, "get a certificate from a CA that the peer trusts"),
    row(K::TlsVersion, C::Auth, S::Error, T::Breaker, E::Human, "have it speak TLS 1.3"),
    row(K::TlsFailed, C::Auth, S::Warning, T::Breaker, E::Alert, "read the text"),
    row(K::CredentialRefused, C::Auth, S::Error, T::Breaker, E::Human, "check the credentials, and that the peer knows this node"),
    row(K::CredentialForbidden, C::Auth, S::Error, T::Breaker, E::Human, "have it allow this node"),
    row(K::CredentialExpired, C::Auth, S::Warning, T::Retry, E::Alert, "renew them in time"),
    row(K::SignatureInvalid, C::Auth, S::Critical, T::Reject, E::Human, "find out who sent it"),
    row(K::EmergencyReplayed, C::Auth, S::Error, T::Reject, E::Human, "have the federation issue it with a new version"),
    row(K::InboundNotAdmitted, C::Auth, S::Warning, T::Reject, E::Alert, "read the text: the endpoint sends what it may not, or too much"),
    row(K::QuotaFull, C::System, S::Warning, T::Degrade, E::Alert, "see why governance does not acknowledge; raise the quota"),
    row(K::DiskFull, C::System, S::Error, T::Degrade, E::Human, "free some space: it goes on by itself"),
    row(K::DiskSlow, C::System, S::Warning, T::Degrade, E::Alert, "see what else writes to the disk"),
    row(K::IdsUnreadable, C::System, S::Error, T::Degrade, E::Human, "check the disk, and restart: the file is made anew"),
    row(K::DiskFailed, C::System, S::Critical, T::Degrade, E::Supervisor, "check the disk"),
    row(K::LogClosed, C::System, S::Info, T::Retry, E::Nobody, "none: the node stops or restarts"),
    row(K::RecordDamaged, C::System, S::Critical, T::Degrade, E::Human, "check the disk; the record is lost, all others remain"),
    row(K::DirectoryLocked, C::System, S::Error, T::Reject, E::Human, "stop it, or name another folder"),
    row(K::DirectoryNotWritable, C::System, S::Error, T::Reject, E::Human, "give this user the right to write there"),
    row(K::FormatNewer, C::System, S::Error, T::Reject, E::Human, "use the newer program"),
    row(K::FolderWrong, C::System, S::Error, T::Reject, E::Human, "name the right folder"),
    row(K::DamageFound, C::System, S::Critical, T::Reject, E::Human, "repair the folder, or set on_corruption to quarantine"),
    row(K::DiskUnreadable, C::System, S::Error, T::Degrade, E::Supervisor, "check the disk"),
    row(K::ThreadRefused, C::System, S::Error, T::Degrade, E::Supervisor, "raise the limit of threads"),
    row(K::LogFenced, C::System, S::Critical, T::Breaker, E::Human, "stop one of the two processes"),
    row(K::LogRolledBack, C::System, S::Critical, T::Breaker, E::Human, "adopt a new log: it was restored from an old copy"),
    row(K::PeerLogRolledBack, C::System, S::Critical, T::Breaker, E::Human, "have whoever runs the peer adopt a new log there"),
    row(K::ConfigInvalid, C::System, S::Error, T::Reject, E::Human, "correct the key that the text names"),
    row(K::SubmissionInvalid, C::System, S::Info, T::Reject, E::Nobody, "correct the field that the text names"),
    row(K::MessageTooLarge, C::System, S::Warning, T::Reject, E::Nobody, "send it in parts"),
    row(K::NoFederation, C::System, S::Error, T::Reject, E::Human, "add the section `federation` to the configuration"),
    row(K::NotRunning, C::System, S::Info, T::Retry, E::Nobody, "none: try again"),
    row(K::TargetAbsent, C::System, S::Warning, T::Retry, E::Supervisor, "none: it is started again"),
    row(K::TargetSlow, C::System, S::Warning, T::Retry, E::Alert, "see what the actor waits for"),
    row(K::TargetDied, C::System, S::Error, T::Retry, E::Supervisor, "none: it is started again; read its log"),
    row(K::TargetDeferred, C::System, S::Info, T::Retry, E::Nobody, "none: it is told again"),
    row(K::TargetRefused, C::System, S::Error, T::Reject, E::Human, "read the dead letter, and replay it when the cause is mended"),
    row(K::ActorDied, C::System, S::Error, T::Retry, E::Supervisor, "none: it is started again; read its log"),
    row(K::HistoryBroken, C::System, S::Critical, T::Reject, E::Human, "put its folder back from a copy, or set it aside and configure the federation in force"),
    row(K::StartInterrupted, C::System, S::Error, T::Retry, E::Supervisor, "none: it is started again"),
    row(K::InvariantBroken, C::System, S::Critical, T::Degrade, E::Supervisor, "report it with the log"),
];

const _: () = {
    // A17: the place of a row is the number of its kind.
    let mut place = 0;
    while place < TABLE.len() {
        assert!(TABLE[place].kind as usize == place);
        place += 1;
    }
};

impl FailureKind {
    /// What the table says about it.
    #[must_use]
    pub fn row(self) -> &'static Row {
        static ROWS: [Row; TABLE.len()] = TABLE;
        &ROWS[self as usize]
    }

    /// The word used in metrics and output.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "one line for each kind")]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameNotResolved => "name_not_resolved",
            Self::PeerNotListening => "peer_not_listening",
            Self::PeerUnreachable => "peer_unreachable",
            Self::PeerSlow => "peer_slow",
            Self::LinkBroken => "link_broken",
            Self::PeerClosed => "peer_closed",
            Self::PeerSilent => "peer_silent",
            Self::PeerNotAcknowledging => "peer_not_acknowledging",
            Self::PeerBusy => "peer_busy",
            Self::PeerShuttingDown => "peer_shutting_down",
            Self::GrpcStatus => "grpc_status",
            Self::NotGrpc => "not_grpc",
            Self::PeerIncompatible => "peer_incompatible",
            Self::SessionViolated => "session_violated",
            Self::SessionViolating => "session_violating",
            Self::InboundInvalid => "inbound_invalid",
            Self::KindUnknown => "kind_unknown",
            Self::UpdateUnusable => "update_unusable",
            Self::UpdateOld => "update_old",
            Self::ContentConflict => "content_conflict",
            Self::NoRoom => "no_room",
            Self::ProposalUnusable => "proposal_unusable",
            Self::EndpointNotEnabled => "endpoint_not_enabled",
            Self::TlsMissing => "tls_missing",
            Self::TlsUntrusted => "tls_untrusted",
            Self::TlsWrongName => "tls_wrong_name",
            Self::TlsOutOfDate => "tls_out_of_date",
            Self::TlsRevoked => "tls_revoked",
            Self::TlsNotPinned => "tls_not_pinned",
            Self::TlsRevocationUnclear => "tls_revocation_unclear",
            Self::TlsOwnCertificate => "tls_own_certificate",
            Self::TlsVersion => "tls_version",
            Self::TlsFailed => "tls_failed",
            Self::CredentialRefused => "credential_refused",
            Self::CredentialForbidden => "credential_forbidden",
            Self::CredentialExpired => "credential_expired",
            Self::SignatureInvalid => "signature_invalid",
            Self::EmergencyReplayed => "emergency_replayed",
            Self::InboundNotAdmitted => "inbound_not_admitted",
            Self::QuotaFull => "quota_full",
            Self::DiskFull => "disk_full",
            Self::DiskSlow => "disk_slow",
            Self::IdsUnreadable => "ids_unreadable",
            Self::DiskFailed => "disk_failed",
            Self::LogClosed => "log_closed",
            Self::RecordDamaged => "record_damaged",
            Self::DirectoryLocked => "directory_locked",
            Self::DirectoryNotWritable => "directory_not_writable",
            Self::FormatNewer => "format_newer",
            Self::FolderWrong => "folder_wrong",
            Self::DamageFound => "damage_found",
            Self::DiskUnreadable => "disk_unreadable",
            Self::ThreadRefused => "thread_refused",
            Self::LogFenced => "log_fenced",
            Self::LogRolledBack => "log_rolled_back",
            Self::PeerLogRolledBack => "peer_log_rolled_back",
            Self::ConfigInvalid => "config_invalid",
            Self::SubmissionInvalid => "submission_invalid",
            Self::MessageTooLarge => "message_too_large",
            Self::NoFederation => "no_federation",
            Self::NotRunning => "not_running",
            Self::TargetAbsent => "target_absent",
            Self::TargetSlow => "target_slow",
            Self::TargetDied => "target_died",
            Self::TargetDeferred => "target_deferred",
            Self::TargetRefused => "target_refused",
            Self::ActorDied => "actor_died",
            Self::HistoryBroken => "history_broken",
            Self::StartInterrupted => "start_interrupted",
            Self::InvariantBroken => "invariant_broken",
        }
    }
}
