//! What a response of a plain peer means for what is in flight.

use std::time::{Duration, Instant};

use alys_stream_protocol::governance::stream_response::Payload;
use alys_stream_protocol::governance::{
    ErrorCode, ErrorResponse, SignatureStatus, StatusCode, StreamResponse,
};
use alys_stream_protocol::message::MessageId;

use super::{Event, Pending, Plain, is_answered};
use crate::bounded;
use crate::exchange::{NackKind, RETRY_AFTER_MAX};

/// How long a refusal without a delay of its own suspends or holds back.
pub(crate) const RETRY_DEFAULT: Duration = Duration::from_secs(1);

/// The delay that a peer asks for, at most [`RETRY_AFTER_MAX`].
pub(crate) fn retry_after(error: &ErrorResponse) -> Option<Duration> {
    let seconds = u64::try_from(error.retry_info.as_ref()?.retry_after).ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

impl Plain {
    /// Takes one response. What it leads to is returned by [`Plain::poll_event`].
    pub fn handle_response(&mut self, now: Instant, response: &StreamResponse) {
        let status = response.metadata.as_ref().map_or(0, |metadata| metadata.status);
        let status = StatusCode::try_from(status).unwrap_or(StatusCode::Unspecified);
        let id: Option<MessageId> = response.request_id().parse().ok();
        match &response.payload {
            Some(Payload::HeartbeatAck(ack)) => return self.handle_beat(now, ack.sequence),
            Some(Payload::ErrorResponse(error)) => return self.handle_error(now, id, error),
            Some(Payload::RegistrationAck(_)) => return,
            None
            | Some(
                Payload::SignatureResponse(_)
                | Payload::FederationUpdate(_)
                | Payload::ProposalNotification(_),
            ) => {}
        }
        if response.payload.is_some() {
            self.events.push_back(Event::Deliver);
        }
        match status {
            StatusCode::Unauthorized => self.reauthenticate(status.as_str_name()),
            StatusCode::RateLimited | StatusCode::ServiceUnavailable | StatusCode::Timeout => {
                self.nack(id, NackKind::Retry { after: Some(RETRY_DEFAULT) }, status);
            }
            // A failed signature carries its own status and is an answer.
            StatusCode::Error if response.payload.is_none() => {
                self.nack(id, NackKind::Retry { after: None }, status);
            }
            StatusCode::Unspecified if response.payload.is_none() => {}
            StatusCode::Unspecified | StatusCode::Success | StatusCode::Error => {
                self.handle_answer(id, response.payload.as_ref());
            }
        }
    }

    /// T26: only a final answer settles what is answered.
    fn handle_answer(&mut self, id: Option<MessageId>, payload: Option<&Payload>) {
        let Some((id, pending)) = id.and_then(|id| Some((id, self.pending.get(&id)?))) else {
            return;
        };
        let is_final = match payload {
            Some(Payload::SignatureResponse(answer)) => {
                match SignatureStatus::try_from(answer.status) {
                    Ok(SignatureStatus::Pending | SignatureStatus::Unspecified) | Err(_) => false,
                    Ok(
                        SignatureStatus::Partial
                        | SignatureStatus::Complete
                        | SignatureStatus::Failed
                        | SignatureStatus::Timeout,
                    ) => true,
                }
            }
            None
            | Some(
                Payload::RegistrationAck(_)
                | Payload::FederationUpdate(_)
                | Payload::ProposalNotification(_)
                | Payload::ErrorResponse(_)
                | Payload::HeartbeatAck(_),
            ) => !is_answered(pending.kind),
        };
        if is_final && let Some(pending) = self.forget(&id) {
            self.events.push_back(Event::Settled(pending.seq));
        }
    }

    /// T27: the answer settles what was sent before its heartbeat.
    fn handle_beat(&mut self, now: Instant, sequence: u64) {
        if self.health.handle_ack(now, sequence).is_none() {
            return;
        }
        if let Some(rtt) = self.health.rtt() {
            self.events.push_back(Event::Alive(rtt));
        }
        self.report_quality();
        while let Some(first) = self.uncovered.front()
            && first.after < sequence
            && let Some(covered) = self.uncovered.pop_front()
        {
            // One that was refused may have been sent again since, behind this heartbeat.
            let is_it = |p: &Pending| p.seq == covered.seq && p.after == covered.after;
            if self.pending.get(&covered.id).is_some_and(is_it) {
                self.forget(&covered.id);
                self.events.push_back(Event::Settled(covered.seq));
            }
        }
    }

    fn handle_error(&mut self, now: Instant, id: Option<MessageId>, error: &ErrorResponse) {
        let code = ErrorCode::try_from(error.error_code).unwrap_or(ErrorCode::Unspecified);
        let after = retry_after(error);
        let kind = match code {
            ErrorCode::AuthenticationFailed => return self.reauthenticate(&error.error_message),
            ErrorCode::InvalidRequest
            | ErrorCode::AuthorizationFailed
            | ErrorCode::InvalidSignature => NackKind::Terminal,
            ErrorCode::RateLimited | ErrorCode::ServiceUnavailable => {
                NackKind::Retry { after: after.or(Some(RETRY_DEFAULT)) }
            }
            ErrorCode::Unspecified
            | ErrorCode::Timeout
            | ErrorCode::InternalError
            | ErrorCode::InsufficientSignatures
            | ErrorCode::FederationError => NackKind::Retry { after },
        };
        let pending = id.and_then(|id| self.forget(&id));
        match (pending, code, after) {
            (Some(pending), ..) => {
                let code = u32::try_from(error.error_code).unwrap_or(0);
                self.refuse(pending.seq, kind, code, bounded(error.error_message.clone()));
            }
            // It answers no request: the peer wants nothing for a while.
            (None, ErrorCode::ServiceUnavailable, Some(after)) if id.is_none() => {
                self.resume_at = Some(now + after);
                self.events.push_back(Event::Suspended {
                    reason: bounded(error.error_message.clone()),
                    resume_after: after,
                });
            }
            (None, ..) => {}
        }
    }

    fn nack(&mut self, id: Option<MessageId>, kind: NackKind, status: StatusCode) {
        if let Some(pending) = id.and_then(|id| self.forget(&id)) {
            self.refuse(pending.seq, kind, 0, status.as_str_name().to_owned());
        }
    }

    fn reauthenticate(&mut self, reason: &str) {
        self.events.push_back(Event::Reauthenticate { reason: bounded(reason.to_owned()) });
    }
}
