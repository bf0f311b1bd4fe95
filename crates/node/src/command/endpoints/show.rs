//! How endpoints look: a row for a person, an object for a program.

use std::time::Duration;

use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Value, json};

use crate::moment;

/// What an object has in any case, `null` when it is not known: programs can rely on the names.
const ALWAYS: [&str; 14] = [
    "name",
    "url",
    "state",
    "since_ms",
    "rtt_us",
    "in_flight",
    "queued",
    "breaker",
    "ejected",
    "session_id",
    "dialect",
    "certificate_expires_at",
    "last_error",
    "attempts",
];

/// All of one for a program, but for its history, which `status --json` has.
pub(super) fn json(endpoint: &Value) -> Value {
    let mut fields = endpoint.as_object().cloned().unwrap_or_default();
    fields.remove("history");
    fields.insert("ejected".to_owned(), ejected(endpoint).is_object().into());
    for name in ALWAYS {
        fields.entry(name).or_insert(Value::Null);
    }
    for (name, at) in [("since", since(endpoint)), ("certificate_expires", expires(endpoint))] {
        fields.insert(name.to_owned(), json!(at.map(moment::utc)));
    }
    Value::Object(fields)
}

/// All of them for a person: a table, and below it the last error of each.
pub(super) fn page(endpoints: &[Value]) -> String {
    let now = SystemClock.now();
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header([
        "name",
        "state",
        "for",
        "rtt",
        "in flight",
        "breaker",
        "ejected",
        "session",
        "dialect",
        "certificate expires",
    ]);
    for endpoint in endpoints {
        table.add_row([
            text(endpoint, "name").to_owned(),
            text(endpoint, "state").to_owned(),
            held_for(endpoint, now),
            rtt(endpoint),
            plain(endpoint, "in_flight"),
            plain(endpoint, "breaker"),
            held_back(endpoint),
            session(endpoint),
            plain(endpoint, "dialect"),
            expires_in(endpoint, now),
        ]);
    }
    let mut lines = vec![table.to_string()];
    for endpoint in endpoints {
        if let Some(error) = endpoint.get("last_error").and_then(Value::as_str) {
            lines.push(format!("{}: last error: {error}", text(endpoint, "name")));
        }
    }
    lines.join("\n")
}

/// A field that is text; empty when it is none.
pub(super) fn text<'a>(endpoint: &'a Value, field: &str) -> &'a str {
    endpoint.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn plain(endpoint: &Value, field: &str) -> String {
    match endpoint.get(field) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
            other.to_string()
        }
    }
}

/// Why, and for how long, the balancer gives it no messages; `null` when it does.
fn ejected(endpoint: &Value) -> &Value {
    endpoint.get("balance").and_then(|view| view.get("ejected")).unwrap_or(&Value::Null)
}

fn held_back(endpoint: &Value) -> String {
    let ejected = ejected(endpoint);
    let cause = text(ejected, "cause");
    if cause.is_empty() {
        return "no".to_owned();
    }
    let left = ejected.get("left_ms").and_then(Value::as_u64).map(Duration::from_millis);
    let left = left.map(|left| format!(", {} left", moment::age(left))).unwrap_or_default();
    format!("{cause}{left}")
}

fn since(endpoint: &Value) -> Option<UnixMillis> {
    endpoint.get("since_ms").and_then(Value::as_u64).map(UnixMillis)
}

fn expires(endpoint: &Value) -> Option<UnixMillis> {
    let seconds = endpoint.get("certificate_expires_at").and_then(Value::as_u64)?;
    seconds.checked_mul(1000).map(UnixMillis)
}

fn held_for(endpoint: &Value, now: UnixMillis) -> String {
    let since = since(endpoint);
    since.map_or_else(|| "-".to_owned(), |since| moment::age(now.saturating_since(since)))
}

fn rtt(endpoint: &Value) -> String {
    let micros = endpoint.get("rtt_us").and_then(Value::as_u64).map(Duration::from_micros);
    micros.map_or_else(|| "-".to_owned(), |rtt| format!("{:.1} ms", rtt.as_secs_f64() * 1000.0))
}

/// The beginning of its name is enough to compare by eye.
fn session(endpoint: &Value) -> String {
    let id = text(endpoint, "session_id");
    if id.is_empty() { "-".to_owned() } else { id.chars().take(8).collect() }
}

fn expires_in(endpoint: &Value, now: UnixMillis) -> String {
    let in_words = |at: UnixMillis| {
        if at <= now {
            "expired".to_owned()
        } else {
            format!("in {}", moment::age(at.saturating_since(now)))
        }
    };
    expires(endpoint).map_or_else(|| "-".to_owned(), in_words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_has_every_name_and_no_history() {
        let shown = json(&json!({
            "name": "a", "state": "healthy", "since_ms": 951_782_400_123_u64, "history": [1],
        }));
        assert_eq!(shown["since"], "2000-02-29T00:00:00.123Z");
        assert_eq!(shown["rtt_us"], Value::Null);
        assert!(shown.get("history").is_none());
        for name in ALWAYS {
            assert!(shown.get(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_row_says_how_it_is() {
        let page = page(&[json!({
            "name": "governance-1", "state": "failed", "since_ms": 1, "rtt_us": 1500,
            "in_flight": 3, "session_id": "0123456789ab", "breaker": "half_open",
            "balance": { "ejected": { "cause": "slow", "left_ms": 90_000 } },
            "last_error": "connect: refused",
        })]);
        let parts = [
            "governance-1",
            "failed",
            "1.5 ms",
            "01234567 ",
            "half_open",
            "slow, 1 min 30 s left",
            "last error: connect: refused",
        ];
        for part in parts {
            assert!(page.contains(part), "{part:?} in {page}");
        }
    }
}
