//! The table, who is in which row, and the mode.

use std::collections::BTreeSet;
use std::time::Duration;

use alys_stream_messaging::buffer::AppendCause;
use alys_stream_messaging::log::{DurabilityError, OpenError, ReadError, SegmentId};
use alys_stream_messaging::router::Target;
use alys_stream_protocol::federation::UpdateError;
use alys_stream_protocol::session::RefuseCode;
use alys_stream_transport::exchange::Refusal;
use alys_stream_transport::grpc::{LinkCause, StreamDied};
use alys_stream_transport::session::{Dead, HandshakeError, SessionViolation};
use alys_stream_transport::tls::{Pin, TlsFault};

use super::*;
use crate::federation::{self, FederationFailure, HistoryError, RestoreError, Version};
use crate::neighbours::TargetError;
use crate::proposals;
use crate::submit::SubmitError;
use crate::supervision::{ActorDied, TreePath};
use crate::{SendError, StartError};

/// The whole table as text: a change of behaviour is a change of this file.
#[test]
fn the_table_is_what_it_was() {
    let mut text = String::new();
    for row in &TABLE {
        let Row { kind, class, severity, strategy, escalation, cure } = row;
        let words = format!(
            "{:<24} {:<11} {:<9} {:<9} {:<11} {cure}\n",
            kind.as_str(),
            class.as_str(),
            severity.as_str(),
            format!("{strategy:?}").to_lowercase(),
            format!("{escalation:?}").to_lowercase(),
        );
        text.push_str(&words);
    }
    let expected = include_str!("testdata/table.txt");
    assert_eq!(text, expected, "correct src/failure/testdata/table.txt, and say why");
}

#[test]
fn every_kind_has_its_own_word_and_row() {
    let words: BTreeSet<_> = TABLE.iter().map(|row| row.kind.as_str()).collect();
    assert_eq!(words.len(), TABLE.len(), "A17");
    for row in &TABLE {
        assert_eq!(row.kind.row(), row, "A17");
    }
}

#[test]
fn rows_follow_the_rules_of_their_columns() {
    for row in &TABLE {
        let Row { kind, class, severity, strategy, escalation, cure } = *row;
        let needs_nobody = cure.starts_with("none");
        if escalation == Escalation::Human {
            assert!(severity >= Severity::Error && !needs_nobody, "{kind:?}");
        }
        if severity == Severity::Critical {
            assert!(escalation >= Escalation::Supervisor, "{kind:?}");
        }
        if severity == Severity::Info {
            assert_eq!(escalation, Escalation::Nobody, "{kind:?}");
        }
        if class == Class::Connection {
            assert!(matches!(strategy, Strategy::Fallback | Strategy::Breaker), "{kind:?}");
        }
        if class == Class::Auth {
            // The same again with the same credentials is pointless.
            let hopeless = matches!(strategy, Strategy::Breaker | Strategy::Reject);
            assert!(hopeless || kind == FailureKind::CredentialExpired, "{kind:?}");
        }
        assert!(!cure.is_empty() && !cure.ends_with('.'), "{kind:?}");
    }
}

fn io() -> std::io::Error {
    std::io::Error::other("no")
}

fn refusal(code: RefuseCode) -> Refusal {
    Refusal::new(code, "no")
}

/// One error of each layer for every kind: a kind that no error has would be a dead row.
fn examples() -> Vec<FailureKind> {
    let mut kinds = vec![
        LinkCause::NotResolved { host: "h".into(), detail: "d".into() }.kind(),
        LinkCause::Refused.kind(),
        LinkCause::Unreachable("x".into()).kind(),
        LinkCause::TimedOut(Duration::ZERO).kind(),
        LinkCause::TlsMissing.kind(),
        LinkCause::Http1.kind(),
        LinkCause::Broken("x".into()).kind(),
        LinkCause::Closed.kind(),
        LinkCause::Unimplemented("x").kind(),
        LinkCause::Status { code: "x".into(), message: "x".into() }.kind(),
        LinkCause::Violation(SessionViolation::UnknownFrame).kind(),
        LinkCause::Dead(Dead::Silent { missed: 3 }).kind(),
        LinkCause::Dead(Dead::Unacknowledged { seq: Seq(1), waited: Duration::ZERO }).kind(),
        HandshakeError::Refusing(refusal(RefuseCode::LogRolledBack)).kind(),
        alys_stream_transport::session::OverBudget.kind(),
        UpdateError::Unsigned.kind(),
    ];
    let codes = [
        RefuseCode::Unauthenticated,
        RefuseCode::Forbidden,
        RefuseCode::StaleEpoch,
        RefuseCode::LogRolledBack,
        RefuseCode::Incompatible,
        RefuseCode::Busy,
        RefuseCode::ShuttingDown,
        RefuseCode::ProtocolViolation,
        RefuseCode::CredentialExpired,
    ];
    kinds.extend(codes.map(|code| LinkCause::Refusal(refusal(code)).kind()));
    let faults = [
        TlsFault::UnknownAuthority,
        TlsFault::WrongName { expected: "a".into(), presented: "b".into() },
        TlsFault::Expired,
        TlsFault::Revoked,
        TlsFault::NotPinned { presented: Pin::new([0; 32]) },
        TlsFault::RevocationUnknown,
        TlsFault::Version,
        TlsFault::ClientCertificateMissing,
        TlsFault::Other("x".into()),
    ];
    kinds.extend(faults.map(|fault| LinkCause::Tls(fault).kind()));
    kinds.extend(disk());
    kinds.extend(ours());
    kinds
}

fn disk() -> Vec<FailureKind> {
    let dir = || std::path::PathBuf::from("/d");
    let causes = [
        AppendCause::Full { used_bytes: 1, quota_bytes: 1 },
        AppendCause::DiskFull,
        AppendCause::Backlog,
        AppendCause::IdsUnreadable,
        AppendCause::TooLarge { index: 0, bytes: 1 },
        AppendCause::Poisoned,
    ];
    let opens = [
        OpenError::Locked { dir: dir(), pid: None },
        OpenError::NotWritable { path: dir(), source: io() },
        OpenError::NewerVersion { path: dir(), found: 9 },
        OpenError::Foreign { path: dir() },
        OpenError::Aside { dir: dir(), aside: dir() },
        OpenError::Corrupt { path: dir(), offset: 0 },
        OpenError::Io { operation: "x", path: dir(), source: io() },
        OpenError::Thread(io()),
    ];
    let mut kinds: Vec<_> = causes.iter().map(Classified::kind).collect();
    kinds.extend(opens.map(|error| StartError::Open(error).kind()));
    kinds.push(DurabilityError::Closed.kind());
    kinds.push(ReadError::Damaged { segment: SegmentId(1), offset: 0 }.kind());
    kinds
}

fn ours() -> Vec<FailureKind> {
    let version = Version(1);
    let target = Target::Chain;
    let invalid = alys_stream_protocol::validate::proposal_notification(&Default::default());
    let refused = |it: federation::Refused| FederationFailure::Refused(it).kind();
    vec![
        invalid.unwrap_err().kind(),
        alys_stream_messaging::router::UnknownKind(alys_stream_protocol::message::MessageKind(7))
            .kind(),
        refused(federation::Refused::MemberCount { stated: 1, active: 2 }),
        refused(federation::Refused::OldVersion { found: version, newest: version }),
        refused(federation::Refused::Conflict { version, is_in_force: false }),
        refused(federation::Refused::ScheduleFull),
        refused(federation::Refused::ReplayedHalt),
        crate::gate::GateRefusal::Never { reason: "x".into() }.kind(),
        proposals::Refused::NoDeadline.kind(),
        proposals::Refused::NotEnabled.kind(),
        HistoryError::Full.kind(),
        RestoreError::OtherRoot { version, newest: version }.kind(),
        SendError::Unavailable.kind(),
        SubmitError::Empty.kind(),
        SubmitError::NoFederation.kind(),
        StartError::Interrupted("x".into()).kind(),
        ActorDied::new(&TreePath::root(), "x").kind(),
        LinkCause::Died(StreamDied("x".into())).kind(),
        TargetError::Absent(target).kind(),
        TargetError::Busy(target).kind(),
        TargetError::Died(target).kind(),
        TargetError::Deferred { target, reason: "x".into() }.kind(),
        TargetError::Refused { target, reason: "x".into() }.kind(),
    ]
}

#[test]
fn every_row_has_an_error_that_is_in_it() {
    let seen: BTreeSet<_> = examples().into_iter().collect();
    let unseen: Vec<_> =
        TABLE.iter().map(|row| row.kind).filter(|kind| !seen.contains(kind)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[test]
fn context_is_attached_once_and_shown() {
    let id = MessageId::new([1; 16]);
    let context = Context::endpoint("eu-1").message(Seq(7), &id).attempt(3).trace(Some("00-ab"));
    let failure = Failure::new(&LinkCause::Refused, context);
    failure.report();
    assert_eq!(failure.kind, FailureKind::PeerNotListening);
    assert_eq!(failure.row().strategy, Strategy::Fallback);
    let Context { endpoint, seq, message_id, attempt, traceparent } = failure.context;
    assert_eq!((endpoint.as_deref(), seq, attempt), (Some("eu-1"), Some(7), Some(3)));
    assert_eq!((message_id, traceparent.as_deref()), (Some(id.to_string()), Some("00-ab")));
    let volatile = Context::default().message(Seq::VOLATILE, &id);
    assert_eq!(volatile.seq, None);
    let long = Failure::new(&LinkCause::Broken("ä".repeat(5000)), Context::default());
    assert!(long.text.len() <= TEXT_BYTES_MAX);
}

#[test]
fn a_flood_of_one_kind_counts_and_pushes_nothing_out() {
    let mut failures = Failures::default();
    let at = UnixMillis(1);
    let failure = |endpoint: &str| Failure::new(&LinkCause::Refused, Context::endpoint(endpoint));
    let other = Failure::new(&AppendCause::DiskFull, Context::default());
    assert!(failures.handle_failure(at, other));
    for number in 0..1000 {
        assert_eq!(failures.handle_failure(at, failure("eu-1")), number == 0);
    }
    assert!(failures.handle_failure(at, failure("eu-2")));
    let times: Vec<_> = failures.last().map(|seen| seen.times).collect();
    assert_eq!(times, [1, 1000, 1]);
    assert_eq!(failures.counts()[&FailureKind::PeerNotListening], 1001);
    assert_eq!(failures.by_class()[&(Class::Connection, Severity::Warning)], 1001);
    for number in 0..1000 {
        failures.handle_failure(at, failure(&number.to_string()));
    }
    assert_eq!(failures.last().count(), LAST_MAX);
}

/// Everything works: 4 endpoints, 3 members must sign.
fn facts() -> Facts {
    Facts {
        endpoints_live: 4,
        endpoints_enabled: 4,
        threshold: Some(3),
        buffer_bytes_max: 100,
        ..Facts::default()
    }
}

#[test]
fn the_mode_follows_the_facts_and_says_why() {
    type Change = fn(&mut Facts);
    let cases: [(Change, &str); 12] = [
        (|_| (), "normal: everything works"),
        (
            |it| it.targets_late = vec!["chain", "sync"],
            "falling_behind: chain, sync cannot be told: what governance pushes waits",
        ),
        (
            |it| it.threshold = None,
            "no_federation: no federation is configured: signature requests are refused",
        ),
        (|it| it.endpoints_live = 3, "normal: everything works"),
        (
            |it| it.endpoints_live = 2,
            "reduced: 2 of 4 endpoints carry data: signatures are collected, 3 members must sign and may not all be behind them",
        ),
        (
            |it| (it.endpoints_live, it.threshold) = (2, Some(2)),
            "reduced: 2 of 4 endpoints carry data: signatures are still collected",
        ),
        (
            |it| it.endpoints_live = 0,
            "no_endpoint: none of 4 endpoints carries data: messages are accepted and held",
        ),
        (
            |it| it.buffer_bytes = 100,
            "buffer_full: the buffer holds 100 of 100 bytes: senders wait",
        ),
        (
            |it| it.is_disk_full = true,
            "disk_full: the disk is full: senders wait, what is durable is sent",
        ),
        (
            |it| it.is_disk_failed = true,
            "disk_failed: the disk takes no more writes: nothing is accepted, what is durable is sent",
        ),
        (
            |it| it.halted = Some(String::new()),
            "halted: governance halted block production (no reason given): messages still go",
        ),
        (|it| it.stopped = Some("asked to".into()), "stopped: the node does not run: asked to"),
    ];
    for (change, expected) in cases {
        let mut facts = facts();
        change(&mut facts);
        let report = ModeReport::of(&facts);
        assert_eq!(format!("{}: {}", report.mode, report.reason), expected);
    }
}

#[test]
fn the_worst_is_the_mode_and_all_reasons_are_told() {
    let report = ModeReport::of(&Facts {
        is_restarting: true,
        halted: Some("fork".into()),
        is_disk_full: true,
        endpoints_live: 0,
        ..facts()
    });
    assert_eq!(report.mode, Mode::Restarting);
    for part in ["started again", "(fork)", "disk is full", "none of 4 endpoints"] {
        assert!(report.reason.contains(part), "{}", report.reason);
    }
    assert!(!report.mode.accepts() && !report.mode.may_produce());
    assert!(Mode::NoEndpoint.accepts() && !Mode::NoEndpoint.may_produce());
    assert!(Mode::Halted.accepts() && !Mode::Halted.may_produce());
    assert!(!Mode::DiskFull.accepts() && Mode::DiskFull.may_produce());
}
