//! The loop of an endpoint: performs what the connection machine asks for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::EndpointParts;
use super::attempt::attempt;
use super::core::{Core, now};
use crate::connection::{Action, Event, Hurry, StateKind};
use crate::exchange::Exchange;

/// How often the status is published without a change of state: round trips, what is in flight.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(1);

/// Beyond the drain of the stream itself, what a polite close may take.
const CLOSE_SLACK: Duration = Duration::from_secs(3);

pub(super) async fn run<X: Exchange>(
    parts: Arc<EndpointParts<X>>,
    core: Arc<Core>,
    reconnect: Arc<Notify>,
) {
    let mut attempts = JoinSet::new();
    let mut publish = tokio::time::interval(PUBLISH_INTERVAL);
    publish.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    if parts.config.enabled {
        core.feed(Event::Establish);
    }
    loop {
        perform(&parts, &core, &mut attempts).await;
        core.publish();
        let timer = core.poll_timeout();
        let wake_at = timer.unwrap_or_else(|| now() + Duration::from_secs(3600));
        tokio::select! {
            biased;
            () = parts.shutdown.cancelled() => break,
            () = core.changed() => {}
            () = reconnect.notified(), if parts.config.enabled => force(&core),
            Some(ended) = attempts.join_next(), if !attempts.is_empty() => {
                if let Err(error) = ended && error.is_panic() {
                    // T30: a broken invariant of ours costs the connection, not the endpoint.
                    let cause = format!("a broken invariant: {error}");
                    core.feed(Event::Lost { cause, hurry: Hurry::Backoff });
                }
            }
            () = tokio::time::sleep_until(wake_at.into()), if timer.is_some() => {
                core.handle_timeout();
            }
            _ = publish.tick() => {}
        }
    }
    close(&parts, &core, &mut attempts).await;
}

async fn perform<X: Exchange>(
    parts: &Arc<EndpointParts<X>>,
    core: &Arc<Core>,
    attempts: &mut JoinSet<()>,
) {
    while let Some(action) = core.poll_action() {
        match action {
            Action::Report(transition) => core.report(&transition),
            Action::Close => attempts.shutdown().await,
            Action::Dial => {
                // T29: the old one is gone before the new one begins.
                attempts.shutdown().await;
                core.clear_facts();
                attempts.spawn(attempt(Arc::clone(parts), Arc::clone(core)));
            }
            Action::Unpark => core.feed(Event::StreamOpened),
        }
    }
}

/// An operator wants a new connection now.
fn force(core: &Core) {
    if core.state().is_live() {
        let cause = "a new connection was asked for".to_owned();
        core.feed(Event::Lost { cause, hurry: Hurry::Backoff });
    }
    core.feed(Event::Establish);
}

/// Closes politely: a live stream drains by itself, since it sees the same token.
async fn close<X: Exchange>(
    parts: &Arc<EndpointParts<X>>,
    core: &Arc<Core>,
    attempts: &mut JoinSet<()>,
) {
    if core.state().is_live() {
        let limit = parts.settings.drain + CLOSE_SLACK;
        let drained =
            tokio::time::timeout(limit, async { while attempts.join_next().await.is_some() {} });
        if drained.await.is_err() {
            tracing::warn!(endpoint = %parts.config.name, "closed without draining within {limit:?}");
        }
    }
    attempts.shutdown().await;
    if core.state() != StateKind::Disconnected {
        core.feed(Event::Shutdown);
    }
    perform(parts, core, attempts).await;
    core.publish();
}
