//! `alys-stream`: a node, a governance node, and the tools to use and watch them.
//!
//! Reading order: [`cli`] (what can be typed), [`command`] (one module per subcommand),
//! [`submission`] (the local interface of a node), [`operator`] (the operator's side of it), [`mint`] (development certificates, keys and
//! configuration files), [`demo`] (the whole system, attacked and counted), [`failure`] (exit codes).

mod admin;
mod cli;
mod command;
mod demo;
mod failure;
mod http;
mod mint;
mod moment;
mod operator;
mod output;
mod stop;
mod submission;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

use crate::failure::Failure;

/// How long tasks that are left over may hold up the end of the process.
const RUNTIME_SHUTDOWN_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    report_panics();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::error(&failure);
            failure.exit().into()
        }
    }
}

fn run(cli: cli::Cli) -> Result<(), Failure> {
    // Exactly one crypto provider in the process, chosen before anything can ask for the default.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| Failure::other("a crypto provider was installed twice"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format_args!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(command::run(cli.command));
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_MAX);
    result
}

/// One line for a panic, wherever it happens. Panics inside actors are contained by their
/// supervisors, so the process goes on after the line.
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("unknown");
        let place = info.location().map_or_else(String::new, |at| format!(" at {at}"));
        output::error(format_args!("internal error{place}: {text}"));
    }));
}
