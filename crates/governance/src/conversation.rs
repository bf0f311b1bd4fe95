//! One conversation in plain `governance.v1`: what each request is answered with.
//!
//! Pure. Taking custody and signing is what it asks for, not what it does.
//!
//! Invariants:
//! - G13: before an accepted registration nothing but a registration or a heartbeat is answered
//!   with anything but UNAUTHORIZED.

use std::sync::Arc;

use alys_stream_protocol::governance::{
    ErrorCode, NodeRegistration, StatusCode, StreamRequest, StreamResponse, stream_request::Payload,
};
use alys_stream_protocol::message::MessageKind;
use alys_stream_protocol::validate;

use crate::misbehaviour::{Misbehaviour, Misdeed, Refuse};
use crate::reply::{Problem, Speaker};

/// Seconds that a suspended peer is asked to wait.
const SUSPENDED_RETRY: i32 = 5;

/// What to do with a request.
#[derive(Debug)]
pub(crate) enum Step {
    /// Answer.
    Reply(StreamResponse),
    /// Answer that it is not taken, as the node was told to.
    Deny(StreamResponse, Misdeed),
    /// The peer is known from now on; answer.
    Registered(StreamResponse),
    /// Take custody, then answer.
    Take { kind: MessageKind, request: StreamRequest },
}

/// Who may register under which name.
pub(crate) trait Admission {
    /// Why `node_id` may not be used by this peer.
    fn refusal(&self, node_id: &str, registration: &NodeRegistration) -> Option<String>;
}

#[derive(Debug, Default)]
pub(crate) struct Conversation {
    node_id: Option<Arc<str>>,
}

impl Conversation {
    /// The name under which the peer registered.
    pub(crate) const fn node_id(&self) -> Option<&Arc<str>> {
        self.node_id.as_ref()
    }

    /// Takes one request.
    pub(crate) fn handle_request(
        &mut self,
        speaker: Speaker<'_>,
        request: StreamRequest,
        flags: &Misbehaviour,
        admission: &impl Admission,
    ) -> Step {
        let request_id = request
            .metadata
            .as_ref()
            .map(|metadata| metadata.request_id.clone())
            .unwrap_or_default();
        let kind = match validate::request(&request) {
            Ok(kind) => kind,
            Err(invalid) => {
                return Step::Reply(
                    speaker.error(&request_id, Problem::invalid(invalid.to_string())),
                );
            }
        };
        match &request.payload {
            Some(Payload::Heartbeat(heartbeat)) => {
                Step::Reply(speaker.heartbeat_ack(&request_id, heartbeat))
            }
            Some(Payload::NodeRegistration(registration)) => {
                let node_id =
                    request.metadata.as_ref().map_or("", |metadata| metadata.node_id.as_str());
                self.register(speaker, &request_id, node_id, registration, admission)
            }
            None
            | Some(
                Payload::SignatureRequest(_)
                | Payload::PeginNotification(_)
                | Payload::StatusUpdate(_),
            ) => {
                if self.node_id.is_none() {
                    let text = "send a node_registration first";
                    let (status, code) =
                        (StatusCode::Unauthorized, ErrorCode::AuthenticationFailed);
                    let problem = Problem::new(status, code, text);
                    return Step::Reply(speaker.error(&request_id, problem));
                }
                match objection(flags) {
                    Some((problem, misdeed)) => {
                        Step::Deny(speaker.error(&request_id, problem), misdeed)
                    }
                    None => Step::Take { kind, request },
                }
            }
        }
    }

    fn register(
        &mut self,
        speaker: Speaker<'_>,
        request_id: &str,
        node_id: &str,
        registration: &NodeRegistration,
        admission: &impl Admission,
    ) -> Step {
        if node_id.is_empty() {
            let text = "metadata.node_id: is empty; a registration needs a name";
            return Step::Reply(speaker.error(request_id, Problem::invalid(text)));
        }
        if let Some(text) = admission.refusal(node_id, registration) {
            return Step::Reply(speaker.registration_refused(request_id, &text));
        }
        self.node_id = Some(node_id.into());
        Step::Registered(speaker.registration_ack(request_id, node_id))
    }
}

/// Why data is not taken now, as told.
fn objection(flags: &Misbehaviour) -> Option<(Problem, Misdeed)> {
    if flags.suspended {
        let problem = Problem::unavailable("suspended, as told", SUSPENDED_RETRY);
        return Some((problem, Misdeed::Suspended));
    }
    let refuse = flags.refuse?;
    let problem = match refuse {
        Refuse::Terminal => Problem::invalid("refused for good, as told"),
        Refuse::Retryable { after_ms } => {
            let seconds = i32::try_from(after_ms.div_ceil(1000)).unwrap_or(i32::MAX);
            Problem::unavailable("refused for now, as told", seconds)
        }
    };
    Some((problem, refuse.misdeed()))
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::governance::{
        Heartbeat, NodeInfo, RequestMetadata, RequestPriority, StatusUpdate, stream_response,
    };
    use alys_stream_protocol::time::UnixMillis;

    use super::*;

    struct Everyone;

    impl Admission for Everyone {
        fn refusal(&self, node_id: &str, _registration: &NodeRegistration) -> Option<String> {
            (node_id == "mallory").then(|| "not you".to_owned())
        }
    }

    fn request(node_id: &str, payload: Payload) -> StreamRequest {
        StreamRequest {
            metadata: Some(RequestMetadata {
                request_id: "018f3f3e-0000-7000-8000-000000000001".to_owned(),
                timestamp: 1_700_000_000,
                node_id: node_id.to_owned(),
                protocol_version: "governance.v1".to_owned(),
                priority: RequestPriority::Normal.into(),
                timeout: None,
            }),
            payload: Some(payload),
        }
    }

    fn registration() -> Payload {
        Payload::NodeRegistration(NodeRegistration {
            node_info: Some(NodeInfo {
                public_key: "02".repeat(33),
                node_type: 3,
                version: "0.1.0".to_owned(),
                region: None,
            }),
            ..NodeRegistration::default()
        })
    }

    fn status() -> Payload {
        Payload::StatusUpdate(StatusUpdate { status: 3, sync_status: 1, ..StatusUpdate::default() })
    }

    #[track_caller]
    fn reply(step: Step) -> StreamResponse {
        match step {
            Step::Reply(response) | Step::Deny(response, _) | Step::Registered(response) => {
                response
            }
            Step::Take { kind, .. } => panic!("taken: {kind}"),
        }
    }

    #[track_caller]
    fn check(
        conversation: &mut Conversation,
        request: StreamRequest,
        flags: &Misbehaviour,
        expected: StatusCode,
    ) {
        let speaker = Speaker { node_id: "gov-1", now: UnixMillis(1_700_000_000_000) };
        let response = reply(conversation.handle_request(speaker, request, flags, &Everyone));
        let metadata = response.metadata.unwrap();
        assert_eq!(metadata.status, i32::from(expected), "{:?}", metadata.message);
        assert_eq!(metadata.request_id, "018f3f3e-0000-7000-8000-000000000001");
    }

    #[test]
    fn data_before_registration_is_unauthorized_and_taken_after() {
        let (mut conversation, honest) = (Conversation::default(), Misbehaviour::default());
        check(&mut conversation, request("alys-1", status()), &honest, StatusCode::Unauthorized);
        check(
            &mut conversation,
            request("mallory", registration()),
            &honest,
            StatusCode::Unauthorized,
        );
        check(&mut conversation, request("alys-1", registration()), &honest, StatusCode::Success);
        assert_eq!(conversation.node_id().map(AsRef::as_ref), Some("alys-1"));
        let speaker = Speaker { node_id: "gov-1", now: UnixMillis(0) };
        let step =
            conversation.handle_request(speaker, request("alys-1", status()), &honest, &Everyone);
        assert!(matches!(step, Step::Take { kind: MessageKind::STATUS_UPDATE, .. }), "{step:?}");
    }

    #[test]
    fn it_refuses_as_told() {
        let mut conversation = Conversation::default();
        check(
            &mut conversation,
            request("alys-1", registration()),
            &Misbehaviour::default(),
            StatusCode::Success,
        );
        let refusing = |refuse| Misbehaviour { refuse: Some(refuse), ..Misbehaviour::default() };
        check(
            &mut conversation,
            request("alys-1", status()),
            &refusing(Refuse::Terminal),
            StatusCode::Error,
        );
        let retry = refusing(Refuse::Retryable { after_ms: 1500 });
        check(
            &mut conversation,
            request("alys-1", status()),
            &retry,
            StatusCode::ServiceUnavailable,
        );
    }

    #[test]
    fn a_heartbeat_is_answered_with_its_sequence() {
        let speaker = Speaker { node_id: "gov-1", now: UnixMillis(1_700_000_001_000) };
        let heartbeat = Heartbeat { timestamp: 1_700_000_000, sequence: 9, health: 1 };
        let request = request("alys-1", Payload::Heartbeat(heartbeat));
        let step = Conversation::default().handle_request(
            speaker,
            request,
            &Misbehaviour::default(),
            &Everyone,
        );
        let Some(stream_response::Payload::HeartbeatAck(ack)) = reply(step).payload else {
            panic!("no ack")
        };
        assert_eq!(
            (ack.sequence, ack.original_timestamp, ack.ack_timestamp),
            (9, 1_700_000_000, 1_700_000_001)
        );
    }

    #[test]
    fn an_invalid_request_is_named_by_its_field() {
        let mut invalid = request("alys-1", status());
        invalid.payload =
            Some(Payload::StatusUpdate(StatusUpdate { status: 99, ..StatusUpdate::default() }));
        let speaker = Speaker { node_id: "gov-1", now: UnixMillis(0) };
        let step = Conversation::default().handle_request(
            speaker,
            invalid,
            &Misbehaviour::default(),
            &Everyone,
        );
        let Some(stream_response::Payload::ErrorResponse(error)) = reply(step).payload else {
            panic!("no error")
        };
        assert_eq!(error.error_code, i32::from(ErrorCode::InvalidRequest));
        assert!(error.error_message.contains("status_update.status"), "{}", error.error_message);
    }
}
