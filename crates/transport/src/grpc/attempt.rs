//! One attempt, from the dial to the end of its stream; every step is told to the machine.

use std::sync::Arc;
use std::time::Instant;

use alys_stream_protocol::governance::{CapabilitiesRequest, CapabilitiesResponse};
use alys_stream_protocol::time::WallClock;
use futures::FutureExt as _;
use tokio::sync::oneshot;
use tonic::Code;

use super::core::{Core, now};
use super::dial::{Dialed, Dialing, Network, dial};
use super::error::{LinkCause, LinkError, Step};
use super::gate::Gated;
use super::governance_client::governance_stream_client::GovernanceStreamClient;
use super::host::{Host, StreamDied};
use super::secured::expires_at;
use super::{EndpointParts, plain, sessions};
use crate::connection::Event;
use crate::endpoint::{Dialect, DialectChoice};
use crate::exchange::Exchange;
use crate::session::FEATURE;
use crate::tls::{PeerTrust, TlsFault};

/// Largest answer of `GetCapabilities`.
const CAPABILITIES_BYTES_MAX: usize = 64 * 1024;

pub(super) async fn attempt<X: Exchange>(
    parts: Arc<EndpointParts<Gated<X>>>,
    core: Arc<Core>,
    network: Arc<dyn Network>,
    host: Arc<dyn Host>,
) {
    let begun = now();
    let tls = core.tls();
    let dialing = Dialing {
        config: &parts.config,
        network: &*network,
        tls: tls.as_ref(),
        keepalive: core.keepalive(),
        per_address: parts.settings.address_timeout,
        in_all: parts.settings.connection.connect_timeout,
    };
    let dialed = match dial(dialing).await {
        Ok(dialed) => dialed,
        Err(error) => return core.failed(&error),
    };
    core.set_facts(|facts| {
        facts.address = Some(dialed.address.to_string());
        facts.certificate_expires_at = expires_at(&dialed.chain);
    });
    core.feed(Event::TransportUp);
    let trust = tls.map_or(Ok(None), |tls| tls.watch(parts.config.tls_name(), &dialed.chain));
    let mut trust = match trust {
        Ok(trust) => trust,
        Err(fault) => return core.failed(&LinkError::new(Step::Tls, LinkCause::Tls(fault))),
    };
    let ended = tokio::select! {
        biased;
        // The connection of a peer that lost our trust is dropped as it is, with all that is on it.
        fault = lost(trust.as_mut(), &*parts.clock) => {
            Err(LinkError::new(Step::Tls, LinkCause::Tls(fault)))
        }
        ended = talk(&parts, &core, &*host, dialed, begun) => ended,
    };
    core.set_controls(None);
    // When we closed it ourselves the loop reports the shutdown.
    if let Err(error) = ended {
        core.failed(&error);
    }
}

/// Chooses the dialect and runs the stream to its end; `Ok` when we closed it ourselves.
async fn talk<X: Exchange>(
    parts: &Arc<EndpointParts<Gated<X>>>,
    core: &Arc<Core>,
    host: &dyn Host,
    dialed: Dialed,
    begun: Instant,
) -> Result<(), LinkError> {
    let dialect = choose(parts, core, &dialed).await?;
    core.set_facts(|facts| facts.dialect = Some(dialect));
    let (parts, core) = (Arc::clone(parts), Arc::clone(core));
    let (done, ended) = oneshot::channel();
    let stream = async move {
        let ended = match dialect {
            Dialect::Session => sessions::run(&parts, &core, dialed, begun).await,
            Dialect::Plain => plain::run(&parts, &core, dialed, begun).await,
        };
        // Nobody waits when the trust in the peer is lost meanwhile.
        drop(done.send(ended));
    };
    let died = |died| LinkError::new(Step::Stream, LinkCause::Died(died));
    host.run(stream.boxed()).await.map_err(died)?;
    ended.await.unwrap_or_else(|_| Err(died(StreamDied("it was dropped".to_owned()))))
}

/// Resolves when a reload takes the trust in the peer away.
async fn lost(trust: Option<&mut PeerTrust>, clock: &dyn WallClock) -> TlsFault {
    match trust {
        Some(trust) => trust.lost(clock).await,
        None => std::future::pending().await,
    }
}

/// What to speak: as configured, as known, or as the peer answers.
pub(super) async fn choose<X: Exchange>(
    parts: &EndpointParts<X>,
    core: &Core,
    dialed: &Dialed,
) -> Result<Dialect, LinkError> {
    match parts.config.dialect {
        DialectChoice::Session => return Ok(Dialect::Session),
        DialectChoice::Plain => return Ok(Dialect::Plain),
        DialectChoice::Auto => {}
    }
    // That it has none is never believed again: nothing would show that it has learned them.
    if core.has_sessions(parts.settings.dialect_cache) {
        return Ok(Dialect::Session);
    }
    let limit = parts.settings.step_timeout;
    let mut client = GovernanceStreamClient::new(dialed.channel.clone())
        .max_decoding_message_size(CAPABILITIES_BYTES_MAX);
    let request = CapabilitiesRequest { node_id: parts.identity.node_id.clone() };
    let answer = tokio::time::timeout(limit, client.get_capabilities(request))
        .await
        .map_err(|_| LinkError::new(Step::Capabilities, LinkCause::TimedOut(limit)))?;
    let dialect = match answer {
        Ok(answer) => offered(answer.get_ref()),
        Err(status) if status.code() == Code::Unimplemented => Dialect::Plain,
        Err(status) => {
            return Err(LinkError::from_status(Step::Capabilities, &status, &dialed.probe));
        }
    };
    core.set_sessions(dialect == Dialect::Session);
    Ok(dialect)
}

fn offered(answer: &CapabilitiesResponse) -> Dialect {
    if answer.features.iter().any(|feature| feature == FEATURE) {
        Dialect::Session
    } else {
        Dialect::Plain
    }
}
