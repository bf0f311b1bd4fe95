//! The steps of the gate in order, cheap ones first.

use crate::process::Run;
use crate::tally::{self, Tally};
use crate::{bench, codegen, fuzz, layers, sim, suite, tidy, tools};

use super::{demo, examples};

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    does: Does,
}

#[derive(Debug)]
enum Does {
    /// Something that `xtask` does itself.
    Own(&'static str, fn() -> anyhow::Result<()>),
    Run(Run),
    /// A run of tests, and how to read its totals.
    Tests(Run, fn(&str) -> Option<Tally>),
}

impl Step {
    /// What it runs, as text.
    pub(crate) fn shown(&self) -> String {
        match &self.does {
            Does::Own(text, _) => (*text).to_owned(),
            Does::Run(run) | Does::Tests(run, _) => run.to_string(),
        }
    }

    /// Runs it, and adds its tests to the tally.
    pub(crate) fn run(&self, tally: &mut Tally) -> anyhow::Result<()> {
        match &self.does {
            Does::Own(_, own) => own(),
            Does::Run(run) => run.run(),
            Does::Tests(run, count) => run.run_counted(tally, *count),
        }
    }
}

/// Every step, in order.
pub(crate) fn all() -> Vec<Step> {
    let own = |name, text, does| Step { name, does: Does::Own(text, does) };
    let run = |name, run| Step { name, does: Does::Run(run) };
    let tests = |name, run, count| Step { name, does: Does::Tests(run, count) };
    let cargo = |args: &str| Run::cargo(&args.split(' ').collect::<Vec<_>>());

    let mut steps = vec![
        own("tools", "install missing tools into target/tools", tools::ensure),
        run("fmt", cargo("fmt --all --check")),
        own("codegen", "cargo xtask codegen --check", codegen::check),
        own("tidy", "cargo xtask tidy", tidy::run),
        own("layers", "cargo xtask layers", layers::run),
        run("typos", Run::tool("typos", &[])),
        run("deny", Run::tool("cargo-deny", &["--locked", "check", "licenses", "bans", "sources"])),
        run("buf-lint", buf(&["lint"])),
        run("buf-breaking", buf(&["breaking", "--against", codegen::outputs::BASELINE])),
        run("clippy", cargo("clippy --workspace --all-targets --locked -- -D warnings")),
        own("fuzz", fuzz::SHOWN, fuzz::check),
        run("doc", cargo("doc --workspace --no-deps --locked").env("RUSTDOCFLAGS", "-D warnings")),
        tests("test", suite::everything(), tally::nextest),
        tests("doctest", suite::doctests(), tally::harness),
    ];
    if bench::is_there() {
        steps.push(run("bench", bench::once()));
    }
    steps.push(own("sim", sim::SHOWN, sim::gate));
    steps.push(own("examples", examples::SHOWN, examples::run));
    steps.push(own("demo", demo::SHOWN, demo::run));
    steps
}

/// buf with its cache below `target`: it stores nothing elsewhere and fetches nothing.
fn buf(args: &[&str]) -> Run {
    Run::tool("buf", args).env("BUF_CACHE_DIR", "target/buf")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_step_shows_what_it_runs() {
        let steps = all();
        let names: BTreeSet<&str> = steps.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), steps.len());
        assert!(steps.iter().all(|step| !step.shown().is_empty()));
    }

    #[test]
    fn the_steps_of_lint_exist() {
        let steps = all();
        for name in crate::LINT_STEPS {
            assert!(steps.iter().any(|step| step.name == *name), "{name}");
        }
    }
}
