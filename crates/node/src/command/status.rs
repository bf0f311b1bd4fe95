//! `alys-stream status`: what a running node says about itself.
//!
//! Shows whatever the node reports rather than a list of known fields, so that new ones are seen.

use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Map, Value};

use crate::failure::{EXIT_CODES, Failure};
use crate::{http, output};

const AFTER_HELP: &str = "\
Examples:
  alys-stream status
  alys-stream status --admin 127.0.0.1:9600 --json | jq '.endpoints[].state'";

#[derive(Debug, clap::Args)]
#[command(
    about = "Show connections and queues of a running node",
    long_about = "Shows the connections, queues and counters of a running node, as its admin port \
                  reports them. Works for governance nodes too.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    /// The admin port: HOST:PORT
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "ALYS_STREAM_ADMIN",
        default_value = "127.0.0.1:9600"
    )]
    admin: String,
    /// Print the JSON as it is
    #[arg(long)]
    json: bool,
}

/// What is shown of a connection; `--json` has all of it.
const CONNECTION_COLUMNS: [&str; 9] = [
    "name",
    "state",
    "dialect",
    "rtt_us",
    "in_flight",
    "queued",
    "attempts",
    "address",
    "last_error",
];

/// Asks once and prints.
///
/// # Errors
///
/// When nobody answers there, or not with a status.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let text = http::get(&args.admin, "/status").await.map_err(|error| {
        Failure::unavailable(format_args!(
            "no status: {}: {error} (is it running? name its admin port with --admin or \
             ALYS_STREAM_ADMIN)",
            args.admin
        ))
    })?;
    let status: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::other(format_args!("no status: {}: not JSON: {error}", args.admin))
    })?;
    if args.json {
        return output::line(format_args!("{status:#}"));
    }
    output::line(render(&status))
}

/// Plain values as lines, lists of objects as tables.
fn render(status: &Value) -> String {
    let mut page = Page::default();
    match status {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| page.add(name, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            page.lines.push(plain(status));
        }
    }
    page.lines.append(&mut page.tables);
    page.lines.join("\n")
}

#[derive(Debug, Default)]
struct Page {
    lines: Vec<String>,
    tables: Vec<String>,
}

impl Page {
    fn add(&mut self, name: &str, value: &Value) {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                self.tables.push(format!("\n{name}\n{}", table(rows)));
            }
            Value::Object(fields)
                if !fields.is_empty() && fields.values().all(Value::is_object) =>
            {
                let rows: Vec<Value> = fields.iter().map(named_row).collect();
                self.tables.push(format!("\n{name}\n{}", table(&rows)));
            }
            Value::Object(fields) => {
                let (nested, flat): (Vec<_>, Vec<_>) =
                    fields.iter().partition(|(_, value)| value.is_object());
                self.lines.push(format!("{name}: {}", pairs(flat)));
                for (inner, value) in nested {
                    self.add(&format!("{name}.{inner}"), value);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                self.lines.push(format!("{name}: {}", plain(value)));
            }
        }
    }
}

fn pairs<'a>(fields: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let pair = |(name, value): (&String, &Value)| format!("{name} {}", plain(value));
    fields.into_iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn named_row((name, value): (&String, &Value)) -> Value {
    let mut row = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
    row.extend(value.as_object().cloned().unwrap_or_default());
    Value::Object(row)
}

/// One row per object. Connections have more to say than fits on a line: of those, the columns that
/// an operator looks at first.
fn table(rows: &[Value]) -> Table {
    let mut columns: Vec<&str> = Vec::new();
    for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    if columns.contains(&"state") {
        columns = CONNECTION_COLUMNS.into_iter().filter(|name| columns.contains(name)).collect();
    }
    columns.sort_by_key(|name| *name != "name");
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(&columns);
    for row in rows {
        table.add_row(columns.iter().map(|name| row.get(name).map_or_else(String::new, plain)));
    }
    table
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Object(fields) => pairs(fields),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_and_tables() {
        let text = render(&json!({
            "node": "alys-1",
            "buffer": { "records": 3, "bytes": 9, "classes": { "low": { "records": 3 } } },
            "endpoints": [{ "state": "healthy", "name": "a", "rtt_us": 15 }, { "name": "b" }],
        }));
        for expected in
            ["node: alys-1", "bytes 9, records 3", "buffer.classes", "low", "healthy", "15"]
        {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
