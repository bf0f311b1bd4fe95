//! `alys-stream tail`: prints what governance sends.

use std::time::Duration;

use alys_stream_protocol::governance::stream_response::Payload;
use alys_stream_protocol::governance::{
    ErrorResponse, FederationUpdate, ProposalNotification, SignatureResponse,
};
use alys_stream_protocol::submission::SubscribeResponse;
use clap::ValueEnum;
use serde_json::{Value, json};

use super::send::DEFAULT_NODE;
use crate::failure::{EXIT_CODES, Failure};
use crate::output;
use crate::stop::Stop;
use crate::submission::Address;
use crate::submission::client::{Client, Code, Status, Streaming, is_transient};

const AFTER_HELP: &str = "\
Examples:
  alys-stream tail
  alys-stream tail --kind federation-update --kind proposal --json
  alys-stream tail --count 1 --kind signature";

/// Pause before a node that went away is asked again.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
#[command(
    about = "Print what governance sends to a running node",
    long_about = "Prints what governance sends to a running node, one line per message, from now \
                  on. When the node restarts, connects again. Ends with Ctrl-C, or after --count \
                  messages.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    /// The node's submission interface: unix:PATH or HOST:PORT
    #[arg(long, value_name = "ADDRESS", env = "ALYS_STREAM_NODE", default_value = DEFAULT_NODE)]
    node: Address,
    /// Only messages of this kind; may be given several times [default: all]
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    kinds: Vec<Kind>,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// What governance sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Signature,
    FederationUpdate,
    Proposal,
    Error,
}

impl Kind {
    /// The number of its field in `StreamResponse`.
    const fn number(self) -> u32 {
        match self {
            Self::Signature => 20,
            Self::FederationUpdate => 30,
            Self::Proposal => 40,
            Self::Error => 50,
        }
    }
}

/// Prints until it is stopped.
///
/// # Errors
///
/// When nobody answers at first, or the node refuses.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let mut stop = Stop::try_new(false)?;
    let mut client = Client::connect(&args.node).await?;
    output::note(format_args!("connected to {}", args.node));
    let mut left = args.count.unwrap_or(u64::MAX);
    tokio::select! {
        ended = tail(&mut client, &args, &mut left) => ended,
        _ = stop.asked() => Ok(()),
    }
}

async fn tail(client: &mut Client, args: &Args, left: &mut u64) -> Result<(), Failure> {
    let kinds: Vec<u32> = args.kinds.iter().map(|kind| kind.number()).collect();
    let mut away = false;
    loop {
        let ended = match client.subscribe(kinds.clone()).await {
            Ok(mut messages) => {
                if std::mem::take(&mut away) {
                    output::note("connected again");
                }
                print_all(&mut messages, args.json, left).await?
            }
            Err(status) => Some(status),
        };
        match ended {
            _ if *left == 0 => return Ok(()),
            Some(status) if status.code() == Code::DataLoss => {
                output::note(format_args!("warning: {}", status.message()));
            }
            Some(status) if !is_transient(&status) => return Err(client.failure("tail", &status)),
            Some(_) | None => {
                if !std::mem::replace(&mut away, true) {
                    output::note(format_args!(
                        "the node went away: {} (waiting for it)",
                        args.node
                    ));
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Prints until the stream ends, and says how it did.
async fn print_all(
    messages: &mut Streaming<SubscribeResponse>,
    as_json: bool,
    left: &mut u64,
) -> Result<Option<Status>, Failure> {
    while *left > 0 {
        match messages.message().await {
            Ok(Some(message)) => {
                if as_json {
                    output::line(as_value(&message))?;
                } else {
                    output::line(as_text(&message))?;
                }
                *left -= 1;
            }
            Ok(None) => return Ok(None),
            Err(status) => return Ok(Some(status)),
        }
    }
    Ok(None)
}

fn as_text(message: &SubscribeResponse) -> String {
    let metadata = message.response.as_ref().and_then(|response| response.metadata.as_ref());
    let id = metadata.map_or("-", |metadata| metadata.request_id.as_str());
    let (kind, details) = describe(message);
    let fields = details.as_object().into_iter().flatten();
    let details: String = fields.map(|(name, value)| format!(" {name}={}", plain(value))).collect();
    format!("{} {} {kind} {id}{details}", message.received_at_ms, message.endpoint)
}

fn as_value(message: &SubscribeResponse) -> Value {
    let metadata = message.response.as_ref().and_then(|response| response.metadata.as_ref());
    let (kind, details) = describe(message);
    json!({
        "endpoint": message.endpoint,
        "received_at_ms": message.received_at_ms,
        "request_id": metadata.map(|metadata| metadata.request_id.as_str()),
        "node_id": metadata.map(|metadata| metadata.node_id.as_str()),
        "kind": kind,
        "message": details,
    })
}

/// Strings without their quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn describe(message: &SubscribeResponse) -> (&'static str, Value) {
    let payload = message.response.as_ref().and_then(|response| response.payload.as_ref());
    match payload {
        None => ("acknowledgement", json!({})),
        // The session token of an acknowledgement is a secret and is not shown.
        Some(Payload::RegistrationAck(ack)) => {
            ("registration_ack", json!({ "accepted": ack.accepted, "node": ack.assigned_node_id }))
        }
        Some(Payload::SignatureResponse(response)) => ("signature_response", signature(response)),
        Some(Payload::FederationUpdate(update)) => ("federation_update", federation(update)),
        Some(Payload::ProposalNotification(proposal)) => {
            ("proposal_notification", voting(proposal))
        }
        Some(Payload::ErrorResponse(error)) => ("error_response", refusal(error)),
        Some(Payload::HeartbeatAck(ack)) => ("heartbeat_ack", json!({ "sequence": ack.sequence })),
    }
}

fn signature(response: &SignatureResponse) -> Value {
    json!({
        "status": response.status().as_str_name(),
        "signatures": response.signatures.len(),
        "reason": response.failure_reason(),
    })
}

fn federation(update: &FederationUpdate) -> Value {
    let members: Vec<&str> =
        update.members.iter().map(|member| member.member_id.as_str()).collect();
    json!({
        "type": update.update_type().as_str_name(),
        "effective_height": update.effective_height,
        "members": members,
        "threshold": update.config.as_ref().map(|config| config.signature_threshold),
    })
}

fn voting(proposal: &ProposalNotification) -> Value {
    json!({
        "id": proposal.proposal_id,
        "type": proposal.proposal_type().as_str_name(),
        "voting_deadline": proposal.voting_deadline,
        "required_votes": proposal.required_votes,
        "data": hex::encode(&proposal.proposal_data),
    })
}

fn refusal(error: &ErrorResponse) -> Value {
    json!({
        "code": error.error_code().as_str_name(),
        "text": error.error_message,
        "details": error.error_details(),
    })
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::governance::{ResponseMetadata, SignatureStatus, StreamResponse};

    use super::*;

    #[test]
    fn a_line_says_who_what_and_how() {
        let message = SubscribeResponse {
            endpoint: "governance-1".to_owned(),
            received_at_ms: 7,
            response: Some(StreamResponse {
                metadata: Some(ResponseMetadata {
                    request_id: "r".to_owned(),
                    ..ResponseMetadata::default()
                }),
                payload: Some(Payload::SignatureResponse(SignatureResponse {
                    status: SignatureStatus::Partial.into(),
                    ..SignatureResponse::default()
                })),
            }),
        };
        let expected = "7 governance-1 signature_response r \
                        reason= signatures=0 status=SIGNATURE_STATUS_PARTIAL";
        assert_eq!(as_text(&message), expected);
    }
}
