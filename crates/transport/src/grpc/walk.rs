//! `endpoints test`: one walk to a peer, step by step, each timed, up to the one that fails.
//!
//! Not a dial: the addresses are tried one after the other, so that each is named with what is
//! wrong with it, and nothing is retried or cached. It needs no running node and no buffer.
//!
//! Invariants:
//! - T48: a walk has one entry for each [`Step`], in order; after the first that failed all are
//!   skipped; it ends within the sum of the limits of its steps.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use tokio::time::Instant;

use super::dial::steps::{self, within};
use super::dial::{BoxIo, Dialed, Sockets};
use super::error::{LinkCause, LinkError, Step};
use super::probe::Probe;
use super::secured::expires_at;
use super::{EndpointSettings, EndpointTls, NodeIdentity};
use crate::connection::Hurry;
use crate::endpoint::{Dialect, EndpointConfig, Keepalive};

mod talk;
mod visitor;

/// How far a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WalkDepth {
    /// Up to the answer of `GetCapabilities`: TLS with both certificates, and gRPC. The peer notices
    /// nothing but a connection.
    Capabilities,
    /// All of it: a session is opened (or the node registers, with a plain peer) and closed again.
    /// A peer keeps one session of a node: what it wants to push to a *running* node of the same
    /// name waits until that one connects again, so `endpoints reconnect` belongs after it.
    #[default]
    Session,
}

/// What a walk needs.
#[derive(Debug)]
pub struct WalkParts<'a> {
    /// Which endpoint.
    pub config: &'a EndpointConfig,
    /// Who we are.
    pub identity: &'a NodeIdentity,
    /// How to speak TLS.
    pub tls: Option<&'a EndpointTls>,
    /// The limits of the steps: `address_timeout` for those of an address, `step_timeout` for the
    /// others.
    pub settings: EndpointSettings,
    /// How far to go.
    pub depth: WalkDepth,
}

/// What one walk found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Walk {
    /// The endpoint, by its name.
    pub endpoint: String,
    /// Its address, as configured.
    pub url: String,
    /// Whether every step that was wanted passed.
    pub passed: bool,
    /// The step that failed.
    pub failed_step: Option<Step>,
    /// One entry for each step, in order.
    pub steps: Vec<WalkStep>,
    /// What is spoken with it, once known.
    pub dialect: Option<Dialect>,
    /// The peer's name for itself, once known.
    pub peer_id: Option<String>,
    /// When the certificate of the peer expires, in Unix seconds.
    pub certificate_expires_at: Option<i64>,
}

/// One step of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WalkStep {
    /// Which.
    pub step: Step,
    /// What became of it.
    pub outcome: WalkOutcome,
    /// How long it took, in microseconds; 0 when it was skipped.
    pub took_us: u64,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum WalkOutcome {
    /// It worked.
    Passed {
        /// What was found, in words.
        detail: String,
    },
    /// It did not.
    Failed {
        /// `connection`, `auth` or `protocol`.
        class: &'static str,
        /// Why, with its cure.
        cause: String,
        /// Whether trying again cannot mend it.
        is_permanent: bool,
    },
    /// It was not reached, or not wanted.
    Skipped {
        /// Why.
        reason: String,
    },
}

impl WalkOutcome {
    /// Whether it worked.
    #[must_use]
    pub const fn is_passed(&self) -> bool {
        match self {
            Self::Passed { .. } => true,
            Self::Failed { .. } | Self::Skipped { .. } => false,
        }
    }
}

/// Walks to a peer. Never fails: what fails is a step.
///
/// # Cancel safety
///
/// Dropping it closes the connection.
pub async fn walk(parts: WalkParts<'_>) -> Walk {
    let mut walker = Walker::new(parts);
    if let Err(error) = walker.walk().await {
        walker.failed(&error);
    }
    walker.finish()
}

/// A walk under way.
struct Walker<'a> {
    parts: WalkParts<'a>,
    found: Walk,
    begun: Instant,
}

impl<'a> Walker<'a> {
    fn new(parts: WalkParts<'a>) -> Self {
        let found = Walk {
            endpoint: parts.config.name.clone(),
            url: parts.config.url.to_string(),
            passed: false,
            failed_step: None,
            steps: Vec::new(),
            dialect: None,
            peer_id: None,
            certificate_expires_at: None,
        };
        Self { parts, found, begun: Instant::now() }
    }

    async fn walk(&mut self) -> Result<(), LinkError> {
        let (config, settings) = (self.parts.config, self.parts.settings);
        let limit = settings.address_timeout;
        let addresses = within(Step::Resolve, limit, steps::resolve(&Sockets, config)).await?;
        let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        self.passed(Step::Resolve, format!("{} is {}", config.url.host(), shown.join(", ")));
        let (tcp, address) = self.connect(&addresses).await?;
        let (io, chain) = self.protect(tcp, address).await?;
        let probe = Arc::new(Probe::default());
        let keepalive = Keepalive::new(settings.keepalive, config.keepalive).current();
        let channel = steps::channel(&config.url, io, &probe, keepalive);
        let channel = within(Step::Http2, limit, channel).await?;
        self.passed(Step::Http2, "the preface was sent".to_owned());
        talk::talk(self, Dialed { channel, probe, address, chain }).await
    }

    /// Each address in turn; the first that answers is walked on.
    async fn connect(
        &mut self,
        addresses: &[SocketAddr],
    ) -> Result<(BoxIo, SocketAddr), LinkError> {
        let limit = self.parts.settings.address_timeout;
        let mut failures: Vec<String> = Vec::new();
        let mut last = steps::not_resolved(&self.parts.config.url, "no address".to_owned());
        for address in addresses {
            match within(Step::Connect, limit, steps::connect(&Sockets, *address)).await {
                Ok(tcp) => {
                    let mut detail = format!("connected to {address}");
                    if !failures.is_empty() {
                        detail = format!("{detail}, after {}", failures.join("; "));
                    }
                    self.passed(Step::Connect, detail);
                    return Ok((tcp, *address));
                }
                Err(mut error) => {
                    failures.push(format!("{address}: {}", error.cause));
                    error.address = Some(*address);
                    last = error;
                }
            }
        }
        if failures.len() > 1 {
            last.address = None;
            last.cause = LinkCause::Unreachable(failures.join("; "));
        }
        Err(last)
    }

    async fn protect(
        &mut self,
        tcp: BoxIo,
        address: SocketAddr,
    ) -> Result<(BoxIo, Vec<CertificateDer<'static>>), LinkError> {
        let config = self.parts.config;
        if !config.url.is_tls() {
            let reason = "insecure: plaintext is configured".to_owned();
            self.step(Step::Tls, WalkOutcome::Skipped { reason });
            return Ok((tcp, Vec::new()));
        }
        let tls = self.parts.tls.ok_or(LinkError::new(Step::Tls, LinkCause::TlsMissing))?.current();
        let limit = self.parts.settings.address_timeout;
        let shaken = within(Step::Tls, limit, steps::secure(config.tls_name(), tls.config(), tcp));
        let stream = shaken.await.map_err(|mut error| {
            error.address = Some(address);
            error
        })?;
        let session = stream.get_ref().1;
        let chain = session.peer_certificates().unwrap_or_default();
        let chain: Vec<_> = chain.iter().map(|one| one.clone().into_owned()).collect();
        self.found.certificate_expires_at = expires_at(&chain);
        let exchange = session
            .negotiated_key_exchange_group()
            .map_or_else(|| "an unnamed group".to_owned(), |group| format!("{:?}", group.name()));
        let detail = format!("TLS 1.3 with {} by {exchange}, ALPN h2", config.tls_name());
        self.passed(Step::Tls, detail);
        Ok((Box::new(stream), chain))
    }

    fn passed(&mut self, step: Step, detail: String) {
        self.step(step, WalkOutcome::Passed { detail });
    }

    fn failed(&mut self, error: &LinkError) {
        self.found.failed_step = Some(error.step);
        let outcome = WalkOutcome::Failed {
            class: error.class(),
            cause: error.to_string(),
            is_permanent: error.hurry() == Hurry::Permanent,
        };
        self.step(error.step, outcome);
    }

    fn step(&mut self, step: Step, outcome: WalkOutcome) {
        let is_skipped = matches!(outcome, WalkOutcome::Skipped { .. });
        let took = if is_skipped { Duration::ZERO } else { self.begun.elapsed() };
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // A step below the one that was under way failed it: an answer that is no HTTP/2 shows
        // only when the first call fails.
        self.found.steps.retain(|earlier| earlier.step < step);
        self.found.steps.push(WalkStep { step, outcome, took_us });
        self.begun = Instant::now();
    }

    /// T48.
    fn finish(mut self) -> Walk {
        let failed = self.found.failed_step;
        self.found.passed = failed.is_none();
        for step in Step::ALL {
            if self.found.steps.iter().any(|walked| walked.step == step) {
                continue;
            }
            let reason = failed.map_or_else(
                || "not wanted".to_owned(),
                |failed| format!("not reached: {failed} failed"),
            );
            let outcome = WalkOutcome::Skipped { reason };
            self.found.steps.push(WalkStep { step, outcome, took_us: 0 });
        }
        self.found.steps.sort_by_key(|walked| walked.step);
        self.found
    }
}
