//! `alys-stream send`: hands messages to a running node, and follows what becomes of them.

mod json;
mod payload;
mod show;

use std::time::Duration;

use alys_stream_protocol::governance::RequestPriority;
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{
    Acceptance, AwaitOutcomeResponse, OutcomeState, Submission, submission,
};
use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use bytes::Bytes;
use clap::{Subcommand, ValueEnum};
use prost::Message as _;

use crate::failure::{EXIT_CODES, Failure};
use crate::submission::Address;
use crate::submission::client::{Client, is_final, is_transient};

const AFTER_HELP: &str = "\
Examples:
  alys-stream send pegin --txid $(printf 'ab%.0s' {1..32}) --vout 0 --amount 100000 \\
      --evm-address 0x00000000000000000000000000000000000000aa --confirmations 6
  alys-stream send --wait signature --tx 0200... --amount 150000 --amount 2000000
  alys-stream send --priority low app --kind 1000 --text hello
  echo '{\"priority\": \"high\", \"application\": {\"kind\": 1000, \"text\": \"hi\"}}' | alys-stream send -";

/// Pause before a node that went away is asked again.
const AGAIN: Duration = Duration::from_millis(250);

/// Most messages in one call; each call is accepted as a whole or refused as a whole.
const TOGETHER_MAX: usize = 64;

/// Most bytes in one call, unless one message alone is larger: well below what the node reads.
const TOGETHER_BYTES_MAX: usize = 4 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(
    about = "Hand a message to a running node",
    long_about = "Hands messages to a running node and prints their acceptance: from then on they \
                  are on disk and will be delivered, or become dead letters with a cause. With \
                  --wait, follows each one to its end; that survives restarts of the node.\n\nThe \
                  message comes from the options of a subcommand, or as JSON on standard input \
                  with `-`: one object, or one object per line.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    #[command(flatten, next_help_heading = "Options of every message")]
    envelope: Envelope,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct Envelope {
    /// The node's submission interface: unix:PATH or HOST:PORT
    #[arg(long, global = true, value_name = "ADDRESS", env = "ALYS_STREAM_NODE",
          default_value = DEFAULT_NODE)]
    node: Address,
    /// The message's identifier, a UUID; sending one again is not a second message [default: a new one]
    #[arg(long, global = true, value_name = "UUID")]
    id: Option<MessageId>,
    /// How urgent it is [default: that of its kind]
    #[arg(long, global = true, value_enum)]
    priority: Option<Urgency>,
    /// Give up after so many seconds [default: that of its kind]
    #[arg(long, global = true, value_name = "SECONDS")]
    deadline: Option<u64>,
    /// Messages with the same key and priority keep their order
    #[arg(long, global = true, value_name = "TEXT")]
    ordering_key: Option<String>,
    /// The trace it belongs to, as W3C traceparent
    #[arg(long, global = true, value_name = "TRACEPARENT")]
    traceparent: Option<String>,
    /// Follow the message to its end
    #[arg(long, global = true)]
    wait: bool,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    json: bool,
}

/// Where a node is unless told otherwise: the folder that `init --dir dev` made.
pub(crate) const DEFAULT_NODE: &str = "unix:dev/node/node.sock";

/// The classes of priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Urgency {
    /// Whatever may wait
    Low,
    /// Ordinary traffic
    Normal,
    /// Ahead of ordinary traffic
    High,
    /// Ahead of everything
    Critical,
}

impl From<Urgency> for RequestPriority {
    fn from(urgency: Urgency) -> Self {
        match urgency {
            Urgency::Low => Self::Low,
            Urgency::Normal => Self::Normal,
            Urgency::High => Self::High,
            Urgency::Critical => Self::Critical,
        }
    }
}

#[derive(Debug, Subcommand)]
enum What {
    /// A confirmed deposit to the federation
    Pegin(payload::Pegin),
    /// How the node is doing (never stored; the newest replaces older ones)
    Status(payload::Status),
    /// Inputs of a Bitcoin transaction for the federation to sign
    Signature(payload::Signature),
    /// A message of a kind that the application defines
    App(payload::App),
    /// Read messages as JSON from standard input
    #[command(name = "-")]
    Stdin,
}

/// Sends, and follows if asked to.
///
/// # Errors
///
/// When the node does not answer or refuses; with `--wait`, also when a message ends other than
/// complete.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let Args { envelope, what } = args;
    let mut client = Client::connect(&envelope.node).await?;
    let accepted = match what {
        What::Stdin => {
            let input = json::read(std::io::stdin().lock(), |payload| envelope.around(payload));
            submit(&mut client, input, envelope.json).await?
        }
        What::Pegin(_) | What::Status(_) | What::Signature(_) | What::App(_) => {
            let one = std::iter::once(what.into_payload().map(|payload| envelope.around(payload)));
            submit(&mut client, one, envelope.json).await?
        }
    };
    if accepted.is_empty() {
        return Err(Failure::usage("standard input: no message (give one JSON object per line)"));
    }
    if !envelope.wait {
        return Ok(());
    }
    let mut unhappy = 0;
    // Volatile messages have no number and no outcome.
    for acceptance in accepted.iter().filter(|acceptance| acceptance.seq > 0) {
        let id = MessageId::try_from_slice(&acceptance.message_id)
            .map_err(|error| Failure::other(format_args!("the node answered: {error}")))?;
        let last = follow(&mut client, id, envelope.json).await?;
        unhappy += usize::from(last.state() != OutcomeState::Complete);
    }
    if unhappy == 0 {
        Ok(())
    } else {
        Err(Failure::other(format_args!("{unhappy} of {} did not complete", accepted.len())))
    }
}

impl What {
    /// The payload that the options describe.
    fn into_payload(self) -> Result<submission::Payload, Failure> {
        match self {
            Self::Pegin(pegin) => pegin.into_payload(),
            Self::Status(status) => Ok(status.into_payload()),
            Self::Signature(signature) => signature.into_payload(),
            Self::App(app) => app.into_payload(),
            Self::Stdin => Err(Failure::usage("standard input has no options of a message")),
        }
    }
}

impl Envelope {
    fn around(&self, payload: submission::Payload) -> Submission {
        let deadline =
            self.deadline.map(|after| SystemClock.now().saturating_add(Duration::from_secs(after)));
        Submission {
            message_id: self.id.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes())),
            priority: self
                .priority
                .map_or(RequestPriority::Unspecified, RequestPriority::from)
                .into(),
            deadline_ms: UnixMillis::to_wire(deadline),
            ordering_key: self.ordering_key.clone().unwrap_or_default().into(),
            traceparent: self.traceparent.clone().unwrap_or_default(),
            payload: Some(payload),
        }
    }
}

/// Hands them over as they come, some at a time, and prints each acceptance.
async fn submit(
    client: &mut Client,
    submissions: impl Iterator<Item = Result<Submission, Failure>>,
    as_json: bool,
) -> Result<Vec<Acceptance>, Failure> {
    let mut accepted = Vec::new();
    let (mut together, mut bytes) = (Vec::new(), 0);
    for submission in submissions {
        let submission = submission?;
        let more = submission.encoded_len();
        if together.len() == TOGETHER_MAX || bytes + more > TOGETHER_BYTES_MAX {
            hand_over(client, std::mem::take(&mut together), &mut accepted, as_json).await?;
            bytes = 0;
        }
        bytes += more;
        together.push(submission);
    }
    hand_over(client, together, &mut accepted, as_json).await?;
    Ok(accepted)
}

/// Hands some over in one call: accepted as a whole or refused as a whole.
async fn hand_over(
    client: &mut Client,
    together: Vec<Submission>,
    accepted: &mut Vec<Acceptance>,
    as_json: bool,
) -> Result<(), Failure> {
    if together.is_empty() {
        return Ok(());
    }
    let first = accepted.len() + 1;
    let last = accepted.len() + together.len();
    let answer = client.submit_all(together).await;
    let acceptances = answer.map_err(|status| {
        let doing = match first {
            1 if last == 1 => "refused".to_owned(),
            _ => format!("messages {first} to {last} refused"),
        };
        client.failure(&doing, &status)
    })?;
    for acceptance in &acceptances {
        show::acceptance(acceptance, as_json)?;
    }
    accepted.extend(acceptances);
    Ok(())
}

/// Prints every change until the last one; a node that restarts is asked again.
async fn follow(
    client: &mut Client,
    id: MessageId,
    as_json: bool,
) -> Result<AwaitOutcomeResponse, Failure> {
    let mut shown: Option<AwaitOutcomeResponse> = None;
    loop {
        match client.follow(id).await {
            Ok(mut outcomes) => {
                while let Ok(Some(outcome)) = outcomes.message().await {
                    if shown.as_ref() != Some(&outcome) {
                        show::outcome(&outcome, as_json)?;
                    }
                    if is_final(&outcome) {
                        return Ok(outcome);
                    }
                    shown = Some(outcome);
                }
            }
            Err(status) if is_transient(&status) => {}
            Err(status) => return Err(client.failure("cannot follow", &status)),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
