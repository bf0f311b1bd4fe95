//! `alys-stream status`: what a running node says about itself.
//!
//! Shows whatever the node reports rather than a list of known fields, so that new ones are seen:
//! `page` knows no more than what comes first, and how moments and bytes read.

use alys_stream_protocol::time::{SystemClock, WallClock as _};
use serde_json::Value;

use crate::failure::{EXIT_CODES, Failure};
use crate::{http, output};

mod page;

const AFTER_HELP: &str = "\
Examples:
  alys-stream status
  alys-stream status --admin 127.0.0.1:9600 --json | jq '.endpoints[].state'";

#[derive(Debug, clap::Args)]
#[command(
    about = "Show connections and queues of a running node",
    long_about = "Shows what a running node can do and why, its actors with their restarts, its \
                  connections, queues, federation and last errors, as its admin port reports \
                  them. Works for governance nodes too.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    /// The admin port: HOST:PORT
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "ALYS_STREAM_ADMIN",
        default_value = "127.0.0.1:9600"
    )]
    admin: String,
    /// Print the JSON as it is
    #[arg(long)]
    json: bool,
}

/// Asks once and prints.
///
/// # Errors
///
/// When nobody answers there, or not with a status.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let text = http::get(&args.admin, "/status").await.map_err(|error| {
        Failure::unavailable(format_args!(
            "no status: {}: {error} (is it running? name its admin port with --admin or \
             ALYS_STREAM_ADMIN)",
            args.admin
        ))
    })?;
    let status: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::other(format_args!("no status: {}: not JSON: {error}", args.admin))
    })?;
    if args.json {
        return output::line(format_args!("{status:#}"));
    }
    output::line(page::render(&status, SystemClock.now()))
}
