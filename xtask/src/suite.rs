//! `cargo xtask test`: the tests of one crate or of all, through nextest.

use crate::process::Run;
use crate::{say, tools};

/// Runs the tests of one crate, or of all.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A crate by its folder name, such as `messaging`
    #[arg(value_name = "CRATE")]
    name: Option<String>,
    /// Passed on to nextest
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    tools::ensure()?;
    let run = match &args.name {
        Some(name) => nextest(&["run", "-p", &package(name)]),
        None => nextest(&["run", "--workspace"]),
    };
    // Some tests say how many cases they ran: said again together, behind everything else.
    let mut cases = Vec::new();
    let done = run.args(&args.rest).run_watched(|line| cases.extend(cases_in(line)));
    for case in cases {
        say::result(case);
    }
    done
}

/// A line in which a test says how many cases it ran: `cases: model 3000`.
fn cases_in(line: &str) -> Option<String> {
    let line = line.trim();
    line.starts_with("cases: ").then(|| line.to_owned())
}

/// Some tests of one crate.
pub(crate) fn some(name: &str, args: &[&str]) -> Run {
    nextest(&[&["run", "-p", &package(name)], args].concat())
}

/// The whole workspace, as the gate runs it.
pub(crate) fn everything() -> Run {
    nextest(&["run", "--workspace", "--locked", "--profile", "ci"])
}

/// The examples in the documentation, which nextest does not run.
pub(crate) fn doctests() -> Run {
    Run::cargo(&["test", "--doc", "--workspace", "--locked"])
}

fn nextest(args: &[&str]) -> Run {
    tools::nextest(args).env(tools::PYTHON_VARIABLE, tools::python())
}

/// The package in a folder: `messaging` → `alys-stream-messaging`.
pub(crate) fn package(name: &str) -> String {
    if name == "xtask" || name.starts_with("alys-stream") {
        name.to_owned()
    } else {
        format!("alys-stream-{name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_cases_are_found() {
        assert_eq!(cases_in("    cases: model 3000\n").as_deref(), Some("cases: model 3000"));
        assert_eq!(cases_in("        PASS [   0.1s] model::cases"), None);
    }

    #[test]
    fn folders_name_packages() {
        assert_eq!(package("messaging"), "alys-stream-messaging");
        assert_eq!(package("tests"), "alys-stream-tests");
        assert_eq!(package("alys-stream"), "alys-stream");
        assert_eq!(package("alys-stream-node"), "alys-stream-node");
        assert_eq!(package("xtask"), "xtask");
    }
}
