//! What is late, what only takes its time, and what never leaves.

use alys_stream_protocol::message::{Message, MessageId, MessageKind, Settled};
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;

use super::*;
use crate::exchange::Refusal;
use crate::session::features::Features;
use crate::session::handshake::{
    HEARTBEAT_INTERVAL_MAX, HEARTBEAT_INTERVAL_MIN, Limits, Terms, read_refusal, refuse,
};
use crate::session::{SessionConfig, frame};

const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
const VIEW: LocalView = LocalView { settled: Settled::NONE, acks_durable: 0, wall: UnixMillis(1) };

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn start() -> Instant {
    Instant::now()
}

fn terms() -> Terms {
    Terms {
        session_id: "s".into(),
        peer_id: "p".into(),
        send: Limits::default(),
        receive: Limits::default(),
        heartbeat_interval: None,
        features: Features::ALL.names(),
        software: "test".into(),
        highest_sent: Seq(0),
        peer_settled_below: Seq(1),
    }
}

fn record(seq: u64, bytes: usize) -> OutboundRecord {
    let message = Message {
        id: MessageId::new(u128::from(seq).to_be_bytes()),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: Bytes::from(vec![7; bytes]),
    };
    OutboundRecord { seq: Seq(seq), message }
}

#[test]
fn only_what_has_left_in_full_and_is_not_worked_on_is_awaited() {
    let now = start();
    let mut session = Session::new(now, terms(), SessionConfig::default());
    assert_eq!(session.handle_send(now, VIEW, &[record(1, 300_000)]).unwrap(), None);
    let mut parts = 0;
    while session.has_part() {
        assert_eq!((session.in_flight(), session.awaited()), (1, 0), "part {parts}");
        assert!(session.poll_part(now, VIEW).is_some());
        parts += 1;
    }
    assert_eq!((parts, session.in_flight(), session.awaited()), (5, 1, 1));
    session.handle_send(now, VIEW, &[record(2, 1)]).unwrap();
    assert_eq!(session.awaited(), 2);
    let kind = session::NackKind::InProgress.into();
    let nack = session::Nack { seq: 1, kind, ..session::Nack::default() };
    session.handle_frame(now, frame::Kind::Nack(nack).into()).unwrap();
    assert_eq!((session.in_flight(), session.awaited()), (2, 1));
    let ranges = vec![session::SeqRange { first: 1, last: 2 }];
    let ack = session::Ack { ack_id: 1, ranges };
    session.handle_frame(now, frame::Kind::Ack(ack).into()).unwrap();
    assert_eq!((session.in_flight(), session.awaited()), (0, 0));
}

#[test]
fn what_is_too_large_for_the_peer_is_refused_by_this_side() {
    let now = start();
    let send = Limits { message_bytes_max: 300, ..Limits::default() };
    let mut session = Session::new(now, Terms { send, ..terms() }, SessionConfig::default());
    session.handle_send(now, VIEW, &[record(1, 301)]).unwrap();
    let Some(Event::Nacked(nack)) = session.poll_event() else { panic!("no nack") };
    assert_eq!((nack.origin, nack.kind), (NackOrigin::Local, NackKind::Terminal));
}

#[test]
fn what_a_peer_asks_for_is_bounded() {
    let near = |asked, configured| {
        let heartbeat_interval = Some(asked);
        let terms = Terms { heartbeat_interval, ..terms() }.with_heartbeat_near(configured);
        terms.heartbeat_interval.expect("an interval")
    };
    let configured = 15 * SECOND;
    assert_eq!(near(SECOND / 100, configured), HEARTBEAT_INTERVAL_MIN);
    assert_eq!(near(20 * SECOND, configured), 20 * SECOND);
    assert_eq!(near(4_000_000 * SECOND, configured), HEARTBEAT_INTERVAL_MAX);
    assert_eq!(near(SECOND / 100, SECOND / 10), SECOND / 10, "as configured");
    assert_eq!(near(4_000_000 * SECOND, 90 * SECOND), 90 * SECOND, "as configured");

    let refusal = Refusal {
        retry_after: Some(1_000_000 * SECOND),
        ..Refusal::new(session::RefuseCode::Busy, "later")
    };
    let Some(frame::Kind::Refuse(refused)) = refuse(&refusal).kind else { panic!("no refusal") };
    assert_eq!(read_refusal(refused).retry_after, Some(crate::exchange::RETRY_AFTER_MAX));
}
