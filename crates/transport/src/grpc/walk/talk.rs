//! The steps of a walk above HTTP/2: the same code as that of a real connection, with an owner of
//! messages that has none.

use std::sync::Arc;

use alys_stream_protocol::time::SystemClock;
use tokio_util::sync::CancellationToken;

use super::visitor::Visitor;
use super::{WalkDepth, Walker};
use crate::connection::{Event, StateKind};
use crate::endpoint::Dialect;
use crate::grpc::core::{Core, now};
use crate::grpc::dial::Dialed;
use crate::grpc::error::{LinkCause, LinkError, Step};
use crate::grpc::{EndpointParts, Unobserved, attempt, plain, sessions};

pub(super) async fn talk(walker: &mut Walker<'_>, dialed: Dialed) -> Result<(), LinkError> {
    let parts = EndpointParts {
        config: walker.parts.config.clone(),
        identity: walker.parts.identity.clone(),
        tls: None,
        exchange: Arc::new(Visitor::new(&walker.parts.identity.node_id)),
        observer: Arc::new(Unobserved),
        clock: Arc::new(SystemClock),
        seed: 0,
        settings: walker.parts.settings,
        shutdown: CancellationToken::new(),
    };
    let core = Arc::new(Core::new(&parts));
    core.feed(Event::Establish);
    core.feed(Event::TransportUp);
    let dialect = attempt::choose(&parts, &core, &dialed).await?;
    walker.found.dialect = Some(dialect);
    walker.passed(Step::Capabilities, format!("the dialect is {dialect}"));
    if walker.parts.depth == WalkDepth::Capabilities {
        return Ok(());
    }
    converse(walker, &parts, &core, dialed, dialect).await
}

/// Opens the stream, waits for the answer to one heartbeat, and closes it.
async fn converse(
    walker: &mut Walker<'_>,
    parts: &EndpointParts<Visitor>,
    core: &Arc<Core>,
    dialed: Dialed,
    dialect: Dialect,
) -> Result<(), LinkError> {
    let limit = parts.settings.step_timeout;
    let running = async {
        match dialect {
            Dialect::Session => sessions::run(parts, core, dialed, now()).await,
            Dialect::Plain => plain::run(parts, core, dialed, now()).await,
        }
    };
    let mut running = Box::pin(running);
    let mut give_up_at = tokio::time::Instant::now() + 2 * limit;
    let mut accepted = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut running => {
                let closed = LinkError::new(Step::Stream, LinkCause::Closed);
                return Err(ended.err().unwrap_or(closed));
            }
            () = core.changed() => {}
            () = tokio::time::sleep_until(give_up_at) => {
                return Err(LinkError::new(Step::Stream, LinkCause::TimedOut(limit)));
            }
        }
        let state = core.state();
        if !accepted && state.is_live() {
            accepted = true;
            give_up_at = tokio::time::Instant::now() + limit;
            let facts = core.facts();
            let peer = facts.peer_id.as_deref().unwrap_or("a peer without a name");
            let software = facts.peer_software.as_deref().unwrap_or("unnamed software");
            walker.passed(Step::Authenticate, format!("accepted by {peer} ({software})"));
            walker.found.peer_id = facts.peer_id;
        }
        if state == StateKind::Healthy {
            break;
        }
    }
    let facts = core.facts();
    let round_trip = facts.rtt.map(|rtt| format!(" after {:?}", rtt.last)).unwrap_or_default();
    walker.passed(Step::Stream, format!("a heartbeat was answered{round_trip}"));
    // What the peer makes of the closing is of no interest, but it gets the time for it.
    parts.shutdown.cancel();
    if tokio::time::timeout(limit, running).await.is_err() {
        tracing::debug!("the peer did not close within {limit:?}");
    }
    Ok(())
}
