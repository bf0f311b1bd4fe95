//! What a governance node opens before it starts: logs, keys, certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream_messaging::buffer::{Buffer, BufferConfig};
use alys_stream_messaging::inbox::{Inbox, InboxConfig, Received};
use alys_stream_messaging::record::RecordMeta;
use alys_stream_messaging::storage::{FileStorage, Storage};
use alys_stream_transport::tls::{self, Identity, Pem};
use tokio_rustls::TlsAcceptor;

use super::StartError;
use crate::config::{ConfigError, GovernanceConfig, TlsSection};
use crate::files;
use crate::keys;
use crate::ledger::{self, Ledger};
use crate::member::SigningMember;
use crate::peers::Peers;

/// Folders in the data directory.
const INBOX: &str = "inbox";
const OUTBOX: &str = "outbox";

/// Bytes of one segment of the log of answers: answers are small and soon taken.
const OUTBOX_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

fn outbox_config() -> BufferConfig {
    BufferConfig { segment_bytes: OUTBOX_SEGMENT_BYTES, ..BufferConfig::default() }
}

/// What is open on disk.
pub(super) struct Stores {
    pub(super) inbox: Inbox,
    pub(super) unhandled: Vec<Received>,
    pub(super) outbox: Buffer,
    pub(super) owed: Vec<RecordMeta>,
    pub(super) ledger: Ledger,
    pub(super) peers: Peers,
}

impl Stores {
    pub(super) fn open(data_dir: &Path, ids_max: usize) -> Result<Self, StartError> {
        let storage: Arc<dyn Storage> = Arc::new(FileStorage);
        let at = |folder: &str| data_dir.join(folder);
        let unusable = |folder: &str| {
            let path = at(folder);
            move |source| StartError::DataDir { path, source }
        };
        files::create_folder(data_dir).map_err(unusable(""))?;
        // The lock of the inbox covers the whole data directory.
        let (inbox, unhandled) =
            Inbox::open(&at(INBOX), InboxConfig::default(), Arc::clone(&storage))?;
        let (outbox, recovered) = Buffer::open(&at(OUTBOX), outbox_config(), Arc::clone(&storage))?;
        for gap in &recovered.gaps {
            tracing::error!(?gap, "an answer was damaged on disk and cannot be sent");
        }
        let ledger = Ledger::open(&at(ledger::FOLDER), Arc::clone(&storage), ids_max)
            .map_err(unusable(ledger::FOLDER))?;
        let peers = Peers::open(data_dir, storage).map_err(unusable("peers.json"))?;
        Ok(Self { inbox, unhandled, outbox, owed: recovered.unsettled, ledger, peers })
    }
}

pub(super) fn load_member(config: &GovernanceConfig) -> Result<SigningMember, StartError> {
    let federation = config.try_federation()?;
    let (federation, keys) = match (&config.keys, federation) {
        (Some(path), federation) => keys::load(path, config.generate_keys, &config.id, federation)?,
        (None, Some(federation)) => {
            tracing::warn!(
                "no `keys` are configured: this node takes custody of everything and signs nothing"
            );
            (federation, Vec::new())
        }
        (None, None) => {
            return Err(ConfigError::new(
                "keys",
                "is missing, and there is no `federation`",
                "name a key file",
            )
            .into());
        }
    };
    for key in &keys {
        tracing::info!(member = key.member_id, public_key = %key.public_key(), "signs for a member");
    }
    Ok(SigningMember::new(federation, keys))
}

pub(super) fn acceptor(section: &TlsSection) -> Result<TlsAcceptor, StartError> {
    let read = |key, path: &PathBuf| {
        files::read(path).map_err(|source| StartError::Pem { key, path: path.clone(), source })
    };
    let certificate = read("tls.certificate", &section.certificate)?;
    let key = read("tls.key", &section.key)?;
    let client_ca = read("tls.client_ca", &section.client_ca)?;
    let label = |key: &str, path: &PathBuf| format!("{key} {}", path.display());
    let (certificate_label, key_label, client_ca_label) = (
        label("tls.certificate", &section.certificate),
        label("tls.key", &section.key),
        label("tls.client_ca", &section.client_ca),
    );
    let identity = Identity {
        certificates: Pem { label: &certificate_label, bytes: &certificate },
        key: Pem { label: &key_label, bytes: &key },
    };
    let config =
        tls::server_config(identity, &[Pem { label: &client_ca_label, bytes: &client_ca }])?;
    Ok(TlsAcceptor::from(config))
}
