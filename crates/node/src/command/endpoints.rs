//! `alys-stream endpoints`: the links of a running node to its governance nodes.
//!
//! [`show`] says how they look; what an endpoint is, and how it is dialled, belongs to the transport
//! layer.

mod reconnect;
mod show;
mod walk;

use clap::Subcommand;
use serde_json::Value;

use super::send::DEFAULT_NODE;
use crate::failure::{EXIT_CODES, Failure};
use crate::operator::client::Client;
use crate::output;
use crate::submission::Address;

const AFTER_HELP: &str = "\
Examples:
  alys-stream endpoints
  alys-stream endpoints --json | jq '.[] | {name, state, rtt_us}'
  alys-stream endpoints reconnect governance-2 --wait
  alys-stream endpoints test governance-2 --config dev/node/node.yaml";

#[derive(Debug, clap::Args)]
#[command(
    about = "See the links to governance nodes, dial one again, find what is wrong with one",
    long_about = "Shows each governance node that a running node is configured to reach: the state \
                  of the link and since when, round trip, what is in flight, whether it is held \
                  back (circuit breaker, ejection), the session, when its certificate expires, and \
                  the last error. `reconnect` dials one at once. `test` needs no running node: it \
                  walks to a governance node step by step, and says which step fails and why.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The node's local interface: unix:PATH or HOST:PORT
    #[arg(long, global = true, value_name = "ADDRESS", env = "ALYS_STREAM_NODE",
          default_value = DEFAULT_NODE)]
    node: Address,
    /// Print JSON: a list for all of them, an object for one
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show all of them; the same as no subcommand
    List,
    /// Dial one now: cuts its backoff short, or replaces a live connection (nothing is lost)
    Reconnect(reconnect::Args),
    /// Walk to one step by step (DNS, TCP, TLS, HTTP/2, capabilities, auth, session), with the
    /// configuration of a node, running or not
    Test(walk::Args),
}

/// Does what is asked.
///
/// # Errors
///
/// When no node answers, there is no such endpoint, or it cannot be reached.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let Args { place, what } = args;
    match what.unwrap_or(What::List) {
        What::List => list(&mut Client::connect(&place.node).await?, place.json).await,
        What::Reconnect(args) => {
            let mut client = Client::connect(&place.node).await?;
            reconnect::run(&mut client, &args, place.json).await
        }
        What::Test(args) => walk::run(&args, place.json).await,
    }
}

async fn list(client: &mut Client, as_json: bool) -> Result<(), Failure> {
    let endpoints = endpoints(client).await?;
    if as_json {
        let shown: Vec<Value> = endpoints.iter().map(show::json).collect();
        return output::line(format_args!("{:#}", Value::from(shown)));
    }
    output::line(show::page(&endpoints))
}

/// The endpoints as the node reports them.
async fn endpoints(client: &mut Client) -> Result<Vec<Value>, Failure> {
    let mut status = client.status().await?;
    match status.get_mut("endpoints").map(Value::take) {
        Some(Value::Array(endpoints)) => Ok(endpoints),
        Some(_) | None => Err(Failure::other("the node reports no endpoints")),
    }
}
