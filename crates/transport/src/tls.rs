//! TLS 1.3 for both sides: what is shown, who is trusted, and how that changes while connections
//! live.
//!
//! Not a connection and not a file reader: whoever composes this hands in a [`ReadFile`], and every
//! error names the input that is wrong.
//!
//! # How a side uses it
//!
//! 1. [`TlsReloader::try_new`] with [`ClientSettings`] (or [`ServerSettings`]), a [`ReadFile`] and
//!    the clock: reads everything once, and fails like any other configuration error.
//!    It gives the reloader and a [`TlsSource`]: [`ClientSource`] or [`ServerSource`].
//! 2. [`TlsReloader::run`] as a task, with what reads files off its thread. Without it nothing is
//!    reloaded.
//!    [`TlsSource::change`] applies other settings (a new list of pins) at once.
//! 3. For each connection attempt: `let tls = source.current();`, handshake with
//!    [`ClientTls::config`] (or [`ServerTls::config`]), then [`check_alpn`].
//! 4. While the connection lives: [`TlsSource::watch_peer`] with the generation of the handshake,
//!    the name and the chain of the peer; [`PeerTrust::lost`] resolves when a reload takes the trust
//!    away. Then drop the connection at once. A listener with many connections asks
//!    [`ServerTls::still_trusted`] for each of them whenever [`TlsSource::subscribe`] shows a new
//!    generation.
//! 5. [`TlsSource::status`] and [`PeerIdentity::expires_at`] have what metrics and status show.
//!
//! [`ClientTls::load`] and [`ServerTls::load`] only check.
//!
//! Invariants:
//! - T19: TLS 1.3 only; `h2` by ALPN; the hybrid X25519MLKEM768 is preferred.
//! - T20: the crypto provider is handed over explicitly, never taken from the process.
//! - T21: the name and the chain of a server are always validated, and a server always requires a
//!   certificate of its client. Pins and revocation lists come on top, in the same handshake.
//! - T22: private keys never appear in `Debug` output or errors.
//! - T61: nothing is resumed: every connection validates its peer in full, against the generation in
//!   force.
//! - T62: a generation is replaced as a whole, and only by one that was built without an error.
//! - T63: handshakes and later judgements of a peer ask the same clock, the one that was handed in.

use alys_stream_protocol::time::SystemClock;
pub use rustls::ClientConfig;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use std::sync::Arc;

mod error;
mod fault;
mod generation;
mod input;
mod peer;
mod pem;
mod pin;
mod reload;
mod revocation;
mod settings;
mod trust;
mod verify;

pub use error::{TlsConfigError, TlsLoadError};
pub use fault::TlsFault;
pub use generation::{ClientTls, ServerTls, TlsFacts};
pub use input::{Inputs, ReadFile, Wanted};
pub use peer::{InvalidCertificate, PeerIdentity, peer_identity};
pub use pem::{Authorities, Identity, Pem};
pub use pin::{InvalidPin, InvalidPinLine, Pin};
pub use reload::{ClientSource, Offload, ReloadStatus, ServerSource, Side, TlsReloader, TlsSource};
pub use revocation::{Doubt, Revocation};
pub use settings::{
    CRL_FILES_MAX, ClientSettings, PINS_MAX, PINS_MIN, ReloadConfig, ServerSettings,
};
pub use trust::PeerTrust;

/// The one protocol that ALPN may choose.
pub const ALPN: &[u8] = b"h2";

/// The crypto provider of both sides (T20), with the hybrid key exchange first.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    use aws_lc_rs::kx_group::{SECP256R1, SECP384R1, X25519, X25519MLKEM768};
    Arc::new(CryptoProvider {
        kx_groups: vec![X25519MLKEM768, X25519, SECP256R1, SECP384R1],
        ..aws_lc_rs::default_provider()
    })
}

/// The configuration of the side that dials, from text at hand: no pins, no revocation lists, no
/// reload. The name of the server is validated against the name that the dialler passes with each
/// connection.
///
/// # Errors
///
/// When an input is unusable; the error names it.
pub fn client_config(
    authorities: Authorities<'_>,
    identity: Option<Identity<'_>>,
) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let (lists, clock) = ((&[][..], &Revocation::default()), Arc::new(SystemClock));
    generation::client(&authorities, identity, Vec::new(), lists, clock).map(|(config, _)| config)
}

/// The configuration of the side that listens, from text at hand: no revocation lists, no reload.
/// Clients must show a certificate that one of `client_authorities` vouches for.
///
/// # Errors
///
/// When an input is unusable; the error names it.
pub fn server_config(
    identity: Identity<'_>,
    client_authorities: &[Pem<'_>],
) -> Result<Arc<ServerConfig>, TlsConfigError> {
    let (lists, clock) = ((&[][..], &Revocation::default()), Arc::new(SystemClock));
    generation::server(identity, client_authorities, lists, clock).map(|(config, _)| config)
}

/// Checks what ALPN chose: a peer that offers nothing passes the handshake and is refused here.
///
/// # Errors
///
/// When it is not `h2`.
pub fn check_alpn(chosen: Option<&[u8]>) -> Result<(), TlsFault> {
    if chosen == Some(ALPN) { Ok(()) } else { Err(TlsFault::NoHttp2) }
}

#[cfg(test)]
pub(crate) mod tests;
