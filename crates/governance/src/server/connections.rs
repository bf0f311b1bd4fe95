//! The live connections: how many there may be, and which of them a reload of TLS leaves.
//!
//! Not their bytes: a connection takes a [`Seat`] here and leaves it when it ends.
//!
//! Invariants:
//! - G14: a connection whose client a new generation of TLS does not trust is cut at once, also when
//!   its handshake ran while the generation changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use alys_stream_protocol::time::WallClock;
use alys_stream_transport::tls::{Offload, ServerSource, ServerTls};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::sync::lock;

/// Who is at the other end of a live connection.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) address: SocketAddr,
    /// The chain of its certificate, leaf first; empty without TLS.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// When that certificate expires, in Unix seconds.
    pub(crate) expires_at: Option<i64>,
    /// Cuts the connection.
    pub(crate) cut: CancellationToken,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    guests: BTreeMap<u64, Arc<Guest>>,
}

/// All live connections.
#[derive(Debug)]
pub(crate) struct Connections {
    max: usize,
    clock: Arc<dyn WallClock>,
    metrics: Arc<Metrics>,
    live: Mutex<Live>,
}

/// The place of one connection, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    number: u64,
}

impl Seat {
    /// The client never began to speak, and its connection ends for that.
    pub(crate) fn report_silence(&self) {
        self.connections.metrics.connection_cut("silent");
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.connections.live).guests.remove(&self.number);
    }
}

impl Connections {
    pub(crate) fn new(max: usize, clock: Arc<dyn WallClock>, metrics: Arc<Metrics>) -> Self {
        Self { max, clock, metrics, live: Mutex::default() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.count() >= self.max
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.live).guests.len()
    }

    /// When the first certificate of a connected client expires, in Unix seconds.
    pub(crate) fn first_expiry(&self) -> Option<i64> {
        lock(&self.live).guests.values().filter_map(|guest| guest.expires_at).min()
    }

    /// Seats a guest whose handshake the generation `shaken` accepted; `None` when all seats are
    /// taken.
    pub(crate) fn admit(
        self: &Arc<Self>,
        guest: Guest,
        tls: Option<(&ServerSource, &ServerTls)>,
    ) -> Option<Seat> {
        let guest = Arc::new(guest);
        let number = {
            let mut live = lock(&self.live);
            if live.guests.len() >= self.max {
                return None;
            }
            live.next += 1;
            let number = live.next;
            live.guests.insert(number, Arc::clone(&guest));
            number
        };
        // G14: whoever judged the others before this one was seated did not see it.
        if let Some((source, shaken)) = tls {
            let current = source.current();
            if current.number() != shaken.number() {
                self.judge(&guest, &current);
            }
        }
        Some(Seat { connections: Arc::clone(self), number })
    }

    /// Cuts everyone whom `tls` does not trust. Takes a while with many of them.
    fn judge_all(&self, tls: &ServerTls) {
        let guests: Vec<Arc<Guest>> = lock(&self.live).guests.values().cloned().collect();
        for guest in guests {
            self.judge(&guest, tls);
        }
    }

    fn judge(&self, guest: &Guest, tls: &ServerTls) {
        if let Err(fault) = tls.still_trusted(&guest.chain, self.clock.now()) {
            tracing::warn!(address = %guest.address, %fault, "a connection is cut: its client is not trusted any more");
            self.metrics.connection_cut(fault.word());
            guest.cut.cancel();
        }
    }
}

/// Judges every connection whenever TLS is reloaded, until `shutdown`.
pub(crate) async fn guard(
    connections: Arc<Connections>,
    tls: ServerSource,
    offload: Offload,
    shutdown: CancellationToken,
) {
    let mut changes = tls.subscribe();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
        let (current, connections) =
            (Arc::clone(&changes.borrow_and_update()), Arc::clone(&connections));
        offload(Box::new(move || connections.judge_all(&current))).await;
    }
}
