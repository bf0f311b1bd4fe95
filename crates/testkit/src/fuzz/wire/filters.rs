//! What an operator filters by: dead letters over the wire, log lines in words.
//!
//! The first byte says which: bit 0 for log lines.

use std::sync::LazyLock;

use alys_stream_actor::letters::LetterFilter;
use alys_stream_messaging::dead_letter::{DeadAttempt, DeadLetter};
use alys_stream_messaging::outbox::Cause;
use alys_stream_protocol::message::{LogId, Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::submission::{DeadLetterFilter, ListDeadLettersRequest};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_telemetry::logs::LogConfig;
use bytes::Bytes;
use prost::Message as _;

/// A letter of each cause, a second apart.
static LETTERS: LazyLock<Vec<DeadLetter>> = LazyLock::new(|| {
    let causes = [
        Cause::Expired,
        Cause::TimedOut { may_have_been_seen: true },
        Cause::Refused { code: 3, text: "no".to_owned() },
        Cause::Evicted,
    ];
    (1..).zip(causes).map(|(n, cause)| letter(n, cause)).collect()
});

pub(super) fn feed(data: &[u8]) -> bool {
    let Some((flags, rest)) = data.split_first() else { return false };
    if flags & 1 == 1 {
        return log_lines(rest);
    }
    let request = ListDeadLettersRequest::decode(rest);
    request.is_ok_and(|request| letters(&request.filter.unwrap_or_default()))
}

/// A filter means what each of its parts means, all of them together.
fn letters(wire: &DeadLetterFilter) -> bool {
    let filter = match LetterFilter::try_from(wire.clone()) {
        Ok(filter) => filter,
        Err(error) => return check(&error.to_string()),
    };
    let parts = parts(&filter);
    for letter in &*LETTERS {
        let is_meant = parts.iter().all(|part| part.matches(letter));
        assert_eq!(filter.matches(letter), is_meant, "{filter:?}");
        let is_either = |at: UnixMillis| {
            let before = LetterFilter { died_before: Some(at), ..LetterFilter::default() };
            let after = LetterFilter { died_after: Some(at), ..LetterFilter::default() };
            before.matches(letter) != after.matches(letter)
        };
        assert!(filter.died_before.is_none_or(is_either), "{filter:?}");
    }
    true
}

fn parts(filter: &LetterFilter) -> [LetterFilter; 5] {
    let LetterFilter { cause, kind, endpoint, died_before, died_after } = filter.clone();
    let none = LetterFilter::default;
    [
        LetterFilter { cause, ..none() },
        LetterFilter { kind, ..none() },
        LetterFilter { endpoint, ..none() },
        LetterFilter { died_before, ..none() },
        LetterFilter { died_after, ..none() },
    ]
}

fn log_lines(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let config = LogConfig { filter: text.to_owned(), ..LogConfig::default() };
    config.validate().map_or_else(|error| check(&error.to_string()), |()| true)
}

/// What is said of something that is refused.
fn check(said: &str) -> bool {
    assert!(!said.contains('\n'), "an error is one line: {said:?}");
    false
}

/// Inputs that mean something, by name.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let list = |filter: DeadLetterFilter| {
        let request = ListDeadLettersRequest { filter: Some(filter), ..Default::default() };
        [[0].as_slice(), &request.encode_to_vec()].concat()
    };
    let log = |text: &str| [[1].as_slice(), text.as_bytes()].concat();
    vec![
        ("all", list(DeadLetterFilter::default())),
        (
            "refused",
            list(DeadLetterFilter {
                cause: "refused".to_owned(),
                kind: "1000".to_owned(),
                endpoint: "gov-1".to_owned(),
                died_before_ms: 4000,
                died_after_ms: 2000,
            }),
        ),
        ("no_cause", list(DeadLetterFilter { cause: "boredom".to_owned(), ..Default::default() })),
        ("level", log("info")),
        ("targets", log("warn,alys_stream_transport=debug,alys_stream::audit=off")),
        ("spans", log("info,alys_stream_actor[delivery{endpoint=gov-1}]=trace")),
    ]
}

fn letter(n: u8, cause: Cause) -> DeadLetter {
    DeadLetter {
        log: LogId::new([1; 16]),
        seq: Seq(u64::from(n)),
        message: Message {
            id: MessageId::new([n; 16]),
            kind: MessageKind(999 + u32::from(n)),
            priority: Priority::Normal,
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload: Bytes::new(),
        },
        accepted_at: UnixMillis(1),
        died_at: UnixMillis(1000 * u64::from(n)),
        cause,
        attempts: vec![DeadAttempt {
            endpoint: format!("gov-{n}"),
            at: UnixMillis(1),
            code: 3,
            text: "no".to_owned(),
        }],
        error_chain: Vec::new(),
    }
}
