//! A status as a page: plain values as lines, lists of objects as tables, what matters most first.

use std::time::Duration;

use alys_stream_protocol::time::UnixMillis;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{Table, TableComponent};
use serde_json::{Map, Value};

use crate::moment;

/// What comes first, in this order; everything else follows in the order of the alphabet.
const FIRST: [&str; 12] = [
    "node_id",
    "node",
    "phase",
    "reason",
    "mode",
    "mode_reason",
    "tree",
    "endpoints",
    "queues",
    "pushed_waiting",
    "federation",
    "failures",
];

/// Columns of tables that have more to say than fits on a line, or a better order than that of the
/// alphabet, by a column that no other table has. `--json` has all of them.
const COLUMNS: [(&str, &[&str]); 5] = [
    ("activity", &["actor", "activity", "restarts", "since_ms", "last_exit"]),
    (
        "rtt_us",
        &[
            "name",
            "state",
            "dialect",
            "rtt_us",
            "in_flight",
            "queued",
            "attempts",
            "address",
            "last_error",
        ],
    ),
    ("cure", &["severity", "class", "kind", "endpoint", "times", "at_ms", "text", "cure"]),
    ("records", &["name", "records", "bytes"]),
    ("entries_lost", &["store", "segment", "offset", "bytes", "entries_lost", "cause", "is_known"]),
];

/// Rows of tables whose names have an order of their own.
const ROWS: [&str; 4] = ["critical", "high", "normal", "low"];

/// The whole page, as it reads now.
pub(super) fn render(status: &Value, now: UnixMillis) -> String {
    let mut page = Page { now, lines: Vec::new(), tables: Vec::new() };
    match status {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            let place = |name: &str| FIRST.iter().position(|first| *first == name);
            fields.sort_by_key(|(name, _)| place(name).unwrap_or(FIRST.len()));
            fields.into_iter().for_each(|(name, value)| page.add(name, value));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            page.lines.push(page.plain("", status));
        }
    }
    page.lines.append(&mut page.tables);
    page.lines.join("\n")
}

#[derive(Debug)]
struct Page {
    now: UnixMillis,
    lines: Vec<String>,
    tables: Vec<String>,
}

impl Page {
    fn add(&mut self, name: &str, value: &Value) {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                self.tables.push(format!("\n{name}\n{}", self.table(rows)));
            }
            Value::Object(fields)
                if !fields.is_empty() && fields.values().all(Value::is_object) =>
            {
                let mut rows: Vec<Value> = fields.iter().map(named_row).collect();
                rows.sort_by_key(|row| {
                    ROWS.iter().position(|name| row["name"].as_str() == Some(*name))
                });
                self.tables.push(format!("\n{name}\n{}", self.table(&rows)));
            }
            Value::Object(fields) => {
                let is_apart = |value: &Value| {
                    value.is_object()
                        || value.as_array().is_some_and(|rows| rows.iter().any(Value::is_object))
                };
                let (apart, flat): (Vec<_>, Vec<_>) =
                    fields.iter().partition(|(_, value)| is_apart(value));
                if !flat.is_empty() || apart.is_empty() {
                    self.lines.push(format!("{name}: {}", self.pairs(flat)));
                }
                for (inner, value) in apart {
                    self.add(&format!("{name}.{inner}"), value);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                self.lines.push(format!("{}: {}", shown(name), self.plain(name, value)));
            }
        }
    }

    fn pairs<'a>(&self, fields: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
        let pair = |(name, value): (&String, &Value)| {
            format!("{} {}", shown(name), self.plain(name, value))
        };
        let pairs: Vec<_> = fields.into_iter().map(pair).collect();
        if pairs.is_empty() { "none".to_owned() } else { pairs.join(", ") }
    }

    /// One row per object.
    fn table(&self, rows: &[Value]) -> Table {
        let mut columns: Vec<&str> = Vec::new();
        for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
            if !columns.contains(&name.as_str()) {
                columns.push(name);
            }
        }
        match COLUMNS.iter().find(|(mark, _)| columns.contains(mark)) {
            Some((_, chosen)) => {
                columns = chosen.iter().copied().filter(|name| columns.contains(name)).collect();
            }
            None => columns.sort_by_key(|name| *name != "name"),
        }
        let mut table = Table::new();
        table.load_preset(UTF8_HORIZONTAL_ONLY);
        // No line between rows: a tree has many.
        table.remove_style(TableComponent::HorizontalLines);
        table.remove_style(TableComponent::MiddleIntersections);
        table.remove_style(TableComponent::LeftBorderIntersections);
        table.remove_style(TableComponent::RightBorderIntersections);
        table.set_header(columns.iter().map(|name| shown(name)));
        for row in rows {
            let cell =
                |name: &&str| row.get(*name).map_or_else(String::new, |it| self.cell(name, it));
            table.add_row(columns.iter().map(cell));
        }
        table
    }

    fn cell(&self, name: &str, value: &Value) -> String {
        // A tree: the place of each below its parent shows who starts whom again.
        if let (Value::String(path), "actor") = (value, name) {
            let (depth, last) = (path.matches('/').count(), path.rsplit('/').next());
            return format!("{}{}", "  ".repeat(depth), last.unwrap_or_default());
        }
        self.plain(name, value)
    }

    fn plain(&self, name: &str, value: &Value) -> String {
        match value {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            Value::Object(fields) => self.pairs(fields),
            Value::Array(items) if items.is_empty() => "none".to_owned(),
            Value::Array(items) => {
                items.iter().map(|item| self.plain(name, item)).collect::<Vec<_>>().join(", ")
            }
            Value::Number(number) => match number.as_u64() {
                Some(number) => self.number(name, number),
                None => value.to_string(),
            },
            Value::Bool(_) => value.to_string(),
        }
    }

    /// A number, as its name says what it counts.
    fn number(&self, name: &str, number: u64) -> String {
        const MOMENTS: [&str; 3] = ["at_ms", "until_ms", "since_ms"];
        if MOMENTS.iter().any(|end| name.ends_with(end)) {
            self.moment(UnixMillis(number))
        } else if name.ends_with("_at") {
            self.moment(UnixMillis(number.saturating_mul(1000)))
        } else if name.ends_with("_ms") && number >= 1000 {
            moment::age(Duration::from_millis(number))
        } else if name.ends_with("_ms") {
            format!("{number} ms")
        } else if name.ends_with("_us") {
            format!("{number} µs")
        } else if name == "bytes" || name.ends_with("_bytes") || name.ends_with("bytes_max") {
            bytes(number)
        } else {
            number.to_string()
        }
    }

    fn moment(&self, at: UnixMillis) -> String {
        if at > self.now {
            format!("in {}", moment::age(at.saturating_since(self.now)))
        } else {
            format!("{} ago", moment::age(self.now.saturating_since(at)))
        }
    }
}

/// The name without the unit that its value is shown with.
fn shown(name: &str) -> &str {
    name.strip_suffix("_ms").or_else(|| name.strip_suffix("_us")).unwrap_or(name)
}

/// So many bytes, in the largest unit that leaves it above one.
fn bytes(number: u64) -> String {
    let (unit, tenths) = match number {
        0..1024 => return format!("{number} B"),
        1024..1_048_576 => ("KiB", number * 10 / 1024),
        1_048_576..1_073_741_824 => ("MiB", number * 10 / 1_048_576),
        _ => ("GiB", number / 1_073_741_824 * 10 + number % 1_073_741_824 * 10 / 1_073_741_824),
    };
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

fn named_row((name, value): (&String, &Value)) -> Value {
    let mut row = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
    row.extend(value.as_object().cloned().unwrap_or_default());
    Value::Object(row)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_978_800_000);

    #[test]
    fn lines_and_tables() {
        let text = render(
            &json!({
                "node": "alys-1",
                "buffer": { "records": 3, "bytes": 9, "classes": { "low": { "records": 3 } } },
                "endpoints": [{ "state": "healthy", "name": "a", "rtt_us": 15 }, { "name": "b" }],
            }),
            NOW,
        );
        for expected in
            ["node: alys-1", "bytes 9 B, records 3", "buffer.classes", "low", "healthy", "15 µs"]
        {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }

    /// The whole page of a node that has a bad day.
    #[test]
    fn what_an_operator_looks_for_comes_first_and_reads_well() {
        let class = |records: u64, bytes: u64| json!({ "records": records, "bytes": bytes });
        let text = render(
            &json!({
                "counts": { "accepted": 7 },
                "failures": {
                    "by_class": { "connection": 3 },
                    "last": [{
                        "at_ms": NOW.0 - 61_000, "kind": "peer_silent", "class": "connection",
                        "severity": "warning", "times": 3, "endpoint": "gov-1",
                        "message_id": null, "text": "no answer", "cure": "check the load",
                    }],
                },
                "federation": {
                    "version": 2, "since_ms": NOW.0 - 7_200_000, "halt": null, "scheduled": [],
                },
                "gaps": [],
                "mode": "reduced",
                "mode_reason": "1 of 2 endpoints is away",
                "node_id": "alys-1",
                "phase": "running",
                "queues": {
                    "unsettled": 5, "bytes": 1536, "oldest_age_ms": 90_000,
                    "by_priority": {
                        "critical": class(1, 10), "high": class(0, 0),
                        "low": class(4, 1526), "normal": class(0, 0),
                    },
                },
                "tls": { "own_expires_at": NOW.0 / 1000 + 86_400 },
                "tree": [
                    { "actor": "root", "activity": "running", "restarts": 0,
                      "since_ms": NOW.0 - 5000, "last_exit": null },
                    { "actor": "root/system", "activity": "running", "restarts": 2,
                      "since_ms": NOW.0 - 1000, "last_exit": "panicked" },
                ],
            }),
            NOW,
        );
        let expected = include_str!("testdata/page.txt");
        let trimmed: Vec<_> = text.lines().map(str::trim_end).collect();
        assert_eq!(trimmed.join("\n"), expected.trim_end(), "correct testdata/page.txt\n{text}");
    }
}
