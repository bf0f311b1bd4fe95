//! Why a connection failed: at which step, to which address, and the cause in words that name the
//! cure.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use alys_stream_protocol::session::RefuseCode;
use serde::Serialize;

use super::host::StreamDied;
use super::probe::{Failure, Foreign, Probe};
use crate::connection::Hurry;
use crate::exchange::{ReceiveError, Refusal};
use crate::session::{Dead, HandshakeError, SessionViolation};
use crate::tls::TlsFault;

/// The steps of a connection, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Name to addresses.
    Resolve,
    /// TCP.
    Connect,
    /// TLS handshake.
    Tls,
    /// HTTP/2 preface.
    Http2,
    /// `GetCapabilities`.
    Capabilities,
    /// `Hello` and `Welcome`, or registration.
    Authenticate,
    /// The stream itself.
    Stream,
}

impl Step {
    /// All seven, in order.
    pub const ALL: [Self; 7] = [
        Self::Resolve,
        Self::Connect,
        Self::Tls,
        Self::Http2,
        Self::Capabilities,
        Self::Authenticate,
        Self::Stream,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "name resolution",
            Self::Connect => "TCP connect",
            Self::Tls => "TLS handshake",
            Self::Http2 => "HTTP/2",
            Self::Capabilities => "capabilities",
            Self::Authenticate => "authentication",
            Self::Stream => "stream",
        })
    }
}

/// A connection that could not be made, or broke.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{step}{}: {cause}", shown(*address))]
pub struct LinkError {
    /// How far it came.
    pub step: Step,
    /// To which address, once there was one.
    pub address: Option<SocketAddr>,
    /// Why.
    #[source]
    pub cause: LinkCause,
}

/// Why a stream is left that could go on.
pub(super) const GOAWAY: &str = "the peer sent GOAWAY and wants no streams";

/// The end of such a stream, after its drain.
pub(super) fn going_away() -> LinkError {
    LinkError::new(Step::Stream, LinkCause::Broken(GOAWAY.to_owned()))
}

fn shown(address: Option<SocketAddr>) -> String {
    address.map(|address| format!(" ({address})")).unwrap_or_default()
}

/// Why a connection could not be made, or broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkCause {
    /// The name has no address.
    #[error("{host} has no address ({detail}); check the URL and the resolver")]
    NotResolved {
        /// The name.
        host: String,
        /// What the resolver said.
        detail: String,
    },
    /// Nobody listens.
    #[error("connection refused: nobody listens there; start the peer or check the port")]
    Refused,
    /// The network says no.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// Too slow.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The endpoint wants TLS and there is no configuration for it.
    #[error("TLS is not configured; name a CA, a certificate and a key")]
    TlsMissing,
    /// TLS failed.
    #[error("{0}")]
    Tls(#[source] TlsFault),
    /// Not gRPC.
    #[error(
        "the peer does not speak HTTP/2 (it answered like HTTP/1.1); check that the port is a gRPC port"
    )]
    Http1,
    /// Not HTTP at all.
    #[error(
        "the peer does not speak HTTP/2 (its first bytes are something else); check that the port is a gRPC port"
    )]
    Garbage,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The peer does not do its part.
    #[error("{0}")]
    Dead(#[source] Dead),
    /// What the peer sent could not be stored here.
    #[error("{0}")]
    NotStored(#[source] ReceiveError),
    /// This side contradicts itself.
    #[error("a broken invariant: {0}")]
    Invariant(String),
    /// GOAWAY with `ENHANCE_YOUR_CALM`.
    #[error("the peer wants fewer pings (too_many_pings); the interval is doubled from now on")]
    TooManyPings,
    /// The peer ended the stream.
    #[error("the peer ended the stream")]
    Closed,
    /// The peer does not offer what is needed.
    #[error("the peer does not offer {0}; it may be another kind of server")]
    Unimplemented(&'static str),
    /// The peer or we refuse the session.
    #[error("{0}")]
    Refusal(#[source] Refusal),
    /// A registration that was not accepted.
    #[error("the registration was not accepted: {0}")]
    NotRegistered(String),
    /// The peer broke the rules.
    #[error("{0}")]
    Violation(#[source] SessionViolation),
    /// What ran the stream on this side died; see [`super::Host`].
    #[error("{0}")]
    Died(#[source] StreamDied),
    /// Any other gRPC status.
    #[error("gRPC status {code}: {message}")]
    Status {
        /// Its name.
        code: String,
        /// Its text.
        message: String,
    },
}

impl LinkError {
    pub(super) const fn new(step: Step, cause: LinkCause) -> Self {
        Self { step, address: None, cause }
    }

    /// Classifies a gRPC status with what was seen on the connection below it.
    pub(super) fn from_status(step: Step, status: &tonic::Status, probe: &Probe) -> Self {
        if wants_fewer_pings(status) {
            return Self::new(step, LinkCause::TooManyPings);
        }
        let cause = match (probe.foreign(), probe.failure()) {
            (Some(Foreign::Http1), _) => LinkCause::Http1,
            (Some(Foreign::Other), _) => LinkCause::Garbage,
            (None, Some(Failure::Tls(fault))) => LinkCause::Tls(fault),
            (None, Some(Failure::Io(detail))) => LinkCause::Broken(detail),
            (None, None) => from_code(status),
        };
        Self::new(step, cause)
    }

    /// How soon it may be tried again: what only an operator can mend waits longest.
    #[must_use]
    pub fn hurry(&self) -> Hurry {
        match &self.cause {
            LinkCause::Refusal(refusal) if refusal.is_permanent() => Hurry::Permanent,
            LinkCause::Refusal(refusal) => {
                refusal.retry_after.map_or(Hurry::Backoff, Hurry::NotBefore)
            }
            LinkCause::TlsMissing
            | LinkCause::NotRegistered(_)
            // Our own credentials, as the peer sees them.
            | LinkCause::Tls(
                TlsFault::ClientCertificateMissing | TlsFault::ClientCertificateRefused(_),
            ) => Hurry::Permanent,
            LinkCause::NotResolved { .. }
            | LinkCause::Refused
            | LinkCause::Unreachable(_)
            | LinkCause::TimedOut(_)
            | LinkCause::Tls(_)
            | LinkCause::Http1
            | LinkCause::Garbage
            | LinkCause::Broken(_)
            | LinkCause::Dead(_)
            | LinkCause::NotStored(_)
            | LinkCause::Invariant(_)
            | LinkCause::TooManyPings
            | LinkCause::Closed
            | LinkCause::Unimplemented(_)
            | LinkCause::Violation(_)
            | LinkCause::Died(_)
            | LinkCause::Status { .. } => Hurry::Backoff,
        }
    }

    /// Whether it says that the peer has no room, and nothing worse.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        match &self.cause {
            LinkCause::Refusal(refusal) => refusal.code == RefuseCode::Busy,
            LinkCause::Status { code, .. } => code == "ResourceExhausted",
            LinkCause::NotResolved { .. }
            | LinkCause::Refused
            | LinkCause::Unreachable(_)
            | LinkCause::TimedOut(_)
            | LinkCause::TlsMissing
            | LinkCause::Tls(_)
            | LinkCause::Http1
            | LinkCause::Garbage
            | LinkCause::Broken(_)
            | LinkCause::Dead(_)
            | LinkCause::NotStored(_)
            | LinkCause::Invariant(_)
            | LinkCause::TooManyPings
            | LinkCause::Closed
            | LinkCause::Unimplemented(_)
            | LinkCause::NotRegistered(_)
            | LinkCause::Violation(_)
            | LinkCause::Died(_) => false,
        }
    }

    /// The word used in metrics.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match &self.cause {
            LinkCause::NotResolved { .. }
            | LinkCause::Refused
            | LinkCause::Unreachable(_)
            | LinkCause::TimedOut(_)
            | LinkCause::Broken(_)
            | LinkCause::Dead(_)
            | LinkCause::NotStored(_)
            | LinkCause::Invariant(_)
            | LinkCause::TooManyPings
            | LinkCause::Died(_)
            | LinkCause::Closed => "connection",
            LinkCause::TlsMissing
            | LinkCause::Tls(_)
            | LinkCause::Refusal(_)
            | LinkCause::NotRegistered(_) => "auth",
            LinkCause::Http1
            | LinkCause::Garbage
            | LinkCause::Unimplemented(_)
            | LinkCause::Violation(_)
            | LinkCause::Status { .. } => "protocol",
        }
    }
}

impl From<HandshakeError> for LinkError {
    fn from(error: HandshakeError) -> Self {
        let cause = match error {
            HandshakeError::Refused(refusal) | HandshakeError::Refusing(refusal) => {
                LinkCause::Refusal(refusal)
            }
            HandshakeError::Violation(violation) => LinkCause::Violation(violation),
        };
        Self::new(Step::Authenticate, cause)
    }
}

fn from_code(status: &tonic::Status) -> LinkCause {
    let message = described(status);
    match status.code() {
        tonic::Code::Unauthenticated => {
            LinkCause::Refusal(Refusal::new(RefuseCode::Unauthenticated, message))
        }
        tonic::Code::PermissionDenied => {
            LinkCause::Refusal(Refusal::new(RefuseCode::Forbidden, message))
        }
        // GOAWAY and a dying transport come as any of these.
        tonic::Code::Unavailable | tonic::Code::Cancelled | tonic::Code::Unknown => {
            LinkCause::Broken(message)
        }
        code @ (tonic::Code::Ok
        | tonic::Code::InvalidArgument
        | tonic::Code::DeadlineExceeded
        | tonic::Code::NotFound
        | tonic::Code::AlreadyExists
        | tonic::Code::ResourceExhausted
        | tonic::Code::FailedPrecondition
        | tonic::Code::Aborted
        | tonic::Code::OutOfRange
        | tonic::Code::Unimplemented
        | tonic::Code::Internal
        | tonic::Code::DataLoss) => LinkCause::Status { code: format!("{code:?}"), message },
    }
}

/// Whether the connection ended with GOAWAY `ENHANCE_YOUR_CALM` and the debug data that gRFC A8
/// names: other calls to calm down are not about pings.
fn wants_fewer_pings(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::ResourceExhausted && described(status).contains("too_many_pings")
}

/// The text of a status, and the last cause behind it when that says more.
fn described(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    let mut last = None;
    while let Some(error) = source {
        last = Some(error.to_string());
        source = error.source();
    }
    if let Some(last) = last.filter(|last| !text.contains(last.as_str())) {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&last);
    }
    if text.is_empty() { "no reason given".to_owned() } else { text }
}
