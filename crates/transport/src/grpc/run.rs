//! The loop of an endpoint: performs what the connection machine asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::EndpointParts;
use super::attempt::attempt;
use super::core::{Core, now};
use super::dial::Network;
use super::gate::Gated;
use super::host::Host;
use crate::connection::{Action, Event, Hurry, StateKind, Transition};
use crate::exchange::Exchange;
use crate::reconnect::Dials;

/// How often the link is judged, and the status published without a change of state.
const TICK: Duration = Duration::from_secs(1);

/// Beyond the drain of the stream itself, what a polite close may take.
const CLOSE_SLACK: Duration = Duration::from_secs(3);

/// The loop, with what only it knows.
pub(super) struct Run<X> {
    pub(super) parts: Arc<EndpointParts<Gated<X>>>,
    pub(super) core: Arc<Core>,
    pub(super) reconnect: Arc<Notify>,
    /// Shared with the drivers of the other endpoints, if anybody said so.
    pub(super) dials: Option<Arc<Dials>>,
    pub(super) network: Arc<dyn Network>,
    pub(super) host: Arc<dyn Host>,
    pub(super) attempts: JoinSet<()>,
    /// Whether the next dial is not a repeat: the first one, or by order.
    pub(super) is_first: bool,
}

impl<X: Exchange> Run<X> {
    pub(super) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let spread = self.dials.as_ref().filter(|_| self.is_first);
        let delay = spread.map_or(Duration::ZERO, |dials| dials.start_delay(now()));
        let mut start_at = self.parts.config.enabled.then(|| now() + delay);
        loop {
            if start_at.is_some_and(|at| now() >= at) {
                start_at = None;
                self.core.feed(Event::Establish);
            }
            self.perform().await;
            self.core.publish();
            let timer = self.core.poll_timeout();
            let wake_at = timer.or(start_at);
            tokio::select! {
                biased;
                () = self.parts.shutdown.cancelled() => break,
                () = self.core.changed() => {}
                () = self.reconnect.notified(), if self.parts.config.enabled => {
                    start_at = None;
                    self.force();
                }
                Some(ended) = self.attempts.join_next(), if !self.attempts.is_empty() => {
                    if let Err(error) = ended && error.is_panic() {
                        // T30: a broken invariant of ours costs the connection, not the endpoint.
                        let cause = format!("a broken invariant: {error}");
                        self.core.feed(Event::Lost { cause, hurry: Hurry::Backoff });
                    }
                }
                () = sleep_until(wake_at), if wake_at.is_some() => self.core.handle_timeout(),
                _ = tick.tick() => self.core.handle_tick(),
            }
        }
        self.close().await;
    }

    async fn perform(&mut self) {
        while let Some(action) = self.core.poll_action() {
            match action {
                Action::Report(transition) => self.report(&transition),
                Action::Close => self.abandon().await,
                Action::Dial => self.dial().await,
                Action::Unpark => self.core.feed(Event::StreamOpened),
                Action::Proved => self.core.gate().succeeded(1),
            }
        }
    }

    fn report(&self, transition: &Transition) {
        self.core.report(transition);
        if transition.new == StateKind::Connected
            && transition.old == StateKind::Authenticating
            && let Some(dials) = &self.dials
        {
            dials.handle_first(now());
        }
    }

    async fn dial(&mut self) {
        // T29: the old one is gone before the new one begins.
        self.abandon().await;
        self.core.clear_facts();
        let is_first = std::mem::replace(&mut self.is_first, false);
        if let Some(dials) = &self.dials {
            if is_first {
                dials.handle_first(now());
            } else if let Err(after) = dials.try_retry(now()) {
                let why = "too many endpoints are dialled again: waiting for a turn".to_owned();
                return self.core.feed(Event::HeldBack { why, after });
            }
        }
        self.core.gate().dialled();
        let (parts, core) = (Arc::clone(&self.parts), Arc::clone(&self.core));
        let (network, host) = (Arc::clone(&self.network), Arc::clone(&self.host));
        self.attempts.spawn(attempt(parts, core, network, host));
    }

    /// Drops the attempt, and its stream wherever that runs.
    async fn abandon(&mut self) {
        self.attempts.shutdown().await;
        self.host.closed().await;
    }

    /// An operator wants a new connection now.
    fn force(&mut self) {
        self.is_first = true;
        if self.core.state().is_live() {
            let cause = "a new connection was asked for".to_owned();
            self.core.feed(Event::Lost { cause, hurry: Hurry::Backoff });
        }
        self.core.feed(Event::Establish);
    }

    /// Closes politely: a live stream drains by itself, since it sees the same token.
    async fn close(&mut self) {
        if self.core.state().is_live() {
            let limit = self.parts.settings.drain + CLOSE_SLACK;
            let attempts = &mut self.attempts;
            let drained = tokio::time::timeout(limit, async {
                while attempts.join_next().await.is_some() {}
            });
            if drained.await.is_err() {
                let name = &self.parts.config.name;
                tracing::warn!(endpoint = %name, "closed without draining within {limit:?}");
            }
        }
        self.abandon().await;
        if self.core.state() != StateKind::Disconnected {
            self.core.feed(Event::Shutdown);
        }
        self.perform().await;
        self.core.publish();
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
