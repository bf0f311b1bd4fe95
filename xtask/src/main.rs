//! What the repository does to itself: `cargo xtask <command>`.
//!
//! One module for each command. Nothing here is part of the product.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod ci;
mod codegen;
mod fuzz;
mod layers;
mod process;
mod repo;
mod say;
mod sim;
mod suite;
mod tally;
mod text;
mod tidy;
mod tools;

/// The steps of the gate that `lint` runs.
const LINT_STEPS: &[&str] = &["fmt", "tidy", "layers", "typos", "clippy"];

/// What the repository does to itself.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ci(ci::Args),
    Codegen(codegen::Args),
    /// Checks the rules of the repository that no other tool knows
    Tidy,
    /// Checks which crate knows which, and who touches the world
    Layers,
    /// Formatting, clippy, tidy, layers and spelling
    Lint,
    Test(suite::Args),
    Bench(bench::Args),
    Fuzz(fuzz::Args),
    /// Runs whole nodes in a deterministic simulation; `-- --help` shows its options
    Sim(sim::Args),
}

fn main() -> ExitCode {
    let done = |outcome: anyhow::Result<()>| outcome.map(|()| ExitCode::SUCCESS);
    let outcome = match Cli::parse().command {
        Command::Ci(args) => ci::run(&args),
        Command::Codegen(args) => done(codegen::run(&args)),
        Command::Tidy => done(tidy::run()),
        Command::Layers => done(layers::run()),
        Command::Lint => done(ci::some(LINT_STEPS)),
        Command::Test(args) => done(suite::run(&args)),
        Command::Bench(args) => done(bench::run(&args)),
        Command::Fuzz(args) => done(fuzz::run(&args)),
        Command::Sim(args) => done(sim::run(&args)),
    };
    outcome.unwrap_or_else(|error| {
        say::progress(format_args!("error: {error:#}"));
        ExitCode::FAILURE
    })
}
