//! Turns what applications hand over into messages: fills in identity, time, priority and deadline,
//! encodes once, and refuses what is invalid with the name of the field.

use std::time::Duration;

use alys_stream_messaging::router::{Router, UnknownKind};
use alys_stream_protocol::federation::Federation;
use alys_stream_protocol::governance::{
    RequestMetadata, RequestPriority, SignatureRequest, StreamRequest, TransactionType,
    stream_request::Payload,
};
use alys_stream_protocol::message::{
    InvalidId, InvalidKey, Message, MessageId, MessageKind, OrderingKey, Priority,
};
use alys_stream_protocol::signing::{SigningError, SigningTask};
use alys_stream_protocol::submission::{self, Submission};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_protocol::{limits, validate};
use prost::Message as _;

/// Version of `governance.v1` that we speak, in `RequestMetadata.protocol_version`.
pub const PROTOCOL_VERSION: &str = "1.0";

/// Why a submission was refused before anything was stored.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It carries no payload.
    #[error(
        "the submission has no payload (set one of signature_request, pegin_notification, status_update, application)"
    )]
    Empty,
    /// Its identifier is not 16 bytes.
    #[error("message_id: {0}")]
    Id(#[source] InvalidId),
    /// Its ordering key is too long.
    #[error("ordering_key: {0}")]
    Key(#[source] InvalidKey),
    /// Its priority is a number that is not known.
    #[error(
        "priority: {0} is not a priority (1 low, 2 normal, 3 high, 4 critical, 0 the default of the kind)"
    )]
    Priority(i32),
    /// Its `traceparent` is not one.
    #[error("traceparent: not of the form 00-TRACE_ID-PARENT_ID-FLAGS (W3C Trace Context)")]
    Traceparent,
    /// Its deadline is before 1970.
    #[error(
        "deadline_ms: {0} is negative (give Unix milliseconds, or 0 for the default of the kind)"
    )]
    Deadline(i64),
    /// A field has a value that `governance.v1` does not allow.
    #[error(transparent)]
    Invalid(#[from] validate::Invalid),
    /// The kind is not one that is sent.
    #[error(transparent)]
    UnknownKind(#[from] UnknownKind),
    /// The kind is below 1000, or its number belongs to nothing.
    #[error("application.kind: {0} is reserved (applications use {min} and above)", min = limits::APPLICATION_KIND_MIN)]
    ReservedKind(u32),
    /// No federation is configured, so no signature could be verified.
    #[error(
        "signature_request: no federation is configured (add the section `federation` to the configuration)"
    )]
    NoFederation,
    /// The federation could never sign it.
    #[error("signature_request: {0}")]
    Unsignable(#[source] SigningError),
    /// The payload is larger than both sides accept.
    #[error("the message has {0} bytes, at most {max} are allowed", max = limits::MESSAGE_BYTES_MAX)]
    TooLarge(usize),
    /// Its deadline has passed already.
    #[error("deadline_ms: {deadline} has passed (it is {now} now)")]
    Expired {
        /// What was asked for.
        deadline: UnixMillis,
        /// The present moment.
        now: UnixMillis,
    },
}

/// What every submission is completed with.
#[derive(Debug)]
pub(crate) struct Submitter {
    pub(crate) node_id: String,
}

impl Submitter {
    /// Makes the message of a submission. A signature request must be one that the federation in
    /// force can sign.
    pub(crate) fn message(
        &self,
        now: UnixMillis,
        router: &Router,
        in_force: Option<&Federation>,
        submission: Submission,
    ) -> Result<Message, SubmitError> {
        let id = if submission.message_id.is_empty() {
            MessageId::mint()
        } else {
            MessageId::try_from_slice(&submission.message_id).map_err(SubmitError::Id)?
        };
        let ordering_key = (!submission.ordering_key.is_empty())
            .then(|| OrderingKey::try_new(submission.ordering_key.clone()))
            .transpose()
            .map_err(SubmitError::Key)?;
        if !submission.traceparent.is_empty() && !validate::is_traceparent(&submission.traceparent)
        {
            return Err(SubmitError::Traceparent);
        }
        if submission.deadline_ms < 0 {
            return Err(SubmitError::Deadline(submission.deadline_ms));
        }
        let asked = asked_priority(submission.priority)?;
        let asked_deadline = UnixMillis::from_wire(submission.deadline_ms);
        let payload = submission.payload.ok_or(SubmitError::Empty)?;
        let envelope = Envelope { id, now, asked, asked_deadline };
        let (kind, priority, deadline, payload) = match payload {
            submission::submission::Payload::Application(application) => {
                let kind = MessageKind(application.kind);
                if !kind.is_application() {
                    return Err(SubmitError::ReservedKind(application.kind));
                }
                let route = router.outbound(kind)?;
                let priority = asked.unwrap_or(route.priority);
                (kind, priority, asked_deadline, application.payload)
            }
            submission::submission::Payload::SignatureRequest(request) => {
                self.signature_request(router, in_force, &envelope, request)?
            }
            submission::submission::Payload::PeginNotification(pegin) => {
                self.encode(router, &envelope, Payload::PeginNotification(pegin))?
            }
            submission::submission::Payload::StatusUpdate(status) => {
                self.encode(router, &envelope, Payload::StatusUpdate(status))?
            }
        };
        if payload.len() > limits::MESSAGE_BYTES_MAX {
            return Err(SubmitError::TooLarge(payload.len()));
        }
        if let Some(deadline) = deadline.filter(|deadline| *deadline <= now) {
            return Err(SubmitError::Expired { deadline, now });
        }
        let traceparent = (!submission.traceparent.is_empty()).then_some(submission.traceparent);
        Ok(Message { id, kind, priority, deadline, ordering_key, traceparent, payload })
    }

    fn signature_request(
        &self,
        router: &Router,
        in_force: Option<&Federation>,
        envelope: &Envelope,
        request: SignatureRequest,
    ) -> Result<Encoded, SubmitError> {
        let mut envelope = *envelope;
        if request.tx_type() == TransactionType::Emergency {
            envelope.asked = Some(envelope.asked.unwrap_or(Priority::Critical));
        }
        let kind = MessageKind::SIGNATURE_REQUEST;
        let route = router.outbound(kind)?;
        let priority = envelope.asked.unwrap_or(route.priority);
        let seconds = request.timeout_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
        let deadline = if seconds > 0 {
            Some(envelope.now.saturating_add(Duration::from_secs(seconds)))
        } else {
            route.deadline_at(envelope.now, priority)
        };
        // The earlier one of what is asked for here and there.
        envelope.asked_deadline = envelope.asked_deadline.into_iter().chain(deadline).min();
        let federation = in_force.ok_or(SubmitError::NoFederation)?;
        let encoded = self.encode(router, &envelope, Payload::SignatureRequest(request.clone()))?;
        SigningTask::try_new(&request, federation).map_err(SubmitError::Unsignable)?;
        Ok(encoded)
    }

    fn encode(
        &self,
        router: &Router,
        envelope: &Envelope,
        payload: Payload,
    ) -> Result<Encoded, SubmitError> {
        let mut request = StreamRequest {
            metadata: Some(RequestMetadata {
                request_id: envelope.id.to_string(),
                timestamp: envelope.now.as_unix_seconds(),
                node_id: self.node_id.clone(),
                protocol_version: PROTOCOL_VERSION.into(),
                priority: 0,
                timeout: envelope.timeout_seconds(),
            }),
            payload: Some(payload),
        };
        let kind = validate::request(&request)?;
        let priority = envelope.asked.unwrap_or(router.outbound(kind)?.priority);
        if let Some(metadata) = &mut request.metadata {
            metadata.priority = i32::from(RequestPriority::from(priority));
        }
        let deadline = envelope.asked_deadline;
        Ok((kind, priority, deadline, request.encode_to_vec().into()))
    }
}

type Encoded = (MessageKind, Priority, Option<UnixMillis>, bytes::Bytes);

#[derive(Debug, Clone, Copy)]
struct Envelope {
    id: MessageId,
    now: UnixMillis,
    asked: Option<Priority>,
    asked_deadline: Option<UnixMillis>,
}

impl Envelope {
    fn timeout_seconds(&self) -> Option<i32> {
        let seconds = self.asked_deadline?.saturating_since(self.now).as_secs().max(1);
        Some(i32::try_from(seconds).unwrap_or(i32::MAX))
    }
}

/// `None` leaves the choice to the router.
fn asked_priority(number: i32) -> Result<Option<Priority>, SubmitError> {
    if number == 0 {
        return Ok(None);
    }
    RequestPriority::try_from_wire(number).map(Some).map_err(|_| SubmitError::Priority(number))
}
