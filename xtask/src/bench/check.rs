//! The guard against regressions: instructions of the hot path, counted by callgrind.
//!
//! Instructions and not time: they are the same on a busy machine. Every piece runs twice, with
//! different numbers of steps; what the difference took is what a step takes, without the start of
//! the program.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, bail};

use super::PACKAGE;
use crate::process::Run;
use crate::{repo, say};

/// What was counted when somebody last said that it should be so.
const BASELINE: &str = "benches/baseline.json";

/// How much more than the baseline is a regression, in per cent.
const TOLERANCE_PERCENT: f64 = 3.0;

/// Steps of the two runs.
const STEPS: [u64; 2] = [50, 250];

/// Counts, and compares or writes.
pub(super) fn run(is_update: bool) -> anyhow::Result<()> {
    if !Run::new("valgrind", &["--version"]).probe() {
        bail!(
            "valgrind is missing: it counts the instructions (Debian and Ubuntu: apt-get install \
             valgrind)"
        );
    }
    Run::cargo(&["build", "--release", "-p", PACKAGE, "--bin", "hot_path"]).run()?;
    let program = repo::path("target/release/hot_path");
    let program = program.to_str().context("the path of the repository is not text")?;
    let mut counted = BTreeMap::new();
    for line in Run::new(program, &[]).stdout()?.lines() {
        let (piece, messages) = line.split_once(' ').context("`hot_path` lists something else")?;
        let messages: f64 = messages.parse()?;
        let [few, many] = STEPS.map(|steps| instructions(program, piece, steps));
        let steps = int_to_float(STEPS[1] - STEPS[0]);
        let per_message = (int_to_float(many?) - int_to_float(few?)) / steps / messages;
        say::progress(format_args!("{piece:<10} {per_message:10.1} instructions for a message"));
        counted.insert(piece.to_owned(), (per_message * 10.0).round() / 10.0);
    }
    let path = repo::path(BASELINE);
    if is_update {
        let text = serde_json::to_string_pretty(&counted)?;
        return Ok(std::fs::write(path, format!("{text}\n"))?);
    }
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{BASELINE} (write it with `cargo xtask bench --check --update`)")
    })?;
    compare(&serde_json::from_str(&text)?, &counted)
}

/// Fails on every piece that takes more than the baseline says, and on those that are new or gone.
fn compare(
    baseline: &BTreeMap<String, f64>,
    counted: &BTreeMap<String, f64>,
) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    for (piece, now) in counted {
        let Some(before) = baseline.get(piece) else {
            wrong.push(format!("{piece} is not in the baseline"));
            continue;
        };
        let percent = (now / before - 1.0) * 100.0;
        if percent > TOLERANCE_PERCENT {
            wrong.push(format!("{piece} takes {now} instead of {before} ({percent:+.1} %)"));
        } else if percent < -TOLERANCE_PERCENT {
            say::progress(format_args!(
                "{piece} got better ({percent:+.1} %): update the baseline"
            ));
        }
    }
    wrong.extend(
        baseline
            .keys()
            .filter(|piece| !counted.contains_key(*piece))
            .map(|p| format!("{p} is gone")),
    );
    if wrong.is_empty() {
        return Ok(());
    }
    bail!(
        "instructions for a message: {} (if it is meant: cargo xtask bench --check --update)",
        wrong.join("; ")
    )
}

/// Counts one run.
fn instructions(program: &str, piece: &str, steps: u64) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", program, piece])
        .arg(steps.to_string())
        .output()
        .context("valgrind cannot be run")?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("`hot_path {piece}` under valgrind: {}", text.lines().last().unwrap_or_default());
    }
    collected(&text).with_context(|| format!("valgrind counted nothing of `hot_path {piece}`"))
}

/// The number of instructions in what callgrind says.
fn collected(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

#[expect(clippy::cast_precision_loss, reason = "counts of short runs are far below 2^52")]
const fn int_to_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pieces: &[(&str, f64)]) -> BTreeMap<String, f64> {
        pieces.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn three_per_cent_are_tolerated() {
        let baseline = map(&[("a", 100.0)]);
        compare(&baseline, &map(&[("a", 102.9)])).unwrap();
        compare(&baseline, &map(&[("a", 50.0)])).unwrap();
        let error = compare(&baseline, &map(&[("a", 103.5)])).unwrap_err();
        assert!(error.to_string().contains("+3.5 %"), "{error}");
    }

    #[test]
    fn the_same_pieces_are_compared() {
        compare(&map(&[("a", 1.0)]), &map(&[("b", 1.0)])).unwrap_err();
        compare(&map(&[("a", 1.0), ("b", 1.0)]), &map(&[("a", 1.0)])).unwrap_err();
    }

    #[test]
    fn callgrind_is_read() {
        let text = "==1== Events    : Ir\n==1== Collected : 1234\n==1==\n";
        assert_eq!(collected(text), Some(1234));
        assert_eq!(collected(""), None);
    }
}
