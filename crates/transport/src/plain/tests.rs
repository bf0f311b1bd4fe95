//! What settles a message on a plain stream, and what does not.

use alys_stream_protocol::governance::stream_response::Payload;
use alys_stream_protocol::governance::{
    ErrorCode, ErrorResponse, HeartbeatAck, ResponseMetadata, RetryInfo, SignatureResponse,
    SignatureStatus, StatusCode, StreamResponse,
};
use alys_stream_protocol::message::{Message, Priority};
use bytes::Bytes;

use super::*;

const WALL: UnixMillis = UnixMillis(1_000_000);

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn start() -> Instant {
    Instant::now()
}

fn id(seq: u64) -> MessageId {
    MessageId::new(u128::from(seq).to_be_bytes())
}

fn record(seq: u64, kind: MessageKind) -> OutboundRecord {
    let message = Message {
        id: id(seq),
        kind,
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: Bytes::from_static(&[1; 100]),
    };
    OutboundRecord { seq: Seq(seq), message }
}

fn answer(
    seq: Option<u64>,
    status: StatusCode,
    payload: impl Into<Option<Payload>>,
) -> StreamResponse {
    let request_id = seq.map(|seq| id(seq).to_string()).unwrap_or_default();
    let metadata = ResponseMetadata { request_id, status: status.into(), ..Default::default() };
    StreamResponse { metadata: Some(metadata), payload: payload.into() }
}

fn signature(status: SignatureStatus) -> Payload {
    let status = status.into();
    Payload::SignatureResponse(SignatureResponse { status, ..Default::default() })
}

fn error(code: ErrorCode, retry_after: Option<i32>) -> Payload {
    Payload::ErrorResponse(ErrorResponse {
        error_code: code.into(),
        error_message: "why".into(),
        error_details: None,
        retry_info: retry_after.map(|retry_after| RetryInfo { retry_after, ..Default::default() }),
    })
}

fn beat(sequence: u64) -> StreamResponse {
    let ack = HeartbeatAck { sequence, ..Default::default() };
    answer(None, StatusCode::Success, Payload::HeartbeatAck(ack))
}

/// A stream whose first heartbeat is answered, with one message of each kind in flight.
fn stream(now: Instant) -> Plain {
    let mut plain = Plain::new(now, "node".into(), PlainConfig::default());
    plain.handle_timeout(now).unwrap();
    assert!(plain.poll_heartbeat(WALL).is_some());
    plain.handle_response(now, &beat(1));
    assert!(plain.handle_send(now, WALL, &record(1, MessageKind::SIGNATURE_REQUEST)));
    assert!(plain.handle_send(now, WALL, &record(2, MessageKind::PEGIN_NOTIFICATION)));
    events(&mut plain);
    plain
}

fn events(plain: &mut Plain) -> Vec<Event> {
    std::iter::from_fn(|| plain.poll_event()).collect()
}

fn nack(seq: u64, kind: NackKind, code: u32, text: &str) -> Event {
    let origin = NackOrigin::Peer;
    Event::Nacked(Nack { seq: Seq(seq), origin, kind, code, text: text.into() })
}

#[test]
fn only_a_final_answer_settles_a_signature_request() {
    let now = start();
    let mut plain = stream(now);
    let mut tell = |response: StreamResponse| {
        plain.handle_response(now, &response);
        events(&mut plain)
    };
    let pending = answer(Some(1), StatusCode::Success, signature(SignatureStatus::Pending));
    assert_eq!(tell(pending), [Event::Deliver], "T26");
    assert_eq!(tell(answer(Some(1), StatusCode::Success, None)), [], "T26");
    let partial = answer(Some(1), StatusCode::Success, signature(SignatureStatus::Partial));
    assert_eq!(tell(partial), [Event::Deliver, Event::Settled(Seq(1))]);
    let again = answer(Some(1), StatusCode::Success, signature(SignatureStatus::Complete));
    assert_eq!(tell(again), [Event::Deliver], "later answers are still delivered");
    assert_eq!(tell(answer(Some(2), StatusCode::Unspecified, None)), []);
    assert_eq!(tell(answer(Some(2), StatusCode::Success, None)), [Event::Settled(Seq(2))]);
}

#[test]
fn a_barrier_settles_what_was_sent_before_its_heartbeat() {
    let now = start();
    let mut plain = stream(now);
    let due = now + Duration::from_millis(200);
    assert_eq!(plain.poll_timeout(), due);
    plain.handle_timeout(due).unwrap();
    // Sent after the barrier was numbered: not covered by it (T27).
    plain.handle_send(due, WALL, &record(3, MessageKind::STATUS_UPDATE));
    let Some(stream_request::Payload::Heartbeat(heartbeat)) =
        plain.poll_heartbeat(WALL).and_then(|request| request.payload)
    else {
        panic!("no heartbeat");
    };
    assert_eq!(heartbeat.sequence, 2);
    plain.handle_response(due, &beat(2));
    let settled: Vec<_> =
        events(&mut plain).into_iter().filter(|event| matches!(event, Event::Settled(_))).collect();
    assert_eq!(settled, [Event::Settled(Seq(2))], "T26, T27");
    assert_eq!(plain.in_flight(), 2);
}

/// What was refused is sent again while a heartbeat is under way that covered it the first time.
#[test]
fn a_barrier_does_not_settle_what_was_sent_again_behind_it() {
    let now = start();
    let mut plain = stream(now);
    let due = now + Duration::from_millis(200);
    plain.handle_timeout(due).unwrap();
    assert!(plain.poll_heartbeat(WALL).is_some());
    plain.handle_response(due, &answer(Some(2), StatusCode::RateLimited, None));
    let refused = NackKind::Retry { after: Some(answer::RETRY_DEFAULT) };
    assert_eq!(events(&mut plain), [nack(2, refused, 0, "STATUS_CODE_RATE_LIMITED")]);
    assert!(plain.handle_send(due, WALL, &record(2, MessageKind::PEGIN_NOTIFICATION)));
    plain.handle_response(due, &beat(2));
    assert!(!events(&mut plain).contains(&Event::Settled(Seq(2))), "T27");

    let later = due + Duration::from_millis(200);
    plain.handle_timeout(later).unwrap();
    assert!(plain.poll_heartbeat(WALL).is_some());
    plain.handle_response(later, &beat(3));
    assert!(events(&mut plain).contains(&Event::Settled(Seq(2))));
}

#[test]
fn statuses_and_errors_map_to_refusals() {
    let now = start();
    let second = Some(Duration::from_secs(1));
    let case = |seq, status, payload: Option<Payload>| {
        let mut plain = stream(now);
        plain.handle_response(now, &answer(seq, status, payload));
        events(&mut plain)
    };
    let retry = |after| NackKind::Retry { after };
    assert_eq!(
        case(Some(2), StatusCode::RateLimited, None),
        [nack(2, retry(second), 0, "STATUS_CODE_RATE_LIMITED")]
    );
    assert_eq!(
        case(Some(1), StatusCode::ServiceUnavailable, None),
        [nack(1, retry(second), 0, "STATUS_CODE_SERVICE_UNAVAILABLE")]
    );
    assert_eq!(
        case(Some(1), StatusCode::Error, Some(error(ErrorCode::RateLimited, Some(7)))),
        [nack(1, retry(Some(Duration::from_secs(7))), 4, "why")]
    );
    assert_eq!(
        case(Some(2), StatusCode::Error, Some(error(ErrorCode::InvalidRequest, None))),
        [nack(2, NackKind::Terminal, 1, "why")]
    );
    assert_eq!(
        case(None, StatusCode::Unauthorized, None),
        [Event::Reauthenticate { reason: "STATUS_CODE_UNAUTHORIZED".into() }]
    );
    assert_eq!(
        case(None, StatusCode::Error, Some(error(ErrorCode::AuthenticationFailed, None))),
        [Event::Reauthenticate { reason: "why".into() }]
    );
    assert_eq!(case(Some(9), StatusCode::RateLimited, None), [], "not ours");
}

#[test]
fn an_uncorrelated_refusal_with_a_delay_suspends() {
    let now = start();
    let mut plain = stream(now);
    let response = answer(None, StatusCode::Error, error(ErrorCode::ServiceUnavailable, Some(5)));
    plain.handle_response(now, &response);
    let resume_after = Duration::from_secs(5);
    assert_eq!(events(&mut plain), [Event::Suspended { reason: "why".into(), resume_after }]);
    assert_eq!(plain.poll_budget(), None);
    plain.handle_timeout(now + resume_after).unwrap();
    assert!(events(&mut plain).contains(&Event::Resumed));
    assert!(plain.poll_budget().is_some());
}

#[test]
fn the_window_is_bounded_and_unanswered_requests_leave_it() {
    let now = start();
    let config = PlainConfig { in_flight_messages_max: 4, ..PlainConfig::default() };
    let mut plain = Plain::new(now, "node".into(), config);
    for seq in 1..=4 {
        assert!(plain.poll_budget().is_some());
        plain.handle_send(now, WALL, &record(seq, MessageKind::SIGNATURE_REQUEST));
    }
    assert_eq!(plain.poll_budget(), None, "T28");
    let mut at = now;
    let mut refused = 0;
    while at < now + Duration::from_secs(121) {
        at = plain.poll_timeout().max(at + Duration::from_millis(1));
        plain.handle_timeout(at).unwrap();
        if let Some(request) = plain.poll_heartbeat(WALL) {
            let Some(stream_request::Payload::Heartbeat(heartbeat)) = request.payload else {
                panic!("not a heartbeat");
            };
            plain.handle_response(at, &beat(heartbeat.sequence));
        }
        refused += events(&mut plain).iter().filter(|e| matches!(e, Event::Nacked(_))).count();
    }
    assert_eq!(refused, 4);
    assert_eq!(plain.in_flight(), 0);
    assert!(!plain.handle_send(now, WALL, &record(9, MessageKind(1000))), "no way to say it");
    assert!(plain.handle_send(now, WALL, &record(0, MessageKind::STATUS_UPDATE)), "volatile");
    assert_eq!(plain.in_flight(), 0, "T31");
}
