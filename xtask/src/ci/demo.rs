//! The last step of the gate: the product does its job, and says so truthfully.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::process::Run;
use crate::say;

/// The command, as text.
pub(super) const SHOWN: &str = "target/debug/alys-stream demo --seconds 9 --json";

/// What the demo may not report anything but zero for.
const ZERO: &[&str] = &["lost", "applied_twice", "signatures_invalid"];
/// What it must report more than zero for, or nothing was shown.
const POSITIVE: &[&str] = &["accepted", "settled", "transactions_verified"];

/// Runs the demo and judges what it prints.
pub(super) fn run() -> anyhow::Result<()> {
    let words: Vec<&str> = SHOWN.split(' ').collect();
    let (program, args) = words.split_first().context("the command is a constant")?;
    // The tests built it. Building it here, alone, would choose other features of its
    // dependencies, and so build most of them again.
    if !std::path::Path::new(program).exists() {
        Run::new("cargo", &["build", "--locked", "-p", "alys-stream-node"]).stdout()?;
    }
    let output = Run::new(*program, args).stdout()?;
    judge(&output).with_context(|| format!("the demo printed {}", output.trim()))?;
    say::progress(output.trim());
    Ok(())
}

fn judge(output: &str) -> anyhow::Result<()> {
    let summary: Value = serde_json::from_str(output).context("not one JSON object")?;
    let number = |key: &str| {
        summary.get(key).and_then(Value::as_u64).with_context(|| format!("no number `{key}`"))
    };
    for key in ZERO {
        let value = number(key)?;
        ensure!(value == 0, "`{key}` is {value}, not 0");
    }
    for key in POSITIVE {
        ensure!(number(key)? > 0, "`{key}` is 0: nothing was shown");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"accepted":9,"settled":9,"lost":0,"applied_twice":0,
        "signatures_invalid":0,"transactions_verified":3}"#;

    #[test]
    fn only_a_flawless_summary_passes() {
        judge(GOOD).expect("flawless");
        judge(&GOOD.replace(r#""lost":0"#, r#""lost":1"#)).expect_err("lost one");
        judge(&GOOD.replace(r#""lost":0"#, r#""lost":"0""#)).expect_err("not a number");
        judge(&GOOD.replace(r#""accepted":9"#, r#""accepted":0"#)).expect_err("did nothing");
        judge(&format!("starting\n{GOOD}")).expect_err("more than one object");
    }
}
