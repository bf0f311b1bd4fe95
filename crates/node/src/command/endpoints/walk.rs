//! `alys-stream endpoints test`: which step of the way to a governance node fails, and why.
//!
//! The walk itself belongs to the transport layer; here are its options and its words.

use std::path::PathBuf;
use std::time::Duration;

use alys_stream_actor::StreamConfig;
use alys_stream_config::NodeConfig;
use alys_stream_transport::endpoint::EndpointConfig;
use alys_stream_transport::grpc::{
    EndpointTls, Walk, WalkDepth, WalkOutcome, WalkParts, WalkStep, walk,
};

use crate::command::node::SOFTWARE;
use crate::failure::{Exit, Failure};
use crate::output;

/// The configuration unless told otherwise: the one that `init --dir dev` made.
const DEFAULT_CONFIG: &str = "dev/node/node.yaml";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The name of the endpoint in the configuration
    name: String,
    /// The configuration file of the node
    #[arg(long, value_name = "FILE", env = "ALYS_STREAM_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Stop before a session is opened, which would take it from a running node of the same name
    /// until that one dials again, about a second later
    #[arg(long)]
    no_session: bool,
}

/// Walks and reports.
///
/// # Errors
///
/// When the configuration is wrong, names no such endpoint, or a step fails.
pub(super) async fn run(args: &Args, as_json: bool) -> Result<(), Failure> {
    let config = StreamConfig::from_loaded(NodeConfig::load(&args.config)?, SOFTWARE);
    let endpoint = find(&config.endpoints, &args.name)?;
    let depth = if args.no_session { WalkDepth::Capabilities } else { WalkDepth::Session };
    let tls = config.tls.clone().map(EndpointTls::Fixed);
    let walked = walk(WalkParts {
        config: endpoint,
        identity: &config.node,
        tls: tls.as_ref(),
        settings: config.settings,
        depth,
    });
    let walked = Box::pin(walked).await;
    if as_json {
        let json = serde_json::to_string_pretty(&walked);
        let json = json.map_err(|error| Failure::other(format_args!("no JSON: {error}")))?;
        output::line(json)?;
    } else {
        output::line(page(&walked))?;
    }
    verdict(&walked)
}

fn find<'a>(endpoints: &'a [EndpointConfig], name: &str) -> Result<&'a EndpointConfig, Failure> {
    endpoints.iter().find(|endpoint| endpoint.name == name).ok_or_else(|| {
        let names: Vec<_> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let names = names.join(", ");
        Failure::usage(format_args!("{name:?} is not configured; there are {names}"))
    })
}

fn page(walked: &Walk) -> String {
    let mut lines = vec![format!("{} {}", walked.endpoint, walked.url)];
    lines.extend(walked.steps.iter().map(line));
    lines.join("\n")
}

fn line(walked: &WalkStep) -> String {
    let (word, text) = match &walked.outcome {
        WalkOutcome::Passed { detail } => ("ok", detail),
        WalkOutcome::Failed { cause, .. } => ("failed", cause),
        WalkOutcome::Skipped { reason } => ("-", reason),
    };
    let step = walked.step.to_string();
    let took = Duration::from_micros(walked.took_us).as_secs_f64() * 1000.0;
    format!("  {word:<6}  {step:<16}  {took:>8.1} ms  {text}")
}

/// A failed step is a failed command; how it ends says what kind of failure it was.
fn verdict(walked: &Walk) -> Result<(), Failure> {
    let failed = walked.steps.iter().find_map(|walked| match &walked.outcome {
        WalkOutcome::Failed { class, cause, .. } => Some((walked.step, *class, cause)),
        WalkOutcome::Passed { .. } | WalkOutcome::Skipped { .. } => None,
    });
    let Some((step, class, cause)) = failed else { return Ok(()) };
    let exit = if class == "connection" { Exit::Unavailable } else { Exit::Other };
    let name = &walked.endpoint;
    Err(Failure::new(exit, format_args!("{name}: {step} failed: {cause}")))
}
