//! Updates, heights, emergencies and restarts, honest and hostile.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_stream_protocol::federation::{Federation, Member, ScriptKind, sign_update};
use alys_stream_protocol::governance::{
    FederationConfig, FederationMember, FederationUpdate, FederationUpdateType,
};
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::session::SignatureSet;
use alys_stream_protocol::time::UnixMillis;
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};
use bytes::Bytes;
use prost::Message as _;

use super::*;

mod driver;
mod emergencies;
mod hostile;
mod model;
mod restarts;
mod updates;

pub(crate) fn keypair(seed: u8) -> Keypair {
    Keypair::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[seed; 32]).unwrap())
}

/// The federation of these keys.
pub(crate) fn federation(threshold: u32, seeds: &[u8]) -> Federation {
    let members = seeds.iter().map(|seed| Member {
        id: format!("member-{seed}"),
        public_key: keypair(*seed).public_key(),
        weight: 1,
    });
    Federation::try_new(threshold, members.collect(), ScriptKind::P2wsh).unwrap()
}

/// 2 of keys 1 to 3, version 0.
pub(crate) fn root() -> Root {
    Root { version: Version(0), federation: federation(2, &[1, 2, 3]) }
}

/// A moment: the clock in milliseconds, and the next number.
pub(crate) fn at(millis: u64) -> Moment {
    Moment { at: UnixMillis(millis), next_seq: Seq(millis) }
}

pub(crate) fn machine() -> Federations {
    Federations::new(root(), at(1))
}

/// What an update says; `signed` signs it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    kind: FederationUpdateType,
    version: Option<u64>,
    height: u64,
    members: Vec<u8>,
    threshold: u32,
    parameters: BTreeMap<String, String>,
}

/// Version `version`: 2 of `members`, at once.
pub(crate) fn draft(version: u64, members: &[u8]) -> Draft {
    Draft {
        kind: FederationUpdateType::ConfigChange,
        version: Some(version),
        height: 0,
        members: members.to_vec(),
        threshold: 2,
        parameters: BTreeMap::new(),
    }
}

pub(crate) fn halt(version: impl Into<Option<u64>>) -> Draft {
    let kind = FederationUpdateType::EmergencyHalt;
    Draft { kind, version: version.into(), ..draft(0, &[]) }
}

pub(crate) fn resume(version: impl Into<Option<u64>>) -> Draft {
    halt(version).parameter(EMERGENCY_PARAMETER, EMERGENCY_RESUME)
}

impl Draft {
    pub(crate) fn height(mut self, height: u64) -> Self {
        self.height = height;
        self
    }

    pub(crate) fn kind(mut self, kind: FederationUpdateType) -> Self {
        self.kind = kind;
        self
    }

    pub(crate) fn threshold(mut self, threshold: u32) -> Self {
        self.threshold = threshold;
        self
    }

    pub(crate) fn parameter(mut self, key: &str, value: &str) -> Self {
        self.parameters.insert(key.into(), value.into());
        self
    }

    pub(crate) fn unsigned(&self) -> FederationUpdate {
        let mut parameters = self.parameters.clone();
        if let Some(version) = self.version {
            parameters.insert("version".into(), version.to_string());
        }
        let members = self.members.iter().map(|seed| FederationMember {
            member_id: format!("member-{seed}"),
            public_key: Bytes::copy_from_slice(&keypair(*seed).public_key().serialize()),
            weight: 1,
            active: true,
        });
        let config = FederationConfig {
            signature_threshold: self.threshold,
            member_count: u32::try_from(self.members.len()).unwrap(),
            parameters,
        };
        FederationUpdate {
            update_type: self.kind.into(),
            members: members.collect(),
            effective_height: self.height,
            update_signature: Bytes::new(),
            config: Some(config),
        }
    }

    /// Signed with these keys, each under the name of its member.
    pub(crate) fn signed(&self, seeds: &[u8]) -> Arc<FederationUpdate> {
        signed(self.unsigned(), seeds)
    }
}

pub(crate) fn signed(mut update: FederationUpdate, seeds: &[u8]) -> Arc<FederationUpdate> {
    let signatures = seeds
        .iter()
        .map(|seed| sign_update(&update, &format!("member-{seed}"), &keypair(*seed)))
        .collect();
    update.update_signature = SignatureSet { signatures }.encode_to_vec().into();
    Arc::new(update)
}

/// Takes all actions away, in words; halts first, as the driver does.
pub(crate) fn actions(machine: &mut Federations) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(halt) = machine.peek_halt().cloned() {
        words.push("tell halt".to_owned());
        machine.finish_halt(&halt);
    }
    while let Some(action) = machine.peek_action() {
        words.push(match action {
            Action::Store(entry) => match entry.as_ref() {
                Entry::Root(it) => format!("store root {}", it.version),
                Entry::Accepted(_) => "store accepted".to_owned(),
                Entry::InForce(it) => format!("store in force {} at {}", it.version, it.height),
                Entry::Burnt { version, .. } => format!("store burnt {version}"),
                Entry::Emergency(_) => "store emergency".to_owned(),
            },
            Action::TellScheduled(it) => {
                format!("tell scheduled {} at {}", it.version, it.effective_height)
            }
            Action::TellInForce(it) => format!("tell in force {}", it.version),
            Action::TellResumed(_) => "tell resumed".to_owned(),
            Action::Alert(it) => format!("alert {} in force {}", it.version, it.is_in_force),
        });
        machine.finish_action();
    }
    words
}

/// Takes all actions away; the entries that were to be stored.
pub(crate) fn stored(machine: &mut Federations) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some(action) = machine.peek_action() {
        if let Action::Store(entry) = action {
            entries.push(Entry::clone(entry));
        }
        machine.finish_action();
    }
    entries
}
