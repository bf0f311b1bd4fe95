//! One attempt: resolve, then race the addresses through TCP, TLS and HTTP/2, each with a deadline.
//!
//! Not a retry: one tonic `Channel` is one attempt, made from a connection that is already up. Its
//! own reconnect finds no second connection and fails.
//!
//! Bounds: one address takes at most `per_address` and all of them at most `in_all`, whatever the
//! peer does; a peer that accepts and never answers costs the others [`race::HANDSHAKE_HEAD_START`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;
use tonic::transport::Channel;

use super::core::now;
use super::error::{LinkCause, LinkError, Step};
use super::probe::Probe;
use super::secured::Secured;
use crate::endpoint::{EndpointConfig, KeepaliveConfig};

mod network;
mod race;
pub(super) mod steps;
#[cfg(test)]
mod tests;

pub use network::{BoxIo, Io, Network, Sockets};

use self::race::Race;
use self::steps::within;

/// How one attempt is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dialing<'a> {
    pub(super) config: &'a EndpointConfig,
    /// Where names and connections come from.
    pub(super) network: &'a dyn Network,
    /// How to speak TLS, as it is at this moment.
    pub(super) tls: Option<&'a Secured>,
    pub(super) keepalive: KeepaliveConfig,
    /// TCP, TLS and HTTP/2 with one address.
    pub(super) per_address: Duration,
    /// Everything.
    pub(super) in_all: Duration,
}

/// A connection that is up.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) channel: Channel,
    pub(super) probe: Arc<Probe>,
    pub(super) address: SocketAddr,
    /// The chain that the peer showed, leaf first; empty without TLS.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// Makes one connection to the endpoint: every address is tried once.
pub(super) async fn dial(dialing: Dialing<'_>) -> Result<Dialed, LinkError> {
    let started = tokio::time::Instant::now();
    let limit = dialing.per_address.min(dialing.in_all);
    let addresses =
        within(Step::Resolve, limit, steps::resolve(dialing.network, dialing.config)).await?;
    run(dialing, &addresses, dialing.in_all.saturating_sub(started.elapsed())).await
}

/// Races the addresses; the losers are closed.
async fn run(
    dialing: Dialing<'_>,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<Dialed, LinkError> {
    let give_up_at = tokio::time::Instant::now() + limit;
    let tcp_up = Notify::new();
    let mut race = Race::new(now(), addresses);
    let mut attempts = FuturesUnordered::new();
    let mut furthest: Option<LinkError> = None;
    loop {
        while let Some(address) = race.poll_start(now()) {
            attempts.push(dial_address(dialing, address, &tcp_up));
        }
        if race.is_over() {
            let none = || steps::not_resolved(&dialing.config.url, "no address".to_owned());
            return Err(furthest.unwrap_or_else(none));
        }
        let next_at = race.poll_timeout();
        tokio::select! {
            biased;
            Some(ended) = attempts.next(), if !attempts.is_empty() => match ended {
                Ok(dialed) => return Ok(dialed),
                Err(error) => {
                    race.handle_failed(now());
                    // The error that says most is the one that came furthest.
                    if furthest.as_ref().is_none_or(|other| error.step > other.step) {
                        furthest = Some(error);
                    }
                }
            },
            () = tcp_up.notified() => race.handle_tcp_up(now()),
            () = sleep_until(next_at), if next_at.is_some() => {}
            () = tokio::time::sleep_until(give_up_at) => {
                let too_long = || LinkError::new(Step::Connect, LinkCause::TimedOut(limit));
                return Err(furthest.unwrap_or_else(too_long));
            }
        }
    }
}

async fn sleep_until(at: Option<std::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn dial_address(
    dialing: Dialing<'_>,
    address: SocketAddr,
    tcp_up: &Notify,
) -> Result<Dialed, LinkError> {
    let located = |mut error: LinkError| {
        error.address = Some(address);
        error
    };
    let started = tokio::time::Instant::now();
    let rest = || dialing.per_address.saturating_sub(started.elapsed());
    let tcp = steps::connect(dialing.network, address);
    let tcp = within(Step::Connect, rest(), tcp).await.map_err(located)?;
    tcp_up.notify_one();
    let (io, chain) = within(Step::Tls, rest(), protect(dialing, tcp)).await.map_err(located)?;
    let probe = Arc::new(Probe::default());
    let channel = steps::channel(&dialing.config.url, io, &probe, dialing.keepalive);
    let channel = within(Step::Http2, rest(), channel).await.map_err(located)?;
    Ok(Dialed { channel, probe, address, chain })
}

/// TLS, when the URL asks for it.
async fn protect(
    dialing: Dialing<'_>,
    tcp: BoxIo,
) -> Result<(BoxIo, Vec<CertificateDer<'static>>), LinkError> {
    if !dialing.config.url.is_tls() {
        return Ok((tcp, Vec::new()));
    }
    let tls = dialing.tls.ok_or(LinkError::new(Step::Tls, LinkCause::TlsMissing))?;
    let stream = steps::secure(dialing.config.tls_name(), tls.config(), tcp).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
    Ok((Box::new(stream), chain))
}
