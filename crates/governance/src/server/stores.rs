//! What a governance node opens before it starts: logs and keys.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use alys_stream_messaging::buffer::{BacklogPage, Buffer, BufferConfig};
use alys_stream_messaging::inbox::{Inbox, InboxConfig, Received};
use alys_stream_messaging::storage::Storage;
use alys_stream_protocol::message::Seq;

use super::StartError;
use crate::config::{ConfigError, GovernanceConfig};
use crate::engine;
use crate::keys;
use crate::ledger::{self, Application, Ledger};
use crate::member::SigningMember;
use crate::outbound::Outbound;
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
    /// The answers that nodes have not taken yet.
    pub(super) outbound: Outbound,
    pub(super) ledger: Ledger,
    pub(super) peers: Peers,
}

impl Stores {
    pub(super) fn open(
        data_dir: &Path,
        ids_max: usize,
        storage: Arc<dyn Storage>,
    ) -> Result<Self, StartError> {
        let at = |folder: &str| data_dir.join(folder);
        let unusable = |folder: &str| {
            let path = at(folder);
            move |source| StartError::DataDir { path, source }
        };
        storage.create_dir_all(data_dir).map_err(unusable(""))?;
        // The lock of the inbox covers the whole data directory.
        let (inbox, unhandled) =
            Inbox::open(&at(INBOX), InboxConfig::default(), Arc::clone(&storage))?;
        let (outbox, recovered) = Buffer::open(&at(OUTBOX), outbox_config(), Arc::clone(&storage))?;
        for gap in &recovered.gaps {
            tracing::error!(?gap, "an answer was damaged on disk and cannot be sent");
        }
        let again: BTreeSet<_> = unhandled.iter().map(|it| (it.sender, it.seq)).collect();
        let is_unhandled = |line: &Application| again.contains(&(line.sender, line.seq));
        let ledger = Ledger::open(&at(ledger::FOLDER), Arc::clone(&storage), ids_max, is_unhandled)
            .map_err(unusable(ledger::FOLDER))?;
        let peers = Peers::open(data_dir, storage).map_err(unusable("peers.json"))?;
        let outbound = owed(&outbox);
        Ok(Self { inbox, unhandled, outbox, outbound, ledger, peers })
    }
}

/// Files what an earlier process left under the node it is for, a page of the log at a time, so
/// that what is known of each record is in memory only as long as it takes.
fn owed(outbox: &Buffer) -> Outbound {
    let mut outbound = Outbound::default();
    for page in outbox.backlog() {
        for meta in outbox.metas(&seqs_of(&page)) {
            match meta {
                Ok(meta) => {
                    if let Some(node_id) = engine::recipient(&meta) {
                        let bytes = u64::from(meta.payload_bytes);
                        outbound.handle_durable(node_id, meta.seq, meta.priority, bytes);
                    }
                }
                Err(error) => {
                    tracing::error!(seq = %error.seq, %error, "an answer cannot be sent");
                }
            }
        }
    }
    outbound
}

fn seqs_of(page: &BacklogPage) -> Vec<Seq> {
    let live = page.by_priority.iter().fold(0, |live, bits| live | bits);
    let bits = (0..BacklogPage::SEQS).filter(|bit| live >> bit & 1 == 1);
    bits.map(|bit| Seq(page.first_seq().0 + bit)).collect()
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
