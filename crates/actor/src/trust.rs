//! Certificates toward governance while the node runs: read at the start, read again whenever their
//! files change.
//!
//! Not a file reader and not a judge of peers: the one is handed in, the other is
//! [`alys_stream_transport::tls`]. Outlives every StreamActor, like the endpoints.

use std::fmt;
use std::sync::Arc;

use alys_stream_protocol::time::WallClock;
use alys_stream_telemetry::metrics::TlsGauges;
use alys_stream_transport::grpc::EndpointTls;
use alys_stream_transport::tls::{
    ClientSettings, ClientTls, ReadFile, ReloadStatus, TlsLoadError, TlsReloader,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::StreamConfig;
use crate::delivery::StartError;
use crate::spawn;

/// Which files certificates, authorities, pins and revocation lists come from, and what reads them.
#[derive(Clone)]
pub struct TlsFiles {
    /// The files, and when changes of them are noticed.
    pub settings: ClientSettings,
    /// What reads them.
    pub read: ReadFile,
}

impl fmt::Debug for TlsFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFiles").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// How endpoints speak TLS, and the task that keeps it up to date.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    pub(crate) tls: Option<EndpointTls>,
    /// Lives as long as the tree.
    pub(crate) reloading: Option<AbortOnDropHandle<()>>,
}

impl Trust {
    /// Reads the files, and begins to watch them until `shutdown`; without files what is given is
    /// fixed.
    pub(crate) async fn load(
        config: &StreamConfig,
        clock: &Arc<dyn WallClock>,
        shutdown: &CancellationToken,
    ) -> Result<Self, StartError> {
        let Some(TlsFiles { settings, read }) = config.tls_files.clone() else {
            return Ok(Self { tls: config.tls.clone().map(EndpointTls::Fixed), reloading: None });
        };
        let clock = Arc::clone(clock);
        let loading = move || TlsReloader::<ClientTls>::try_new(settings, read, clock);
        let workers = config.ground.storage.workers();
        let loaded: Result<_, TlsLoadError> = workers
            .run(loading)
            .await
            .map_err(|error| StartError::Interrupted(error.to_string()))?;
        let (reloader, source) = loaded?;
        let reloads = reloader.run(workers.offload(), shutdown.clone());
        let reloading = spawn::watched(reloads, |ended| {
            if let Some(reason) = ended {
                tracing::error!(reason, "TLS files are not reloaded any more; restart the node");
            }
        });
        Ok(Self { tls: Some(EndpointTls::Live(source)), reloading: Some(reloading) })
    }
}

/// How reloading goes; `None` when nothing is reloaded.
pub(crate) fn status(tls: Option<&EndpointTls>) -> Option<ReloadStatus> {
    match tls? {
        EndpointTls::Fixed(_) => None,
        EndpointTls::Live(source) => Some(source.status()),
    }
}

/// The same as metrics show it.
pub(crate) fn gauges(status: &ReloadStatus) -> TlsGauges {
    let ReloadStatus { generation, since_ms, facts, failures, error } = status;
    TlsGauges {
        generation: *generation,
        since: since_ms / 1000,
        failures: *failures,
        is_stale: error.is_some(),
        own_expires_at: facts.own_expires_at,
        authority_expires_at: facts.authority_expires_at,
        revocation_due_at: facts.revocation_due_at,
    }
}
