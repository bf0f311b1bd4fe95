//! `cargo xtask bench report`: scaling curves, measured with `alys-stream bench` and drawn from what
//! was measured.
//!
//! The measurements are committed beside the drawings, so that anyone can draw them again, and see
//! on which day and machine they were made.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::plot::{self, Series};
use crate::process::Run;
use crate::{repo, say};

/// Where measurements and drawings are.
const FOLDER: &str = "docs/performance";

/// What was measured.
const MEASURED: &str = "measured.json";

/// One curve: what changes along it, and how it is asked for.
struct Curve {
    name: &'static str,
    /// What `x` is, in words.
    x: &'static str,
    /// `bench` with these arguments; `{}` is the value.
    args: &'static [&'static str],
    values: &'static [&'static str],
    /// The field with the rate, and the one to compare it with.
    rate: &'static str,
    against: &'static str,
}

const DURABLE: (&str, &str) = ("msgs_per_s", "limit_msgs_per_s");

const fn durable(
    name: &'static str,
    x: &'static str,
    args: &'static [&'static str],
    values: &'static [&'static str],
) -> Curve {
    Curve { name, x, args, values, rate: DURABLE.0, against: DURABLE.1 }
}

const CURVES: &[Curve] = &[
    durable(
        "producers",
        "callers at the same time",
        &["durable", "--producers", "{}"],
        &["1", "4", "16", "64", "256", "1024"],
    ),
    durable(
        "payload",
        "bytes of a payload",
        &["durable", "--producers", "256", "--payload", "{}"],
        &["64", "256", "1024", "4096", "16384", "65536", "262144", "1048576"],
    ),
    durable(
        "endpoints",
        "governance nodes, policy any",
        &["durable", "--endpoints", "{}"],
        &["1", "2", "4", "8", "16", "32", "64"],
    ),
    durable(
        "policy",
        "policy, three governance nodes",
        &["durable", "--endpoints", "3", "--policy", "{}"],
        &["any", "quorum:2", "all"],
    ),
    durable(
        "priorities",
        "messages that a caller hands over at once, priorities mixed",
        &["durable", "--mixed", "--producers", "64", "--together", "{}"],
        &["4", "16", "64"],
    ),
    Curve {
        name: "backlog",
        x: "messages in the backlog",
        args: &["backlog", "--messages", "{}"],
        values: &["10000", "100000", "1000000", "10000000"],
        rate: "drained_msgs_per_s",
        against: "without_backlog_msgs_per_s",
    },
];

/// What to do.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Measure first: builds the program, and takes about half an hour
    #[arg(long)]
    measure: bool,
    /// Measure and draw these curves alone
    #[arg(long, value_name = "CURVE")]
    curve: Vec<String>,
    /// Measure on the disk of this folder
    #[arg(long, value_name = "DIR", default_value = "target")]
    dir: PathBuf,
    /// Seconds for one point
    #[arg(long, value_name = "S", default_value_t = 10)]
    seconds: u32,
}

/// Runs the command.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let folder = repo::path(FOLDER);
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(MEASURED);
    let mut measured: Value = match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).context("docs/performance/measured.json")?,
        Err(_) => json!({}),
    };
    let wanted =
        |curve: &&Curve| args.curve.is_empty() || args.curve.iter().any(|name| name == curve.name);
    if args.measure {
        Run::cargo(&["build", "--release", "-p", "alys-stream-node"]).run()?;
        for curve in CURVES.iter().filter(wanted) {
            measured[curve.name] = Value::Array(measure(curve, args)?);
            // After each curve: what was measured is not lost with what comes next.
            std::fs::write(&path, format!("{}\n", serde_json::to_string_pretty(&measured)?))?;
        }
    }
    draw(&measured)
}

fn measure(curve: &Curve, args: &Args) -> anyhow::Result<Vec<Value>> {
    let program = repo::path("target/release/alys-stream");
    let program = program.to_str().context("the path of the repository is not text")?;
    let dir = args.dir.to_str().context("--dir is not text")?;
    let seconds = args.seconds.to_string();
    let mut points = Vec::new();
    for value in curve.values {
        say::progress(format_args!("{} {value}", curve.name));
        let mut words = vec!["bench".to_owned()];
        words.extend(curve.args.iter().map(|word| word.replace("{}", value)));
        words.extend(["--json", "--seconds", &seconds, "--dir", dir].map(ToOwned::to_owned));
        let text = Run::new(program, &[]).args(&words).stdout()?;
        let figures: Value = serde_json::from_str(text.trim())?;
        points.push(json!({ "x": value, "figures": figures }));
    }
    Ok(points)
}

/// Writes the tables, and a drawing of each curve.
fn draw(measured: &Value) -> anyhow::Result<()> {
    let mut page = String::from(
        "# Scaling curves\n\nMade by `cargo xtask bench report` from `measured.json`.\n\
         Rates are messages per second; a ratio is of two rates of one run.\n",
    );
    for curve in CURVES {
        let Some(points) = measured[curve.name].as_array() else { continue };
        let number = |point: &Value, name: &str| point["figures"][name].as_f64().unwrap_or(0.0);
        let labels: Vec<&str> =
            points.iter().map(|point| point["x"].as_str().unwrap_or_default()).collect();
        let series = [curve.rate, curve.against].map(|name| Series {
            name: name.replace('_', " "),
            values: points.iter().map(|point| number(point, name)).collect(),
        });
        let drawing = plot::svg(curve.x, &labels, &series);
        std::fs::write(repo::path(FOLDER).join(format!("{}.svg", curve.name)), drawing)?;
        write!(page, "\n## {}\n\n![{}]({}.svg)\n\n", curve.x, curve.x, curve.name)?;
        writeln!(
            page,
            "| {} | {} | {} | ratio | CPU µs a message |",
            curve.x, series[0].name, series[1].name
        )?;
        page.push_str("|---|---|---|---|---|\n");
        for (point, label) in points.iter().zip(&labels) {
            let (ours, limit) = (number(point, curve.rate), number(point, curve.against));
            let cpu = &point["figures"]["cpu_us_per_msg"];
            let cpu = cpu["node"].as_f64().zip(cpu["governance"].as_f64());
            let cpu =
                cpu.map_or_else(|| "–".to_owned(), |(node, far)| format!("{node:.1} + {far:.1}"));
            let ratio = if limit > 0.0 { ours / limit } else { 0.0 };
            writeln!(page, "| {label} | {ours:.0} | {limit:.0} | {ratio:.2} | {cpu} |")?;
        }
    }
    std::fs::write(repo::path(FOLDER).join("curves.md"), page)?;
    Ok(())
}
