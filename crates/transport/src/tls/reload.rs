//! Live reload: files are read every [`ReloadConfig::poll`], and what changed becomes a new
//! generation once it has stayed so for [`ReloadConfig::debounce`] and was built without an error.
//!
//! Not a file watcher, and not who drops connections: see [`super::PeerTrust`].
//!
//! Invariants:
//! - T62: what is in force is replaced as a whole, and only by something that was built without an
//!   error; until then the last good generation serves.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use alys_stream_protocol::time::{UnixMillis, WallClock};
use futures::future::BoxFuture;
use rustls::pki_types::{CertificateDer, ServerName};
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::error::TlsLoadError;
use super::fault::TlsFault;
use super::generation::{ClientTls, ServerTls, TlsFacts};
use super::input::{Fingerprint, Inputs, ReadFile, Wanted};
use super::settings::{PINS_MIN, ReloadConfig};
use super::trust::PeerTrust;
use crate::lock;

mod settle;

use settle::{Settle, Step};

/// One of the two sides: [`ClientTls`] or [`ServerTls`].
pub trait Side: Sized + Send + Sync + fmt::Debug + 'static {
    /// What it is told.
    type Settings: Clone + PartialEq + fmt::Debug + Send + Sync + 'static;

    /// Checks what the types of the settings alone cannot.
    ///
    /// # Errors
    ///
    /// The first contradiction found.
    fn check(settings: &Self::Settings) -> Result<(), TlsLoadError>;

    /// When changed files are noticed.
    fn reload(settings: &Self::Settings) -> ReloadConfig;

    /// The files that are needed.
    fn wanted(settings: &Self::Settings) -> Vec<Wanted>;

    /// Makes a generation of what was read, which judges by `clock` (T63).
    ///
    /// # Errors
    ///
    /// When an input is unusable; the error names it.
    fn build(
        settings: &Self::Settings,
        inputs: &Inputs,
        number: u64,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, TlsLoadError>;

    /// Which generation it is.
    fn number(&self) -> u64;

    /// What to show of it.
    fn facts(&self) -> TlsFacts;
}

/// Runs a piece of work that blocks, off the threads of the runtime; resolves when it is done, or
/// cannot be.
pub type Offload = Arc<dyn Fn(Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Where a client side finds its present generation.
pub type ClientSource = TlsSource<ClientTls>;

/// Where a server side finds its present generation.
pub type ServerSource = TlsSource<ServerTls>;

/// How reloading goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReloadStatus {
    /// The generation in force, from 1.
    pub generation: u64,
    /// Since when.
    pub since_ms: u64,
    /// What is in force.
    pub facts: TlsFacts,
    /// How many changes were not usable, since the start.
    pub failures: u64,
    /// Why the files as they are now are not in force; `None` when they are.
    pub error: Option<String>,
}

/// Under one lock while files are read, so that reading, building and replacing never overlap.
struct State<S: Side> {
    settings: S::Settings,
    settle: Settle,
}

/// What the status shows: apart, so that showing it never waits for files.
struct Progress {
    since: UnixMillis,
    failures: u64,
    error: Option<String>,
}

struct Shared<S: Side> {
    read: ReadFile,
    clock: Arc<dyn WallClock>,
    state: Mutex<State<S>>,
    progress: Mutex<Progress>,
    publish: watch::Sender<Arc<S>>,
}

/// The present generation; cheap to clone and to ask.
pub struct TlsSource<S: Side>(Arc<Shared<S>>);

/// Reads files again and again; see [`TlsReloader::run`].
pub struct TlsReloader<S: Side>(Arc<Shared<S>>);

impl<S: Side> Clone for TlsSource<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Side> fmt::Debug for TlsSource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsSource").field(&self.current()).finish()
    }
}

impl<S: Side> fmt::Debug for TlsReloader<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsReloader").finish_non_exhaustive()
    }
}

impl<S: Side> TlsReloader<S> {
    /// Reads everything once and makes the first generation. Blocks on files.
    ///
    /// # Errors
    ///
    /// When a setting, a file or what is in it is unusable; the error names it.
    pub fn try_new(
        settings: S::Settings,
        read: ReadFile,
        clock: Arc<dyn WallClock>,
    ) -> Result<(Self, TlsSource<S>), TlsLoadError> {
        S::check(&settings)?;
        let inputs = Inputs::read(&S::wanted(&settings), &read);
        let first = S::build(&settings, &inputs, 1, Arc::clone(&clock))?;
        warn(first.facts(), clock.now());
        let state =
            State { settle: Settle::new(S::reload(&settings), inputs.fingerprint()), settings };
        let (state, publish) = (Mutex::new(state), watch::Sender::new(Arc::new(first)));
        let progress = Mutex::new(Progress { since: clock.now(), failures: 0, error: None });
        let shared = Arc::new(Shared { read, clock, state, progress, publish });
        Ok((Self(Arc::clone(&shared)), TlsSource(shared)))
    }

    /// Reloads until `shutdown`. Files are read where `offload` runs work that blocks.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the reloads; what is in force stays.
    pub async fn run(self, offload: Offload, shutdown: CancellationToken) {
        let mut wake = tokio::time::Instant::now() + self.poll();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep_until(wake) => {}
            }
            let (shared, now) = (Arc::clone(&self.0), tokio::time::Instant::now());
            let (done, looked) = oneshot::channel();
            offload(Box::new(move || {
                // Nobody waits when the reloader is dropped meanwhile.
                _ = done.send(shared.look(now.into_std()));
            }))
            .await;
            // A panic in there leaves the last good generation in force.
            wake = looked.await.map_or_else(|_| now + self.poll(), tokio::time::Instant::from_std);
        }
    }

    fn poll(&self) -> std::time::Duration {
        S::reload(&lock(&self.0.state).settings).poll
    }
}

impl<S: Side> TlsSource<S> {
    /// The generation in force.
    #[must_use]
    pub fn current(&self) -> Arc<S> {
        Arc::clone(&self.0.publish.borrow())
    }

    /// Every new generation.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<S>> {
        self.0.publish.subscribe()
    }

    /// How reloading goes.
    #[must_use]
    pub fn status(&self) -> ReloadStatus {
        let current = self.current();
        let progress = lock(&self.0.progress);
        ReloadStatus {
            generation: current.number(),
            since_ms: progress.since.0,
            facts: current.facts(),
            failures: progress.failures,
            error: progress.error.clone(),
        }
    }

    /// Puts other settings in force at once. Blocks on files.
    ///
    /// # Errors
    ///
    /// When they are unusable; then nothing changes.
    pub fn change(&self, settings: S::Settings) -> Result<(), TlsLoadError> {
        S::check(&settings)?;
        let mut state = lock(&self.0.state);
        let inputs = Inputs::read(&S::wanted(&settings), &self.0.read);
        let number = self.current().number() + 1;
        let next = S::build(&settings, &inputs, number, Arc::clone(&self.0.clock))?;
        state.settle = Settle::new(S::reload(&settings), inputs.fingerprint());
        state.settings = settings;
        self.0.publish(next);
        Ok(())
    }
}

impl TlsSource<ClientTls> {
    /// Looks after the server of one connection, which shook hands with the generation `shaken`
    /// under the name `name` and showed `chain`, leaf first.
    ///
    /// # Errors
    ///
    /// When the name is neither a DNS name nor an address.
    pub fn watch_peer(
        &self,
        shaken: &ClientTls,
        name: &str,
        chain: &[CertificateDer<'_>],
    ) -> Result<PeerTrust, TlsFault> {
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| TlsFault::Other(error.to_string()))?;
        Ok(PeerTrust::new(self.subscribe(), shaken, name, chain))
    }
}

impl<S: Side> Shared<S> {
    /// Reads everything, and replaces what is in force when it is time. Returns when to come back.
    fn look(&self, now: Instant) -> Instant {
        let mut state = lock(&self.state);
        let inputs = Inputs::read(&S::wanted(&state.settings), &self.read);
        let print = inputs.fingerprint();
        match state.settle.handle_read(now, print) {
            Step::Wait => {}
            Step::Restored => lock(&self.progress).error = None,
            Step::Try => self.attempt(&mut state, &inputs, print),
        }
        state.settle.wake_at(now)
    }

    fn attempt(&self, state: &mut State<S>, inputs: &Inputs, print: Fingerprint) {
        let number = self.publish.borrow().number() + 1;
        match S::build(&state.settings, inputs, number, Arc::clone(&self.clock)) {
            Ok(next) => {
                state.settle.handle_built(print, true);
                self.publish(next);
            }
            Err(error) => {
                state.settle.handle_built(print, false);
                tracing::error!(
                    %error,
                    "changed TLS files are not usable; the last good ones stay in force"
                );
                let mut progress = lock(&self.progress);
                progress.failures += 1;
                progress.error = Some(error.to_string());
            }
        }
    }

    fn publish(&self, next: S) {
        let (facts, now) = (next.facts(), self.clock.now());
        let mut progress = lock(&self.progress);
        (progress.since, progress.error) = (now, None);
        drop(progress);
        tracing::info!(generation = next.number(), ?facts, "TLS settings and files are reloaded");
        warn(facts, now);
        self.publish.send_replace(Arc::new(next));
    }
}

/// What an operator should know of a generation.
fn warn(facts: TlsFacts, now: UnixMillis) {
    let now = now.as_unix_seconds();
    if facts.pins > 0 && facts.pins < PINS_MIN {
        tracing::warn!(
            pins = facts.pins,
            "fewer than {PINS_MIN} pins: pin the next key too, or a lost key cuts this node off"
        );
    }
    if facts.revocation_due_at.is_some_and(|due| due <= now) {
        tracing::warn!("a revocation list is past its next update; install the new one");
    }
    for (what, at) in
        [("certificate", facts.own_expires_at), ("authority", facts.authority_expires_at)]
    {
        if at.is_some_and(|at| at <= now) {
            tracing::warn!(what, "a certificate of our own configuration has expired");
        }
    }
}
