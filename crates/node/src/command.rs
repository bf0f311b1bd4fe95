//! One module per subcommand: its options, its help, and what it does.

pub(crate) mod bench;
pub(crate) mod buffer;
pub(crate) mod demo;
pub(crate) mod dlq;
pub(crate) mod endpoints;
pub(crate) mod governance;
pub(crate) mod init;
pub(crate) mod node;
pub(crate) mod send;
pub(crate) mod status;
pub(crate) mod tail;

use crate::cli::Command;
use crate::failure::Failure;

/// Runs a subcommand to its end.
///
/// # Errors
///
/// Why it did not succeed, and with which exit code.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    // Boxed: the largest of these futures would otherwise make up the stack of all of them.
    match command {
        Command::Demo(args) => Box::pin(demo::run(args)).await,
        Command::Init(args) => init::run(&args),
        Command::Node(args) => Box::pin(node::run(args)).await,
        Command::Governance(args) => Box::pin(governance::run(args)).await,
        Command::Send(args) => Box::pin(send::run(args)).await,
        Command::Tail(args) => Box::pin(tail::run(args)).await,
        Command::Status(args) => status::run(args).await,
        Command::Endpoints(args) => Box::pin(endpoints::run(args)).await,
        Command::Dlq(args) => Box::pin(dlq::run(args)).await,
        Command::Buffer(args) => buffer::run(args),
        Command::Bench(args) => Box::pin(bench::run(args)).await,
    }
}
