//! Dead letters as `alys.node.v1` carries them.

use alys_stream_actor::letters::{CauseKind, LetterFilter, LettersPage, Replayed};
use alys_stream_messaging::dead_letter::{DeadAttempt, DeadLetter, DeadLetterId};
use alys_stream_messaging::outbox::Cause;
use alys_stream_protocol::submission as wire;
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;

/// What a filter means.
///
/// # Errors
///
/// When its cause is none.
pub(crate) fn filter(wire: wire::DeadLetterFilter) -> Result<LetterFilter, String> {
    let given = |text: String| (!text.is_empty()).then_some(text);
    let cause = given(wire.cause).map(|word| word.parse::<CauseKind>()).transpose();
    Ok(LetterFilter {
        cause: cause.map_err(|error| format!("filter.cause: {error}"))?,
        kind: given(wire.kind),
        endpoint: given(wire.endpoint),
        died_before: UnixMillis::from_wire(wire.died_before_ms),
        died_after: UnixMillis::from_wire(wire.died_after_ms),
    })
}

/// A page, with payloads or without.
pub(crate) fn page(page: LettersPage, with_payloads: bool) -> wire::ListDeadLettersResponse {
    wire::ListDeadLettersResponse {
        letters: page.letters.into_iter().map(|(id, it)| letter(id, it, with_payloads)).collect(),
        next_after_id: page.next.map_or(0, |DeadLetterId(id)| id),
        total: page.total,
        unreadable: page.unreadable,
    }
}

fn letter(id: DeadLetterId, letter: DeadLetter, with_payload: bool) -> wire::DeadLetter {
    let message = letter.message;
    let cause = CauseKind::of(&letter.cause).as_str().to_owned();
    let (may_have_been_seen, code, text) = match letter.cause {
        Cause::Expired => (false, 0, String::new()),
        Cause::TimedOut { may_have_been_seen } => (may_have_been_seen, 0, String::new()),
        Cause::Refused { code, text } => (false, code, text),
        // It may have been on its way when it made room.
        Cause::Evicted => (true, 0, String::new()),
    };
    wire::DeadLetter {
        id: id.0,
        message_id: Bytes::copy_from_slice(message.id.as_bytes()),
        log_id: Bytes::copy_from_slice(letter.log.as_bytes()),
        seq: letter.seq.0,
        kind: message.kind.0,
        priority: message.priority.as_str().to_owned(),
        cause,
        may_have_been_seen,
        code,
        text,
        accepted_at_ms: UnixMillis::to_wire(Some(letter.accepted_at)),
        died_at_ms: UnixMillis::to_wire(Some(letter.died_at)),
        deadline_ms: UnixMillis::to_wire(message.deadline),
        attempts: letter.attempts.into_iter().map(attempt).collect(),
        errors: letter.error_chain,
        ordering_key: message.ordering_key.map(|key| key.as_bytes().clone()).unwrap_or_default(),
        traceparent: message.traceparent.unwrap_or_default(),
        payload_bytes: u64::try_from(message.payload.len()).unwrap_or(u64::MAX),
        payload: if with_payload { message.payload } else { Bytes::new() },
    }
}

fn attempt(attempt: DeadAttempt) -> wire::DeadAttempt {
    let DeadAttempt { endpoint, at, code, text } = attempt;
    wire::DeadAttempt { endpoint, at_ms: UnixMillis::to_wire(Some(at)), code, text }
}

/// What became of one.
pub(crate) fn replayed((id, replayed): (DeadLetterId, Replayed)) -> wire::ReplayedLetter {
    let (result, seq, reason) = match replayed {
        Replayed::Accepted(seq) => (wire::ReplayResult::Accepted, seq.0, String::new()),
        Replayed::AlreadyAccepted(seq) => {
            (wire::ReplayResult::AlreadyAccepted, seq.0, String::new())
        }
        Replayed::Missing => (wire::ReplayResult::Missing, 0, String::new()),
        Replayed::Refused(reason) => (wire::ReplayResult::Refused, 0, reason),
    };
    wire::ReplayedLetter { id: id.0, result: result.into(), seq, reason }
}
