//! `cargo xtask bench`: the criterion benches of `benches/`.

use crate::process::Run;
use crate::{repo, say};

const PACKAGE: &str = "alys-stream-benches";

/// Runs the benches.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Passed on to criterion, such as the name of a bench
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
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
