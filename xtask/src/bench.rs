//! `cargo xtask bench`: the criterion benches of `benches/`, the guard against regressions, and the
//! report of what was measured.

mod check;
mod plot;
mod report;

use crate::process::Run;
use crate::{repo, say};

const PACKAGE: &str = "alys-stream-benches";

/// Runs the benches.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Count the instructions of the hot path, and compare them with the committed baseline
    #[arg(long)]
    check: bool,
    /// With --check: commit what is counted as the new baseline
    #[arg(long, requires = "check")]
    update: bool,
    /// Passed on to criterion, such as the name of a bench
    #[arg(last = true)]
    rest: Vec<String>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Measures scaling curves with `alys-stream bench`, or draws them from what was measured
    Report(report::Args),
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(What::Report(report)) = &args.what {
        return report::run(report);
    }
    if args.check {
        return check::run(args.update);
    }
    if !is_there() {
        say::progress("there are no benches yet: `benches/` has no Cargo.toml");
        return Ok(());
    }
    Run::cargo(&["bench", "-p", PACKAGE, "--"]).args(&args.rest).run()
}

/// True when the repository has benches.
pub(crate) fn is_there() -> bool {
    repo::path("benches/Cargo.toml").exists()
}

/// Every bench once, unmeasured: shows that they run.
pub(crate) fn once() -> Run {
    Run::cargo(&["test", "-p", PACKAGE, "--benches", "--locked"])
}
