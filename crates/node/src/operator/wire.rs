//! Dead letters as `alys.node.v1` carries them.

use alys_stream_actor::letters::{CauseKind, LettersPage, Replayed};
use alys_stream_messaging::dead_letter::{DeadAttempt, DeadLetter, DeadLetterId};
use alys_stream_messaging::outbox::Cause;
use alys_stream_protocol::submission as wire;
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;

use crate::moment;

/// A look at dead letters, as the audit line tells it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// `list`, `show`, `export`, or `choose` when it comes before another action.
    pub(crate) action: &'static str,
    /// The number of the one that is shown, or what must hold for those that are listed.
    pub(crate) which: String,
}

/// What to write down about a request; nothing for the further pages of a list.
pub(crate) fn look(request: &wire::ListDeadLettersRequest) -> Option<Look> {
    let action = match request.purpose() {
        wire::LookPurpose::Show => {
            let which = request.after_id.saturating_add(1).to_string();
            return Some(Look { action: "show", which });
        }
        wire::LookPurpose::Unspecified => "list",
        wire::LookPurpose::Export => "export",
        wire::LookPurpose::Choose => "choose",
    };
    let which = request.filter.as_ref().map_or_else(|| "all".to_owned(), in_words);
    (request.after_id == 0).then_some(Look { action, which })
}

fn in_words(filter: &wire::DeadLetterFilter) -> String {
    let time = |millis| UnixMillis::from_wire(millis).map(moment::utc);
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let words: Vec<String> = [
        ("cause", text(&filter.cause)),
        ("kind", text(&filter.kind)),
        ("endpoint", text(&filter.endpoint)),
        ("died_before", time(filter.died_before_ms)),
        ("died_after", time(filter.died_after_ms)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(format!("{name} {}", value?)))
    .collect();
    if words.is_empty() { "all".to_owned() } else { words.join(", ") }
}

/// A page, with payloads or without.
pub(crate) fn page(page: LettersPage, with_payloads: bool) -> wire::ListDeadLettersResponse {
    wire::ListDeadLettersResponse {
        letters: page.letters.into_iter().map(|(id, it)| letter(id, it, with_payloads)).collect(),
        next_after_id: page.next.map_or(0, |DeadLetterId(id)| id),
        total: page.total,
        unreadable: u32::try_from(page.unreadable.len()).unwrap_or(u32::MAX),
        unreadable_ids: page.unreadable.into_iter().map(|DeadLetterId(id)| id).collect(),
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
        // It has no number of ours.
        Replayed::HandedOn => (wire::ReplayResult::Accepted, 0, String::new()),
        Replayed::Missing => (wire::ReplayResult::Missing, 0, String::new()),
        Replayed::Refused(reason) => (wire::ReplayResult::Refused, 0, reason),
    };
    wire::ReplayedLetter { id: id.0, result: result.into(), seq, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_look_is_written_down_once() {
        let mut request = wire::ListDeadLettersRequest::default();
        assert_eq!(look(&request).map(|look| look.which).as_deref(), Some("all"));
        request.filter = Some(wire::DeadLetterFilter {
            cause: "refused".to_owned(),
            died_after_ms: 1,
            ..wire::DeadLetterFilter::default()
        });
        let words = "cause refused, died_after 1970-01-01T00:00:00.001Z";
        assert_eq!(look(&request), Some(Look { action: "list", which: words.to_owned() }));
        request.after_id = 7;
        assert_eq!(look(&request), None);
        request.set_purpose(wire::LookPurpose::Show);
        assert_eq!(look(&request), Some(Look { action: "show", which: "8".to_owned() }));
    }
}
