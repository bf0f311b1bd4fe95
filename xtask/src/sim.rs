//! `cargo xtask sim`: the simulation, built as it has to be.
//!
//! A seed is one run only when the runtime draws from it too, which needs an unstable flag of tokio.
//! So it has a target directory of its own, and a profile that is fast enough for many seeds and
//! still checks invariants.

use crate::process::Run;

/// The flag.
const FLAGS: &str = "--cfg tokio_unstable";

/// What CI runs.
pub(crate) const SHOWN: &str = "cargo xtask sim --seeds 500; cargo xtask sim --planted";

/// Arguments of the command; all go to the simulation.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// `--seeds N`, `--minutes M`, `--seed S [--trace]`, `--planted`, `--help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    simulation().args(&args.args).run()
}

/// The step of CI: many seeds, and every planted bug.
pub(crate) fn gate() -> anyhow::Result<()> {
    let with = |args: &[&str]| {
        simulation().args(&args.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    };
    with(&["--seeds", "500"]).run()?;
    with(&["--planted"]).run()
}

fn simulation() -> Run {
    let args = [
        "run",
        "--quiet",
        "--locked",
        "--package",
        "alys-stream-simulation",
        "--bin",
        "sim",
        "--profile",
        "sim",
        "--target-dir",
        "target/sim-build",
        "--",
    ];
    Run::cargo(&args).env("RUSTFLAGS", FLAGS)
}
