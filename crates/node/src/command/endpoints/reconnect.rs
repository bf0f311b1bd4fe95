//! `alys-stream endpoints reconnect`: has an endpoint dialled at once.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{endpoints, show};
use crate::failure::Failure;
use crate::operator::client::Client;
use crate::output;

/// Pause between two looks at a link that comes up.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Longest wait with `--wait`: an attempt gives up before that.
const WAIT_MAX: Duration = Duration::from_secs(45);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The name of the endpoint in the configuration of the node
    name: String,
    /// Wait until the link is up, or the attempt failed
    #[arg(long)]
    wait: bool,
}

/// Asks for it, and waits when told to.
///
/// # Errors
///
/// When there is no such endpoint, or the new attempt failed.
pub(super) async fn run(client: &mut Client, args: &Args, as_json: bool) -> Result<(), Failure> {
    let asked = Instant::now();
    let before = one(client, &args.name).await?;
    // An attempt that is under way is not begun again: it is the one that is waited for.
    let is_under_way = ["connecting", "authenticating"].contains(&show::text(&before, "state"));
    let attempt = number(&before, "attempts") + u64::from(!is_under_way);
    client.reconnect(&args.name).await?;
    if args.wait {
        wait(client, &args.name, attempt, asked).await?;
    }
    let endpoint = one(client, &args.name).await?;
    if as_json {
        return output::line(format_args!("{:#}", show::json(&endpoint)));
    }
    let state = show::text(&endpoint, "state");
    if args.wait {
        let took = asked.elapsed().as_millis();
        return output::line(format_args!("{}: {state} after {took} ms", args.name));
    }
    output::line(format_args!("{}: dialling ({state})", args.name))
}

async fn one(client: &mut Client, name: &str) -> Result<Value, Failure> {
    let endpoints = endpoints(client).await?;
    let names: Vec<_> =
        endpoints.iter().map(|endpoint| show::text(endpoint, "name").to_owned()).collect();
    let found = endpoints.into_iter().find(|endpoint| show::text(endpoint, "name") == name);
    found.ok_or_else(|| {
        let names = names.join(", ");
        Failure::usage(format_args!("{name:?} is not dialled; there are {names}"))
    })
}

/// Until this attempt, or a later one, is up or failed.
async fn wait(
    client: &mut Client,
    name: &str,
    attempt: u64,
    asked: Instant,
) -> Result<(), Failure> {
    while asked.elapsed() < WAIT_MAX {
        let endpoint = one(client, name).await?;
        let state = show::text(&endpoint, "state");
        if number(&endpoint, "attempts") >= attempt {
            match state {
                "streaming" | "healthy" | "warning" => return Ok(()),
                "failed" | "reconnecting" => {
                    let why = show::text(&endpoint, "last_error");
                    return Err(Failure::unavailable(format_args!("{name}: {state}: {why}")));
                }
                _ => {}
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let seconds = WAIT_MAX.as_secs();
    Err(Failure::unavailable(format_args!("{name}: not up after {seconds} s")))
}

fn number(endpoint: &Value, field: &str) -> u64 {
    endpoint.get(field).and_then(Value::as_u64).unwrap_or(0)
}
