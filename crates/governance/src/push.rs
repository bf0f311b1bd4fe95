//! What governance says of its own accord: federation updates, proposals, halts.
//!
//! To nodes with sessions durably, one record for each node that was ever seen; to plain streams
//! that live now, once.

use std::collections::BTreeMap;
use std::time::Duration;

use alys_stream_messaging::buffer::AppendError;
use alys_stream_protocol::federation::{
    EMERGENCY_PARAMETER, EMERGENCY_RESUME, Federation, REASON_PARAMETER, sign_update,
};
use alys_stream_protocol::governance::{
    FederationConfig, FederationMember, FederationUpdate, FederationUpdateType,
    ProposalNotification, stream_response::Payload,
};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, OrderingKey, Priority};
use alys_stream_protocol::session::SignatureSet;
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::content;
use crate::custody::Custody;
use crate::member::SigningMember;
use crate::reply::Speaker;

/// How long a proposal is open unless told.
const VOTING: Duration = Duration::from_secs(24 * 60 * 60);

/// Body of `POST /push/federation_update`. Everything has a default.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpdateBody {
    /// Ascending; a node acts only forwards.
    version: u64,
    /// `member_add`, `member_remove` or `config_change`.
    update_type: UpdateType,
    /// Block height; 0 is at once.
    effective_height: u64,
    /// The new members; the present ones by default.
    members: Option<Vec<MemberBody>>,
    /// The new threshold; the present one by default.
    threshold: Option<u32>,
    /// Free parameters beside the version.
    parameters: BTreeMap<String, String>,
    /// Signatures of other members, so that together they reach the threshold.
    signatures: Vec<SignatureBody>,
}

impl Default for UpdateBody {
    fn default() -> Self {
        Self {
            version: 1,
            update_type: UpdateType::ConfigChange,
            effective_height: 0,
            members: None,
            threshold: None,
            parameters: BTreeMap::new(),
            signatures: Vec::new(),
        }
    }
}

/// Body of `POST /push/halt`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HaltBody {
    /// Ascending over halts and resumes; they have a line of their own.
    version: u64,
    /// Whether block production may go on again.
    resume: bool,
    /// In words, for people.
    reason: Option<String>,
    signatures: Vec<SignatureBody>,
}

impl Default for HaltBody {
    fn default() -> Self {
        Self { version: 1, resume: false, reason: None, signatures: Vec::new() }
    }
}

/// Body of `POST /push/proposal`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProposalBody {
    proposal_id: Option<String>,
    proposal_type: ProposalKind,
    /// Hexadecimal.
    data: String,
    /// Unix seconds.
    voting_deadline: Option<i64>,
    required_votes: Option<u32>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UpdateType {
    MemberAdd,
    MemberRemove,
    #[default]
    ConfigChange,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ProposalKind {
    FederationChange,
    #[default]
    ParameterChange,
    EmergencyAction,
    Upgrade,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberBody {
    id: String,
    public_key: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default = "yes")]
    active: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureBody {
    member_id: String,
    /// Hexadecimal.
    signature: String,
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

/// What a push led to.
#[derive(Debug, Serialize)]
pub(crate) struct Pushed {
    /// Its message id.
    id: String,
    /// Nodes with a durable copy.
    nodes: usize,
    /// Plain streams that got it.
    plain_streams: usize,
    /// The signatures of this node under an update, to be given to the next one in `signatures`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    signatures: Vec<Signed>,
}

/// A signature under an update.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Signed {
    member_id: String,
    signature: String,
}

/// A push that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    /// A text is no hexadecimal.
    #[error("{field}: not hexadecimal")]
    Hex {
        /// Which.
        field: &'static str,
    },
    /// It cannot be stored.
    #[error("the push cannot be stored: {0}")]
    Storage(String),
}

impl UpdateBody {
    /// The update, signed with every key of this node.
    pub(crate) fn signed(&self, member: &SigningMember) -> Result<FederationUpdate, PushError> {
        let federation = member.federation();
        let members = match &self.members {
            Some(members) => {
                members.iter().map(MemberBody::to_wire).collect::<Result<Vec<_>, _>>()?
            }
            None => present_members(federation),
        };
        let mut parameters = self.parameters.clone();
        parameters.insert("version".to_owned(), self.version.to_string());
        let update_type = match self.update_type {
            UpdateType::MemberAdd => FederationUpdateType::MemberAdd,
            UpdateType::MemberRemove => FederationUpdateType::MemberRemove,
            UpdateType::ConfigChange => FederationUpdateType::ConfigChange,
        };
        let update = FederationUpdate {
            update_type: update_type.into(),
            effective_height: self.effective_height,
            config: Some(config(
                &members,
                self.threshold.unwrap_or_else(|| federation.threshold()),
                parameters,
            )),
            members,
            update_signature: Bytes::new(),
        };
        sign(update, member, &self.signatures)
    }
}

impl HaltBody {
    /// The halt or the resume, signed with every key of this node.
    pub(crate) fn signed(&self, member: &SigningMember) -> Result<FederationUpdate, PushError> {
        let members = present_members(member.federation());
        let mut parameters = BTreeMap::from([("version".to_owned(), self.version.to_string())]);
        if self.resume {
            parameters.insert(EMERGENCY_PARAMETER.to_owned(), EMERGENCY_RESUME.to_owned());
        }
        if let Some(reason) = &self.reason {
            parameters.insert(REASON_PARAMETER.to_owned(), reason.clone());
        }
        let update = FederationUpdate {
            update_type: FederationUpdateType::EmergencyHalt.into(),
            effective_height: 0,
            config: Some(config(&members, member.federation().threshold(), parameters)),
            members,
            update_signature: Bytes::new(),
        };
        sign(update, member, &self.signatures)
    }
}

impl ProposalBody {
    pub(crate) fn to_wire(
        &self,
        now: UnixMillis,
        federation: &Federation,
    ) -> Result<ProposalNotification, PushError> {
        use alys_stream_protocol::governance::ProposalType;
        let proposal_type = match self.proposal_type {
            ProposalKind::FederationChange => ProposalType::FederationChange,
            ProposalKind::ParameterChange => ProposalType::ParameterChange,
            ProposalKind::EmergencyAction => ProposalType::EmergencyAction,
            ProposalKind::Upgrade => ProposalType::Upgrade,
        };
        Ok(ProposalNotification {
            proposal_id: self.proposal_id.clone().unwrap_or_else(|| MessageId::mint().to_string()),
            proposal_type: proposal_type.into(),
            proposal_data: unhex("data", &self.data)?,
            voting_deadline: self
                .voting_deadline
                .unwrap_or_else(|| now.saturating_add(VOTING).as_unix_seconds()),
            required_votes: self.required_votes.unwrap_or_else(|| federation.threshold()),
        })
    }
}

impl MemberBody {
    fn to_wire(&self) -> Result<FederationMember, PushError> {
        Ok(FederationMember {
            member_id: self.id.clone(),
            public_key: unhex("members.public_key", &self.public_key)?,
            weight: self.weight,
            active: self.active,
        })
    }
}

/// Hands something to every node.
pub(crate) async fn push(
    custody: &Custody,
    priority: Priority,
    payload: Payload,
) -> Result<Pushed, PushError> {
    let kind = kind_of(&payload);
    let signatures = signatures_of(&payload);
    let id = MessageId::mint();
    let speaker = Speaker { node_id: &custody.own_id, now: custody.now() };
    let response = speaker.push(&id.to_string(), payload.clone());
    let mut messages = Vec::new();
    for node_id in custody.peers.nodes() {
        let id = content::push_id(id, &node_id);
        let Ok(ordering_key) = OrderingKey::try_new(node_id.into_bytes()) else {
            continue;
        };
        messages.push(Message {
            id,
            kind,
            priority,
            deadline: None,
            ordering_key: Some(ordering_key),
            traceparent: None,
            payload: speaker.push(&id.to_string(), payload.clone()).encode_to_vec().into(),
        });
    }
    let nodes = messages.len();
    if !messages.is_empty() {
        let stored = |error: &dyn std::fmt::Display| PushError::Storage(error.to_string());
        let accepted = custody
            .outbox
            .append(custody.now(), messages)
            .map_err(|error: AppendError| stored(&error))?;
        if let Some(last) = accepted.iter().map(|accepted| accepted.seq).max() {
            custody.outbox.durable(last).await.map_err(|error| stored(&error))?;
        }
    }
    let plain_streams = custody.streams.push_all(&response);
    tracing::info!(%id, %kind, nodes, plain_streams, "pushed");
    Ok(Pushed { id: id.to_string(), nodes, plain_streams, signatures })
}

const fn kind_of(payload: &Payload) -> MessageKind {
    match payload {
        Payload::RegistrationAck(_) => MessageKind::REGISTRATION_ACK,
        Payload::SignatureResponse(_) => MessageKind::SIGNATURE_RESPONSE,
        Payload::FederationUpdate(_) => MessageKind::FEDERATION_UPDATE,
        Payload::ProposalNotification(_) => MessageKind::PROPOSAL_NOTIFICATION,
        Payload::ErrorResponse(_) => MessageKind::ERROR_RESPONSE,
        Payload::HeartbeatAck(_) => MessageKind::HEARTBEAT_ACK,
    }
}

fn present_members(federation: &Federation) -> Vec<FederationMember> {
    federation
        .members()
        .iter()
        .map(|member| FederationMember {
            member_id: member.id.clone(),
            public_key: Bytes::copy_from_slice(&member.public_key.serialize()),
            weight: member.weight,
            active: true,
        })
        .collect()
}

fn config(
    members: &[FederationMember],
    threshold: u32,
    parameters: BTreeMap<String, String>,
) -> FederationConfig {
    let active = members.iter().filter(|member| member.active).count();
    FederationConfig {
        signature_threshold: threshold,
        member_count: u32::try_from(active).unwrap_or(u32::MAX),
        parameters,
    }
}

fn sign(
    mut update: FederationUpdate,
    member: &SigningMember,
    others: &[SignatureBody],
) -> Result<FederationUpdate, PushError> {
    let mut signatures: Vec<_> = member
        .keys()
        .iter()
        .map(|key| sign_update(&update, &key.member_id, key.keypair()))
        .collect();
    for other in others {
        signatures.push(alys_stream_protocol::session::MemberSignature {
            member_id: other.member_id.clone(),
            signature: unhex("signatures.signature", &other.signature)?,
        });
    }
    update.update_signature = SignatureSet { signatures }.encode_to_vec().into();
    Ok(update)
}

fn signatures_of(payload: &Payload) -> Vec<Signed> {
    let Payload::FederationUpdate(update) = payload else {
        return Vec::new();
    };
    let set = SignatureSet::decode(update.update_signature.clone()).unwrap_or_default();
    set.signatures
        .into_iter()
        .map(|signature| Signed {
            member_id: signature.member_id,
            signature: hex::encode(&signature.signature),
        })
        .collect()
}

fn unhex(field: &'static str, text: &str) -> Result<Bytes, PushError> {
    hex::decode(text).map(Bytes::from).map_err(|_| PushError::Hex { field })
}
