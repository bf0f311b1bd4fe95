//! What a governance node says on `governance.v1`.
//!
//! Pure: one function for each answer of the published protocol.

use alys_stream_protocol::governance::{
    ErrorCode, ErrorResponse, Heartbeat, HeartbeatAck, NodeRegistrationAck, ResponseMetadata,
    RetryInfo, SignatureResponse, StatusCode, StreamResponse, stream_response::Payload,
};
use alys_stream_protocol::time::UnixMillis;

/// Whose answer it is, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speaker<'a> {
    pub(crate) node_id: &'a str,
    pub(crate) now: UnixMillis,
}

/// A refusal in the words of the published protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
    /// Seconds until the request may be tried again.
    pub(crate) retry_after: Option<i32>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: ErrorCode, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), retry_after: None }
    }

    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(StatusCode::Error, ErrorCode::InvalidRequest, text)
    }

    pub(crate) fn unavailable(text: impl Into<String>, retry_after: i32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::ServiceUnavailable, ErrorCode::ServiceUnavailable, text)
        }
    }
}

impl Speaker<'_> {
    /// The request is in our custody.
    pub(crate) fn acknowledgement(self, request_id: &str) -> StreamResponse {
        self.response(request_id, StatusCode::Success, None)
    }

    pub(crate) fn registration_ack(self, request_id: &str, node_id: &str) -> StreamResponse {
        let ack = NodeRegistrationAck {
            accepted: true,
            assigned_node_id: node_id.to_owned(),
            ..NodeRegistrationAck::default()
        };
        self.response(request_id, StatusCode::Success, Some(Payload::RegistrationAck(ack)))
    }

    pub(crate) fn registration_refused(self, request_id: &str, text: &str) -> StreamResponse {
        let ack = NodeRegistrationAck::default();
        let mut response = self.response(
            request_id,
            StatusCode::Unauthorized,
            Some(Payload::RegistrationAck(ack)),
        );
        if let Some(metadata) = &mut response.metadata {
            metadata.message = Some(text.to_owned());
        }
        response
    }

    pub(crate) fn heartbeat_ack(self, request_id: &str, heartbeat: &Heartbeat) -> StreamResponse {
        let ack = HeartbeatAck {
            original_timestamp: heartbeat.timestamp,
            ack_timestamp: self.now.as_unix_seconds(),
            sequence: heartbeat.sequence,
        };
        self.response(request_id, StatusCode::Success, Some(Payload::HeartbeatAck(ack)))
    }

    pub(crate) fn signature(self, request_id: &str, response: SignatureResponse) -> StreamResponse {
        self.response(request_id, StatusCode::Success, Some(Payload::SignatureResponse(response)))
    }

    pub(crate) fn error(self, request_id: &str, problem: Problem) -> StreamResponse {
        let retry_info = problem
            .retry_after
            .map(|retry_after| RetryInfo { retry_after, ..RetryInfo::default() });
        let error = ErrorResponse {
            error_code: problem.code.into(),
            error_message: problem.text.clone(),
            error_details: None,
            retry_info,
        };
        let mut response =
            self.response(request_id, problem.status, Some(Payload::ErrorResponse(error)));
        if let Some(metadata) = &mut response.metadata {
            metadata.message = Some(problem.text);
        }
        response
    }

    /// Anything that governance says of its own accord.
    pub(crate) fn push(self, request_id: &str, payload: Payload) -> StreamResponse {
        self.response(request_id, StatusCode::Success, Some(payload))
    }

    fn response(
        self,
        request_id: &str,
        status: StatusCode,
        payload: Option<Payload>,
    ) -> StreamResponse {
        StreamResponse {
            metadata: Some(ResponseMetadata {
                request_id: request_id.to_owned(),
                timestamp: self.now.as_unix_seconds(),
                node_id: self.node_id.to_owned(),
                status: status.into(),
                message: None,
            }),
            payload,
        }
    }
}

/// Whether an answer only acknowledges.
pub(crate) const fn is_acknowledgement(response: &StreamResponse) -> bool {
    matches!(response.payload, None | Some(Payload::HeartbeatAck(_)))
}
