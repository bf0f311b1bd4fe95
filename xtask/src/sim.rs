//! `cargo xtask sim`: the simulation, built as it has to be.
//!
//! A seed is one run only when the runtime draws from it too, which needs an unstable flag of tokio.
//! So it has a target directory of its own, and a profile that is fast enough for many seeds and
//! still checks invariants.

use crate::process::Run;

/// The flag.
const FLAGS: &str = "--cfg tokio_unstable";

/// What CI runs.
pub(crate) const SHOWN: &str =
    "cargo xtask sim --seeds 500; cargo xtask sim --planted; the kept seeds, one run each";

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

/// The step of CI: many seeds, every planted bug, and the seeds that found something as they were
/// found, with two runs of one seed beside each other.
pub(crate) fn gate() -> anyhow::Result<()> {
    let with = |args: &[&str]| {
        simulation().args(&args.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    };
    with(&["--seeds", "500"]).run()?;
    with(&["--planted"]).run()?;
    built("test", &["--test", "regressions"]).run()
}

fn simulation() -> Run {
    built("run", &["--bin", "sim", "--"])
}

fn built(command: &str, what: &[&str]) -> Run {
    let profile = ["--profile", "sim", "--target-dir", "target/sim-build"];
    let package = ["--quiet", "--locked", "--package", "alys-stream-simulation"];
    Run::cargo(&[&[command], &package[..], &profile[..], what].concat()).env("RUSTFLAGS", FLAGS)
}
