//! Checks of what a governance node sends.

use bitcoin::secp256k1::PublicKey;

use super::{Invalid, Problem, check};
use crate::governance::{
    ErrorCode, ErrorResponse, FederationConfig, FederationMember, FederationUpdate,
    FederationUpdateType, HeartbeatAck, NodeRegistrationAck, PartialSignature,
    ProposalNotification, ProposalType, RetryInfo, SignatureResponse, SignatureStatus,
    SignatureType, WitnessData,
};
use crate::limits;

/// Checks the answer to a registration.
///
/// # Errors
///
/// The first field that is wrong.
pub fn registration_ack(ack: &NodeRegistrationAck) -> Result<(), Invalid> {
    check::optional_word("assigned_node_id", &ack.assigned_node_id, limits::NODE_ID_BYTES_MAX)?;
    let token = ack.session_token.as_ref().map_or(0, String::len);
    check::bytes("session_token", token, limits::CREDENTIAL_BYTES_MAX)?;
    check::unix_seconds("expires_at", ack.expires_at.unwrap_or_default())
}

/// Checks the answer to a signature request; not the signatures themselves, see
/// [`crate::signing::SigningTask::attribute`].
///
/// # Errors
///
/// The first field that is wrong.
pub fn signature_response(response: &SignatureResponse) -> Result<(), Invalid> {
    check::specified::<SignatureStatus>("status", response.status)?;
    check::count("signatures", response.signatures.len(), limits::SIGNATURES_MAX)?;
    check::each("signatures", &response.signatures, witness_data)?;
    check::text("failure_reason", response.failure_reason.as_deref().unwrap_or_default())?;
    let partial = &response.partial_signatures;
    check::count("partial_signatures", partial.len(), limits::SIGNATURES_MAX)?;
    check::each("partial_signatures", partial, partial_signature)
}

/// Checks the form of one signature.
///
/// # Errors
///
/// The first field that is wrong.
pub fn witness_data(witness: &WitnessData) -> Result<(), Invalid> {
    if witness.signature.is_empty() {
        return Err(Invalid::missing("signature"));
    }
    check::bytes("signature", witness.signature.len(), limits::SIGNATURE_BYTES_MAX)?;
    check::bytes("public_key", witness.public_key.len(), limits::SIGNATURE_BYTES_MAX)?;
    check::specified::<SignatureType>("sig_type", witness.sig_type)
}

/// A signer that has not signed yet has a status and no signature.
fn partial_signature(partial: &PartialSignature) -> Result<(), Invalid> {
    check::word("signer_id", &partial.signer_id, limits::NODE_ID_BYTES_MAX)?;
    check::bytes("signature", partial.signature.len(), limits::SIGNATURE_BYTES_MAX)?;
    check::specified::<SignatureStatus>("status", partial.status)
}

/// Checks the form of a federation update; not its signatures, see
/// [`crate::federation::Federation::verify_update`].
///
/// An emergency halt needs nothing but its type and its signature. Everything else needs its
/// configuration, which carries threshold and version, and a change of members the members.
///
/// # Errors
///
/// The first field that is wrong.
pub fn federation_update(update: &FederationUpdate) -> Result<(), Invalid> {
    check::specified::<FederationUpdateType>("update_type", update.update_type)?;
    check::count("members", update.members.len(), limits::FEDERATION_MEMBERS_MAX)?;
    check::each("members", &update.members, federation_member)?;
    check::unique("members", update.members.iter().map(|member| &member.member_id))?;
    if update.update_signature.is_empty() {
        return Err(Invalid::missing("update_signature"));
    }
    let signature = update.update_signature.len();
    check::bytes("update_signature", signature, limits::UPDATE_SIGNATURE_BYTES_MAX)?;
    if let Some(config) = &update.config {
        federation_config(config).map_err(|invalid| invalid.within("config"))?;
    }
    match update.update_type() {
        FederationUpdateType::MemberAdd | FederationUpdateType::MemberRemove => {
            if update.members.is_empty() {
                return Err(Invalid::missing("members"));
            }
            announces_federation(update)
        }
        FederationUpdateType::ConfigChange => announces_federation(update),
        FederationUpdateType::EmergencyHalt | FederationUpdateType::Unspecified => Ok(()),
    }
}

fn announces_federation(update: &FederationUpdate) -> Result<(), Invalid> {
    let config = update.config.as_ref().ok_or_else(|| Invalid::missing("config"))?;
    if config.signature_threshold == 0 {
        return Err(Invalid::missing("config.signature_threshold"));
    }
    if !config.parameters.contains_key("version") {
        return Err(Invalid::missing("config.parameters[\"version\"]"));
    }
    Ok(())
}

fn federation_member(member: &FederationMember) -> Result<(), Invalid> {
    check::word("member_id", &member.member_id, limits::NODE_ID_BYTES_MAX)?;
    if member.public_key.len() != 33 || PublicKey::from_slice(&member.public_key).is_err() {
        return Err(Invalid::new("public_key", Problem::PublicKey));
    }
    if member.active && member.weight == 0 {
        return Err(Invalid::missing("weight"));
    }
    Ok(())
}

fn federation_config(config: &FederationConfig) -> Result<(), Invalid> {
    let members_max = i128::try_from(limits::FEDERATION_MEMBERS_MAX).unwrap_or(i128::MAX);
    check::range("signature_threshold", config.signature_threshold, 0, members_max)?;
    check::range("member_count", config.member_count, 0, members_max)?;
    check::count("parameters", config.parameters.len(), limits::LIST_ITEMS_MAX)?;
    for (key, value) in &config.parameters {
        check::word("parameters", key, limits::WORD_BYTES_MAX)?;
        check::text("parameters", value)?;
    }
    let field = "parameters[\"version\"]";
    let Some(version) = config.parameters.get("version") else {
        return Ok(());
    };
    // `parse` alone would take a leading plus sign.
    let is_decimal = version.bytes().all(|byte| byte.is_ascii_digit());
    if is_decimal && version.parse::<u64>().is_ok() {
        return Ok(());
    }
    Err(Invalid::new(field, Problem::NotDecimal))
}

/// Checks a proposal.
///
/// # Errors
///
/// The first field that is wrong.
pub fn proposal_notification(proposal: &ProposalNotification) -> Result<(), Invalid> {
    check::word("proposal_id", &proposal.proposal_id, limits::WORD_BYTES_MAX)?;
    check::specified::<ProposalType>("proposal_type", proposal.proposal_type)?;
    let data = proposal.proposal_data.len();
    check::bytes("proposal_data", data, limits::PROPOSAL_DATA_BYTES_MAX)?;
    check::unix_seconds("voting_deadline", proposal.voting_deadline)
}

/// Checks an error that governance reports.
///
/// # Errors
///
/// The first field that is wrong.
pub fn error_response(error: &ErrorResponse) -> Result<(), Invalid> {
    check::specified::<ErrorCode>("error_code", error.error_code)?;
    check::text("error_message", &error.error_message)?;
    check::text("error_details", error.error_details.as_deref().unwrap_or_default())?;
    match &error.retry_info {
        Some(info) => retry_info(info).map_err(|invalid| invalid.within("retry_info")),
        None => Ok(()),
    }
}

fn retry_info(info: &RetryInfo) -> Result<(), Invalid> {
    check::range("retry_after", info.retry_after, 0, i32::MAX)?;
    check::range("max_retries", info.max_retries, 0, i32::MAX)?;
    check::range("current_attempt", info.current_attempt, 0, i32::MAX)
}

/// Checks the answer to a heartbeat.
///
/// # Errors
///
/// The first field that is wrong.
pub fn heartbeat_ack(ack: &HeartbeatAck) -> Result<(), Invalid> {
    check::unix_seconds("original_timestamp", ack.original_timestamp)?;
    check::unix_seconds("ack_timestamp", ack.ack_timestamp)
}
