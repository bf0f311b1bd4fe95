//! The peer of one connection, judged again after every reload.

use std::sync::Arc;

use alys_stream_protocol::time::WallClock;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::sync::watch;

use super::fault::TlsFault;
use super::generation::ClientTls;

/// Whether the server of one connection would still be accepted.
#[derive(Debug)]
pub struct PeerTrust {
    changes: watch::Receiver<Arc<ClientTls>>,
    /// The generation that judged it last.
    judged: u64,
    name: ServerName<'static>,
    chain: Vec<CertificateDer<'static>>,
}

impl PeerTrust {
    pub(super) fn new(
        changes: watch::Receiver<Arc<ClientTls>>,
        shaken: &ClientTls,
        name: ServerName<'static>,
        chain: &[CertificateDer<'_>],
    ) -> Self {
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        Self { changes, judged: shaken.number(), name, chain }
    }

    /// Resolves when a reload took the trust away: the connection is to be dropped at once. A
    /// reload between the handshake and the first call counts.
    ///
    /// # Cancel safety
    ///
    /// Dropping it and calling again loses nothing.
    pub async fn lost(&mut self, clock: &dyn WallClock) -> TlsFault {
        loop {
            let tls = Arc::clone(&self.changes.borrow_and_update());
            if tls.number() != self.judged {
                if let Err(fault) = tls.still_trusted(&self.name, &self.chain, clock.now()) {
                    return fault;
                }
                self.judged = tls.number();
            }
            if self.changes.changed().await.is_err() {
                // Nobody reloads any more.
                std::future::pending::<()>().await;
            }
        }
    }
}
