//! The driver of an endpoint: dials, chooses the dialect, runs the stream, reports; for as long as
//! it is wanted.
//!
//! Not a balancer: one driver knows one endpoint. It is the only part of this crate that names
//! tonic.
//!
//! Invariants:
//! - T29: at most one attempt or connection of an endpoint exists at any time.
//! - T30: a failure of any kind leads to another attempt after its backoff, never to silence.
//!
//! How long a peer that fails silently stays undetected, with the defaults (each is a setting):
//!
//! | peer | found within | by |
//! |---|---|---|
//! | drops packets while data is unacknowledged by TCP | 20 s | TCP user timeout |
//! | drops packets on an idle link | 40 s | HTTP/2 ping (30 s + 10 s) |
//! | the same, `strict_peer` profile | 60 s | three heartbeats (45 s from the first unanswered one) |
//! | keeps the link and answers no heartbeat; one direction is cut above TCP | 60 s | three heartbeats |
//! | answers heartbeats and acknowledges nothing | 30 s | acknowledgement timeout |
//! | accepts TCP and says nothing | 5 s | `address_timeout`, then `step_timeout` |
//! | has a name with one dead address | 0.25 s | the race of the addresses |
//!
//! Long before, at a minor issue, the balancer can look elsewhere: see [`crate::balance`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::governance::NodeType;
use alys_stream_protocol::time::WallClock;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::connection::ConnectionConfig;
use crate::endpoint::{EndpointConfig, EndpointError, KeepaliveConfig};
use crate::exchange::Exchange;
use crate::health::{HeartbeatConfig, VitalsConfig};
use crate::reconnect::{BackoffConfig, BreakerConfig, Dials};
use crate::session::credential::Credentials;
use crate::session::driver::Control;
use crate::session::rotation::RotationConfig;
use crate::session::{AckConfig, Compression};

mod attempt;
mod codec;
mod core;
mod dial;
mod error;
mod gate;
mod governance_client;
mod host;
mod plain;
mod probe;
mod run;
mod secured;
mod session_client;
mod sessions;
mod status;
#[cfg(test)]
mod tests;
mod walk;

pub use codec::{FrameCodec, read_frame};
pub use dial::{BoxIo, Io, Network, Sockets};
pub use error::{LinkCause, LinkError, Step};
pub use host::{Host, Hosted, StreamDied};
pub use secured::EndpointTls;
pub use status::{EndpointStatus, Observer, TransitionStatus, Unobserved};
pub use walk::{Walk, WalkDepth, WalkOutcome, WalkParts, WalkStep, walk};

use self::core::Core;
use self::gate::Gated;
use self::host::InPlace;

/// Who we are towards every endpoint.
#[derive(Debug, Clone)]
pub struct NodeIdentity {
    /// The name of the node.
    pub node_id: String,
    /// Program and version.
    pub software: String,
    /// The public key of the node, in hexadecimal.
    pub public_key: String,
    /// What the node does.
    pub node_type: NodeType,
    /// Where it stands.
    pub region: Option<String>,
    /// Proof of identity beside the client certificate, and who judges the peer's; asked again
    /// whenever the proof is about to expire.
    pub auth: Option<Arc<dyn Credentials>>,
}

/// The knobs of an endpoint's driver, with the defaults of every part.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EndpointSettings {
    /// The timers of the connection machine.
    pub connection: ConnectionConfig,
    /// When to dial again.
    pub backoff: BackoffConfig,
    /// Heartbeats.
    pub heartbeat: HeartbeatConfig,
    /// When acknowledgements leave.
    pub acks: AckConfig,
    /// When a stream is opened anew for its age.
    pub rotation: RotationConfig,
    /// When batches are compressed; default `auto`.
    pub compression: Compression,
    /// When a peer that fails again and again is left alone.
    pub breaker: BreakerConfig,
    /// When a link that is up does badly.
    pub vitals: VitalsConfig,
    /// The pings of HTTP/2.
    pub keepalive: KeepaliveConfig,
    /// TCP and TLS with one address; default 5 s.
    #[serde(with = "humantime_serde")]
    pub address_timeout: Duration,
    /// Each request of the handshake; default 5 s.
    #[serde(with = "humantime_serde")]
    pub step_timeout: Duration,
    /// How long a polite close may take; default 5 s.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// How long a peer's answer that it has sessions is believed; default 10 min.
    #[serde(with = "humantime_serde")]
    pub dialect_cache: Duration,
    /// How long a plain message waits for company before its barrier; default 200 ms.
    #[serde(with = "humantime_serde")]
    pub barrier_delay: Duration,
}

impl Default for EndpointSettings {
    fn default() -> Self {
        Self {
            connection: ConnectionConfig::default(),
            backoff: BackoffConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            acks: AckConfig::default(),
            rotation: RotationConfig::default(),
            compression: Compression::default(),
            breaker: BreakerConfig::default(),
            vitals: VitalsConfig::default(),
            keepalive: KeepaliveConfig::default(),
            address_timeout: Duration::from_secs(5),
            step_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(5),
            dialect_cache: Duration::from_secs(600),
            barrier_delay: Duration::from_millis(200),
        }
    }
}

/// Everything that a driver needs.
pub struct EndpointParts<X> {
    /// Which endpoint.
    pub config: EndpointConfig,
    /// Who we are.
    pub identity: NodeIdentity,
    /// How to speak TLS; may be absent for plaintext endpoints.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The owner of the messages for this endpoint.
    pub exchange: Arc<X>,
    /// Who looks on.
    pub observer: Arc<dyn Observer>,
    /// Wall time.
    pub clock: Arc<dyn WallClock>,
    /// Of the jitter.
    pub seed: u64,
    /// The knobs.
    pub settings: EndpointSettings,
    /// Closes politely, then ends [`EndpointDriver::run`].
    pub shutdown: CancellationToken,
}

impl<X> fmt::Debug for EndpointParts<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointParts").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Keeps the connection to one endpoint.
pub struct EndpointDriver<X> {
    parts: Arc<EndpointParts<Gated<X>>>,
    core: Arc<Core>,
    reconnect: Arc<Notify>,
    dials: Option<Arc<Dials>>,
    network: Arc<dyn Network>,
    host: Arc<dyn Host>,
    /// Whether it begins with the node, and not in the place of a driver that died.
    is_first: bool,
}

impl<X> fmt::Debug for EndpointDriver<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointDriver").field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// A view of a running driver, and the orders it takes.
#[derive(Clone)]
pub struct EndpointHandle {
    core: Arc<Core>,
    reconnect: Arc<Notify>,
}

impl fmt::Debug for EndpointHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointHandle").finish_non_exhaustive()
    }
}

impl EndpointHandle {
    /// The status, published at every change.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<EndpointStatus> {
        self.core.subscribe()
    }

    /// Dials now: cuts a backoff short, or replaces a live connection.
    pub fn reconnect_now(&self) {
        self.reconnect.notify_one();
    }

    /// Gives an order to the running session; hands it back when there is none (or its queue of
    /// orders is full).
    ///
    /// # Errors
    ///
    /// The order, untouched.
    pub fn control(&self, control: Control) -> Result<(), Box<Control>> {
        self.core.control(control)
    }
}

impl<X: Exchange> EndpointDriver<X> {
    /// A driver, not running yet, and the view of it.
    ///
    /// # Errors
    ///
    /// When the configuration of the endpoint contradicts itself.
    pub fn try_new(parts: EndpointParts<X>) -> Result<(Self, EndpointHandle), EndpointError> {
        parts.config.check()?;
        let core = Arc::new(Core::new(&parts));
        let reconnect = Arc::new(Notify::new());
        let handle = EndpointHandle { core: Arc::clone(&core), reconnect: Arc::clone(&reconnect) };
        let exchange = Gated { inner: parts.exchange, gate: Arc::clone(core.gate()) };
        let parts = EndpointParts {
            exchange: Arc::new(exchange),
            config: parts.config,
            identity: parts.identity,
            tls: parts.tls,
            observer: parts.observer,
            clock: parts.clock,
            seed: parts.seed,
            settings: parts.settings,
            shutdown: parts.shutdown,
        };
        let (parts, network, host) = (Arc::new(parts), Arc::new(Sockets), Arc::new(InPlace));
        let (dials, is_first) = (None, true);
        Ok((Self { parts, core, reconnect, dials, network, host, is_first }, handle))
    }

    /// Dials in turn with the other endpoints of the node: the first dial may be delayed, and
    /// repeated ones share a budget.
    #[must_use]
    pub fn with_dials(mut self, dials: Arc<Dials>) -> Self {
        self.dials = Some(dials);
        self
    }

    /// Takes the place of a driver of the same endpoint that died: dials at once instead of after a
    /// spread, and that dial is a repeat within the budget.
    #[must_use]
    pub const fn after_another(mut self) -> Self {
        self.is_first = false;
        self
    }

    /// Speaks TLS like this instead of [`EndpointParts::tls`]. With [`EndpointTls::Live`] every
    /// attempt takes what is in force then, and a peer that a reload distrusts is dropped at once.
    #[must_use]
    pub fn with_tls(self, tls: EndpointTls) -> Self {
        self.core.set_tls(tls);
        self
    }

    /// Resolves and connects like this instead of with the [`Sockets`] of this machine.
    #[must_use]
    pub fn with_network(mut self, network: Arc<dyn Network>) -> Self {
        self.network = network;
        self
    }

    /// Runs streams there instead of in its own tasks.
    #[must_use]
    pub fn with_host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = host;
        self
    }

    /// Runs until the shutdown token is cancelled; then closes politely, within a bound. A
    /// disabled endpoint waits without dialling.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection at once; nothing is lost.
    pub async fn run(self) {
        let Self { parts, core, reconnect, dials, network, host, is_first } = self;
        let attempts = JoinSet::new();
        run::Run { parts, core, reconnect, dials, network, host, attempts, is_first }.run().await;
    }
}
