//! `alys-stream status`: what a running node says about itself.
//!
//! Shows whatever the node reports rather than a list of known fields, so that it never hides one.

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
    let Value::Object(fields) = status else {
        return plain(status);
    };
    let mut lines = Vec::new();
    let mut tables = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                tables.push(format!("\n{name}\n{}", table(rows)));
            }
            Value::Object(inner) if inner.values().any(Value::is_object) => {
                tables.push(format!("\n{name}\n{}", table_of_objects(inner)));
            }
            Value::Object(inner) => lines.push(format!("{name}: {}", pairs(inner))),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                lines.push(format!("{name}: {}", plain(value)));
            }
        }
    }
    lines.append(&mut tables);
    lines.join("\n")
}

fn pairs(fields: &Map<String, Value>) -> String {
    let pair = |(name, value): (&String, &Value)| format!("{name} {}", plain(value));
    fields.iter().map(pair).collect::<Vec<_>>().join(", ")
}

fn table_of_objects(objects: &Map<String, Value>) -> Table {
    let row = |(name, value): (&String, &Value)| {
        let mut row = Map::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
        if let Value::Object(fields) = value {
            row.extend(fields.clone());
        } else {
            row.insert("value".to_owned(), value.clone());
        }
        Value::Object(row)
    };
    table(&objects.iter().map(row).collect::<Vec<_>>())
}

/// One row per object; columns in the order in which they first appear, the name first.
fn table(rows: &[Value]) -> Table {
    let mut columns: Vec<&str> = Vec::new();
    for name in rows.iter().filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&name.as_str()) {
            columns.push(name);
        }
    }
    columns.sort_by_key(|name| (*name != "name", *name != "state"));
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_header(&columns);
    for row in rows {
        table.add_row(
            columns
                .iter()
                .map(|name| row.get(name).map_or_else(String::new, plain)),
        );
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
    fn every_field_is_shown() {
        let text = render(&json!({
            "node": "alys-1",
            "buffer": { "records": 3, "bytes": 9 },
            "endpoints": [{ "state": "Healthy", "name": "a", "rtt_ms": 1.5 }, { "name": "b" }],
        }));
        for expected in [
            "node: alys-1",
            "bytes 9, records 3",
            "endpoints",
            "Healthy",
            "rtt_ms",
            "1.5",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
    }
}
