//! How dead letters look: a row, a page, a JSON object.

use std::fmt;

use alys_stream_protocol::message::{MessageId, MessageKind};
use alys_stream_protocol::submission::{DeadAttempt, DeadLetter};
use alys_stream_protocol::time::UnixMillis;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Value, json};

use crate::moment;

/// Payload bytes that a page shows; `--json` and `export` have all of them.
const SHOWN_PAYLOAD_BYTES: usize = 256;

/// A list of them for a person.
#[derive(Debug)]
pub(super) struct Table {
    table: comfy_table::Table,
}

impl Table {
    pub(super) fn new() -> Self {
        let mut table = comfy_table::Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY).set_header([
            "id",
            "died",
            "cause",
            "kind",
            "priority",
            "seq",
            "attempts",
            "endpoints",
            "bytes",
            "why",
        ]);
        Self { table }
    }

    pub(super) fn add(&mut self, letter: &DeadLetter) {
        self.table.add_row([
            letter.id.to_string(),
            time(letter.died_at_ms),
            letter.cause.clone(),
            MessageKind(letter.kind).to_string(),
            letter.priority.clone(),
            letter.seq.to_string(),
            letter.attempts.len().to_string(),
            endpoints(letter).join(", "),
            letter.payload_bytes.to_string(),
            why(letter),
        ]);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

/// Everything about one, for a person.
pub(super) fn page(letter: &DeadLetter) -> String {
    let mut lines = vec![
        format!("dead letter {}: {}", letter.id, why(letter)),
        format!("message: {}", message_id(letter)),
        format!("kind: {}, priority {}", MessageKind(letter.kind), letter.priority),
        format!("log: {} seq {}", hex::encode(&letter.log_id), letter.seq),
        format!("accepted: {}", time(letter.accepted_at_ms)),
        format!("died: {}, {}", time(letter.died_at_ms), letter.cause),
    ];
    if letter.deadline_ms > 0 {
        lines.push(format!("deadline: {}", time(letter.deadline_ms)));
    }
    if !letter.ordering_key.is_empty() {
        lines.push(format!("ordering key: {}", hex::encode(&letter.ordering_key)));
    }
    if !letter.traceparent.is_empty() {
        lines.push(format!("traceparent: {}", letter.traceparent));
    }
    if let Some(trace_id) = trace_id(letter) {
        lines.push(format!("trace: {trace_id}"));
    }
    lines.extend(letter.errors.iter().map(|error| format!("error: {error}")));
    for DeadAttempt { endpoint, at_ms, code, text } in &letter.attempts {
        lines.push(format!("attempt: {} {endpoint} code {code}: {text}", time(*at_ms)));
    }
    let shown = letter.payload.get(..SHOWN_PAYLOAD_BYTES).unwrap_or(&letter.payload);
    let more = if shown.len() < letter.payload.len() { "…" } else { "" };
    let bytes = letter.payload_bytes;
    lines.push(format!("payload: {bytes} bytes {}{more}", hex::encode(shown)));
    lines.join("\n")
}

/// Everything about one, for a program.
pub(super) fn json(letter: &DeadLetter, with_payload: bool) -> Value {
    let attempt = |attempt: &DeadAttempt| {
        json!({
            "endpoint": attempt.endpoint,
            "at": time(attempt.at_ms),
            "at_ms": attempt.at_ms,
            "code": attempt.code,
            "text": attempt.text,
        })
    };
    let optional = |text: String| (!text.is_empty()).then_some(text);
    let mut value = json!({
        "id": letter.id,
        "message_id": message_id(letter),
        "log_id": hex::encode(&letter.log_id),
        "seq": letter.seq,
        "kind": letter.kind,
        "kind_name": MessageKind(letter.kind).as_str(),
        "priority": letter.priority,
        "cause": letter.cause,
        "reason": why(letter),
        "code": (letter.cause == "refused").then_some(letter.code),
        "may_have_been_seen": letter.may_have_been_seen,
        "accepted_at": time(letter.accepted_at_ms),
        "accepted_at_ms": letter.accepted_at_ms,
        "died_at": time(letter.died_at_ms),
        "died_at_ms": letter.died_at_ms,
        "deadline_ms": (letter.deadline_ms > 0).then_some(letter.deadline_ms),
        "attempts": letter.attempts.iter().map(attempt).collect::<Vec<_>>(),
        "endpoints": endpoints(letter),
        "errors": letter.errors,
        "ordering_key": optional(hex::encode(&letter.ordering_key)),
        "traceparent": optional(letter.traceparent.clone()),
        "trace_id": trace_id(letter),
        "payload_bytes": letter.payload_bytes,
    });
    if with_payload {
        value["payload"] = hex::encode(&letter.payload).into();
    }
    value
}

fn message_id(letter: &DeadLetter) -> String {
    MessageId::try_from_slice(&letter.message_id)
        .map_or_else(|_| hex::encode(&letter.message_id), |id| id.to_string())
}

/// What tracing systems search for: the second field of a W3C `traceparent`.
fn trace_id(letter: &DeadLetter) -> Option<&str> {
    letter.traceparent.split('-').nth(1)
}

/// Who was asked, each once, in order.
fn endpoints(letter: &DeadLetter) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for attempt in &letter.attempts {
        if !names.contains(&attempt.endpoint.as_str()) {
            names.push(&attempt.endpoint);
        }
    }
    names
}

fn why(letter: &DeadLetter) -> String {
    letter.errors.first().cloned().unwrap_or_else(|| letter.cause.clone())
}

fn time(millis: i64) -> String {
    UnixMillis::from_wire(millis).map_or_else(|| "-".to_owned(), moment::utc)
}
