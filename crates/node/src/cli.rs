//! What can be typed.
//!
//! Each subcommand's options live with the subcommand; here is only what they have in common.

use clap::{Parser, Subcommand};

use crate::command::{
    bench, buffer, demo, dlq, endpoints, governance, init, node, send, status, tail,
};
use crate::failure::EXIT_CODES;

const LONG_ABOUT: &str = "\
Durable, ordered, exactly-once messages between an Alys node and its governance federation.

A node accepts messages once they are on disk, delivers them to every governance node through \
disconnects and crashes, and collects the signatures of the federation. Start with `demo`.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "alys-stream",
    version,
    about = "Durable messages between an Alys node and its governance federation",
    long_about = LONG_ABOUT,
    after_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The subcommands, in the order in which a newcomer needs them. What each does is said beside its
/// options: a comment here would replace that.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Args),
    Init(init::Args),
    Node(node::Args),
    Governance(governance::Args),
    Send(send::Args),
    Tail(tail::Args),
    Status(status::Args),
    Endpoints(endpoints::Args),
    Dlq(dlq::Args),
    Buffer(buffer::Args),
    Bench(bench::Args),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}
