//! What the answers to a registration lead to.

use alys_stream_protocol::governance::{ErrorResponse, ResponseMetadata, RetryInfo};

use super::*;
use crate::connection::Hurry;

fn response(status: StatusCode, payload: Option<stream_response::Payload>) -> StreamResponse {
    let metadata = ResponseMetadata {
        request_id: "register-1".into(),
        status: status.into(),
        message: Some("why".into()),
        ..ResponseMetadata::default()
    };
    StreamResponse { metadata: Some(metadata), payload }
}

fn denied(status: StatusCode, payload: Option<stream_response::Payload>) -> LinkError {
    let response = response(status, payload);
    let answer = registration_ack(&response, "register-1").expect("it speaks of us");
    LinkError::new(Step::Authenticate, answer.expect_err("it is a no"))
}

fn error(code: ErrorCode, seconds: Option<i32>) -> stream_response::Payload {
    let info = |retry_after| RetryInfo { retry_after, ..RetryInfo::default() };
    stream_response::Payload::ErrorResponse(ErrorResponse {
        error_code: code.into(),
        error_message: "why".into(),
        error_details: None,
        retry_info: seconds.map(info),
    })
}

#[test]
fn a_peer_without_room_is_asked_again_and_one_that_says_no_is_left_to_an_operator() {
    let seconds = |n| Hurry::NotBefore(Duration::from_secs(n));
    let no = || Some(stream_response::Payload::RegistrationAck(NodeRegistrationAck::default()));
    let cases = [
        (StatusCode::Error, Some(error(ErrorCode::RateLimited, Some(7))), seconds(7)),
        (
            StatusCode::Error,
            Some(error(ErrorCode::ServiceUnavailable, Some(i32::MAX))),
            seconds(3600),
        ),
        (StatusCode::Error, Some(error(ErrorCode::ServiceUnavailable, None)), seconds(1)),
        (StatusCode::RateLimited, no(), seconds(1)),
        (StatusCode::ServiceUnavailable, None, seconds(1)),
        (StatusCode::Error, no(), Hurry::Permanent),
        (StatusCode::Error, Some(error(ErrorCode::AuthorizationFailed, None)), Hurry::Permanent),
        (StatusCode::Unauthorized, None, Hurry::Permanent),
    ];
    for (status, payload, hurry) in cases {
        let shown = format!("{status:?} {payload:?}");
        let denied = denied(status, payload);
        assert_eq!(denied.hurry(), hurry, "{shown}: {denied}");
        assert_eq!(denied.is_exhausted(), hurry != Hurry::Permanent, "{shown}");
    }
    let success = response(StatusCode::Success, None);
    assert!(registration_ack(&success, "register-1").is_none());
    let of_another = response(StatusCode::RateLimited, None);
    assert!(registration_ack(&of_another, "register-2").is_none());
}
