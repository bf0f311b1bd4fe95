//! `alys-stream init`: a development federation on this machine.

use std::path::PathBuf;

use alys_stream_protocol::federation::ScriptKind;
use clap::ValueEnum;

use crate::failure::{EXIT_CODES, Failure};
use crate::mint::{self, Minted, Plan, Ports};
use crate::output;

const AFTER_HELP: &str = "\
Example:
  alys-stream init --dir dev
  alys-stream governance --config dev/governance-1/governance.yaml &
  alys-stream governance --config dev/governance-2/governance.yaml &
  alys-stream governance --config dev/governance-3/governance.yaml &
  alys-stream node --config dev/node/node.yaml";

/// The most governance nodes that one federation can have keys for.
const GOVERNANCE_MAX: i64 = 20;

#[derive(Debug, clap::Args)]
#[command(
    about = "Make certificates, keys and configuration files for a development federation",
    long_about = "Makes a certificate authority, certificates, federation keys and configuration \
                  files for N governance nodes and one node, and prints the commands that start \
                  them. Nothing that exists is overwritten.\n\nFor development: one machine ends \
                  up with every secret of the federation.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    /// New or empty folder for all files
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How many governance nodes, each with one federation key
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=GOVERNANCE_MAX))]
    governance: u16,
    /// How many signatures an input needs [default: a majority]
    #[arg(long, value_name = "M")]
    threshold: Option<u32>,
    /// How the federation locks its outputs
    #[arg(long, value_enum, default_value_t = Script::P2wsh)]
    script: Script,
    /// gRPC port of the first governance node; the others follow
    #[arg(long, value_name = "PORT", default_value_t = 50_051)]
    port: u16,
    /// Admin port of the node; those of the governance nodes follow
    #[arg(long, value_name = "PORT", default_value_t = 9600)]
    admin_port: u16,
    /// Choose ports that are free now instead
    #[arg(long, conflicts_with_all = ["port", "admin_port"])]
    free_ports: bool,
}

/// The kinds of scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Script {
    /// Segregated witness, ECDSA signatures
    P2wsh,
    /// Taproot script path, Schnorr signatures
    P2tr,
}

impl From<Script> for ScriptKind {
    fn from(script: Script) -> Self {
        match script {
            Script::P2wsh => Self::P2wsh,
            Script::P2tr => Self::P2tr,
        }
    }
}

/// Writes the files and says what to do with them.
///
/// # Errors
///
/// When the options contradict each other, or a file cannot be written.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let ports = if args.free_ports {
        Ports::Free
    } else {
        Ports::From { grpc: args.port, admin: args.admin_port }
    };
    let minted = mint::mint(&Plan {
        dir: args.dir.clone(),
        governance: args.governance,
        threshold: args.threshold.unwrap_or_else(|| majority(args.governance)),
        script: args.script.into(),
        ports,
    })?;
    report(&minted)
}

/// More than half.
pub(crate) fn majority(members: u16) -> u32 {
    u32::from(members) / 2 + 1
}

fn report(minted: &Minted) -> Result<(), Failure> {
    let federation = &minted.federation;
    output::line(format_args!(
        "federation: {} of {}, {}",
        federation.threshold(),
        federation.members().len(),
        federation.address(mint::NETWORK)
    ))?;
    output::line("wrote:")?;
    for path in &minted.files {
        output::line(format_args!("  {}", path.display()))?;
    }
    output::line("start each in a terminal of its own:")?;
    for governance in &minted.governance {
        output::line(format_args!(
            "  alys-stream governance --config {}",
            governance.config.display()
        ))?;
    }
    output::line(format_args!("  alys-stream node --config {}", minted.node.config.display()))?;
    output::line("then:")?;
    output::line(format_args!("  alys-stream status --admin {}", minted.node.admin))?;
    output::line(format_args!("  alys-stream tail --node {}", minted.node.submission))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majorities() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }
}
