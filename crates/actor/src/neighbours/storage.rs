//! The Storage keeps what the node wants to find again: the federations there were, who did what,
//! and settings. StreamActor does not depend on it: what it needs to restart is in its own folder.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_stream_protocol::time::UnixMillis;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::ring::Ring;
use super::{Answer, NotHandled};
use crate::federation::{InForce, Version};

/// Federations that [`MemoryStorage`] remembers.
const FEDERATIONS_MAX: usize = 128;

/// Audit records that [`MemoryStorage`] remembers.
const AUDIT_MAX: usize = 1024;

/// Settings that [`MemoryStorage`] takes.
const SETTINGS_MAX: usize = 256;

/// Longest key or value of a setting that [`MemoryStorage`] takes, in bytes.
const SETTING_BYTES_MAX: usize = 4096;

/// What the Storage is told and asked.
#[derive(Debug)]
pub enum StorageMessage {
    /// Keep this federation and its update in the history of the node. Sent by StreamActor at its
    /// start and at every change, once that is durable. `Ok` once it is kept;
    /// [`super::TELL_TIMEOUT`].
    Federation {
        /// The federation, and the update as signed.
        in_force: Arc<InForce>,
        /// Where to say so.
        answer: Answer,
    },
    /// Keep a record of who did what. Sent by StreamActor when something was refused for its
    /// signature, and for every emergency, conflict and operator's action. `Ok` once it is kept;
    /// [`super::TELL_TIMEOUT`].
    Audit {
        /// The record.
        record: AuditRecord,
        /// Where to say so.
        answer: Answer,
    },
    /// Keep a setting that was changed while the node runs. Sent by StreamActor after an operator's
    /// change. `Ok` once it is kept; [`super::TELL_TIMEOUT`].
    Setting {
        /// Its key.
        key: String,
        /// Its value; `None` goes back to the configuration.
        value: Option<String>,
        /// Where to say so.
        answer: Answer,
    },
    /// What the Storage keeps. Sent by tests and `/status`; [`super::QUERY_TIMEOUT`].
    Snapshot(RpcReplyPort<StorageSnapshot>),
}

/// Who did what. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditRecord {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The endpoint, or `operator`.
    pub who: String,
    /// In one word, such as `halt` or `refused_signature`.
    pub action: String,
    /// In words.
    pub detail: String,
}

impl AuditRecord {
    /// A record of this moment.
    #[must_use]
    pub fn new(at: UnixMillis, who: &str, action: &str, detail: String) -> Self {
        Self { at_ms: at.0, who: who.to_owned(), action: action.to_owned(), detail }
    }
}

/// What a [`MemoryStorage`] keeps.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct StorageSnapshot {
    /// The newest federations, oldest first.
    pub federations: Vec<Version>,
    /// The newest audit records, oldest first.
    pub audit: Vec<AuditRecord>,
    /// How many audit records there were.
    pub audit_total: u64,
    /// All settings.
    pub settings: BTreeMap<String, String>,
}

/// A Storage that forgets everything when the process ends.
#[derive(Debug)]
pub struct MemoryStorage;

/// What a [`MemoryStorage`] holds.
#[derive(Debug)]
pub struct MemoryStorageState {
    federations: Ring<Version>,
    audit: Ring<AuditRecord>,
    settings: BTreeMap<String, String>,
}

impl Actor for MemoryStorage {
    type Msg = StorageMessage;
    type State = MemoryStorageState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(MemoryStorageState {
            federations: Ring::new(FEDERATIONS_MAX),
            audit: Ring::new(AUDIT_MAX),
            settings: BTreeMap::new(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StorageMessage::Federation { in_force, answer } => {
                let last = state.federations.iter().next_back();
                if last.is_none_or(|last| *last < in_force.version) {
                    state.federations.push(in_force.version);
                }
                super::handled(answer, Ok(()));
            }
            StorageMessage::Audit { record, answer } => {
                state.audit.push(record);
                super::handled(answer, Ok(()));
            }
            StorageMessage::Setting { key, value, answer } => {
                super::handled(answer, state.set(key, value));
            }
            StorageMessage::Snapshot(reply) => super::reply(reply, state.snapshot()),
        }
        Ok(())
    }
}

impl MemoryStorageState {
    fn set(&mut self, key: String, value: Option<String>) -> Result<(), NotHandled> {
        let Some(value) = value else {
            self.settings.remove(&key);
            return Ok(());
        };
        if key.len().max(value.len()) > SETTING_BYTES_MAX {
            let reason = format!("a setting has at most {SETTING_BYTES_MAX} bytes");
            return Err(NotHandled::Never(reason));
        }
        if self.settings.len() >= SETTINGS_MAX && !self.settings.contains_key(&key) {
            return Err(NotHandled::Never(format!("{SETTINGS_MAX} settings are kept already")));
        }
        self.settings.insert(key, value);
        Ok(())
    }

    fn snapshot(&self) -> StorageSnapshot {
        StorageSnapshot {
            federations: self.federations.to_vec(),
            audit: self.audit.to_vec(),
            audit_total: self.audit.total(),
            settings: self.settings.clone(),
        }
    }
}
