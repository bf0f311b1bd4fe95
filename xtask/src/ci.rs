//! `cargo xtask ci`: the whole gate, one step after the other, stopping at the first red.
//!
//! The steps are the table in `ci/steps.rs`. The last line on standard output is the total of all
//! tests that ran, whatever else happened.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;

use crate::tally::Tally;
use crate::{say, tools};

mod demo;
mod examples;
mod steps;

use steps::Step;

/// Runs the whole gate.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the steps and run none
    #[arg(long)]
    list: bool,
    /// Begin at this step
    #[arg(long, value_name = "STEP", conflicts_with = "only")]
    from: Option<String>,
    /// Run this step alone
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
}

/// Runs the command. A red step gives a failing exit code, not an error.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let all = steps::all();
    if args.list {
        let width = all.iter().map(|step| step.name.len()).max().unwrap_or(0);
        for step in &all {
            say::result(format_args!("{:width$}  {}", step.name, step.shown()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = match (&args.from, &args.only) {
        (Some(name), _) => &all[position(&all, name)?..],
        (_, Some(name)) => {
            let at = position(&all, name)?;
            &all[at..=at]
        }
        (None, None) => &all[..],
    };
    let mut tally = Tally::default();
    let outcome = steps(chosen, &mut tally);
    if let Err(error) = &outcome {
        say::progress(format_args!("error: {error:#}"));
    }
    say::result(tally);
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the named steps of the gate.
pub(crate) fn some(names: &[&str]) -> anyhow::Result<()> {
    let all = steps::all();
    let chosen: Vec<Step> = all.into_iter().filter(|step| names.contains(&step.name)).collect();
    steps(&chosen, &mut Tally::default())
}

fn position(steps: &[Step], name: &str) -> anyhow::Result<usize> {
    let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
    let missing = || format!("no step `{name}`; the steps are {}", names.join(", "));
    steps.iter().position(|step| step.name == name).with_context(missing)
}

#[expect(clippy::disallowed_methods, reason = "shows how long each step took")]
fn steps(steps: &[Step], tally: &mut Tally) -> anyhow::Result<()> {
    let begun = Instant::now();
    if steps.first().is_some_and(|step| step.name != "tools") {
        tools::ensure()?;
    }
    for step in steps {
        let step_begun = Instant::now();
        say::result(format_args!("== {}: {}", step.name, step.shown()));
        let outcome = step.run(tally);
        let verdict = if outcome.is_ok() { "ok" } else { "RED" };
        let seconds = step_begun.elapsed().as_secs_f64();
        say::result(format_args!("== {}: {verdict} in {seconds:.1} s", step.name));
        outcome.with_context(|| format!("step {}", step.name))?;
    }
    say::result(format_args!("== all: ok in {:.0} s", begun.elapsed().as_secs_f64()));
    Ok(())
}
