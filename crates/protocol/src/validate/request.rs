//! Checks of what an Alys node sends.

use super::{Invalid, Problem, check};
use crate::governance::{
    AuthCredentials, AuthType, EndpointType, HealthStatus, Heartbeat, NetworkEndpoint, NodeInfo,
    NodeRegistration, NodeStatus, NodeType, PeginNotification, PerformanceMetrics,
    SignatureRequest, StatusUpdate, SyncStatus, TransactionType,
};
use crate::limits;

/// Checks a registration: who the node is must be there, credentials need not (mutual TLS may
/// have said it all).
///
/// # Errors
///
/// The first field that is wrong.
pub fn node_registration(registration: &NodeRegistration) -> Result<(), Invalid> {
    let info = registration.node_info.as_ref().ok_or_else(|| Invalid::missing("node_info"))?;
    node_info(info).map_err(|invalid| invalid.within("node_info"))?;
    check::words("capabilities", &registration.capabilities)?;
    check::count("endpoints", registration.endpoints.len(), limits::LIST_ITEMS_MAX)?;
    check::each("endpoints", &registration.endpoints, network_endpoint)?;
    match &registration.auth {
        Some(auth) => auth_credentials(auth).map_err(|invalid| invalid.within("auth")),
        None => Ok(()),
    }
}

fn node_info(info: &NodeInfo) -> Result<(), Invalid> {
    public_key_text("public_key", &info.public_key)?;
    check::specified::<NodeType>("node_type", info.node_type)?;
    check::optional_word("version", &info.version, limits::WORD_BYTES_MAX)?;
    check::optional_word(
        "region",
        info.region.as_deref().unwrap_or_default(),
        limits::WORD_BYTES_MAX,
    )
}

/// A key as text: nothing, or 32 (x-only, Ed25519), 33 (compressed) or 65 bytes.
fn public_key_text(field: &str, text: &str) -> Result<(), Invalid> {
    check::hex(field, text)?;
    match text.len() {
        0 | 64 | 66 | 130 => Ok(()),
        digits => Err(Invalid::new(field, Problem::Digits { digits, expected: "64, 66 or 130" })),
    }
}

fn network_endpoint(endpoint: &NetworkEndpoint) -> Result<(), Invalid> {
    check::word("url", &endpoint.url, limits::URL_BYTES_MAX)?;
    check::specified::<EndpointType>("endpoint_type", endpoint.endpoint_type)
}

fn auth_credentials(auth: &AuthCredentials) -> Result<(), Invalid> {
    check::specified::<AuthType>("auth_type", auth.auth_type)?;
    // With mutual TLS the certificate is the credential.
    if auth.credential_data.is_empty() && auth.auth_type() != AuthType::MutualTls {
        return Err(Invalid::missing("credential_data"));
    }
    check::bytes("credential_data", auth.credential_data.len(), limits::CREDENTIAL_BYTES_MAX)?;
    check::unix_seconds("expires_at", auth.expires_at.unwrap_or_default())
}

/// Checks a signature request, all but the transaction itself: reading that is for
/// [`crate::signing::SigningTask`].
///
/// # Errors
///
/// The first field that is wrong.
pub fn signature_request(request: &SignatureRequest) -> Result<(), Invalid> {
    transaction_text("tx_hex", &request.tx_hex)?;
    let inputs = request.input_indices.len();
    if inputs == 0 {
        return Err(Invalid::missing("input_indices"));
    }
    check::count("input_indices", inputs, limits::SIGNATURE_INPUTS_MAX)?;
    check::unique("input_indices", &request.input_indices)?;
    if request.amounts.len() != inputs {
        let problem =
            Problem::Count { count: request.amounts.len(), expected: inputs, of: "input_indices" };
        return Err(Invalid::new("amounts", problem));
    }
    check::each("amounts", &request.amounts, |amount| {
        check::range("", *amount, 0, limits::SATOSHIS_MAX)
    })?;
    check::specified::<TransactionType>("tx_type", request.tx_type)?;
    check::range(
        "required_signatures",
        request.required_signatures,
        1,
        i128::try_from(limits::FEDERATION_MEMBERS_MAX).unwrap_or(i128::MAX),
    )?;
    check::seconds("timeout_seconds", request.timeout_seconds)
}

fn transaction_text(field: &str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::missing(field));
    }
    check::bytes(field, text.len(), 2 * limits::TRANSACTION_BYTES_MAX)?;
    check::hex(field, text)?;
    if text.len() % 2 == 1 {
        let problem = Problem::Digits { digits: text.len(), expected: "an even number" };
        return Err(Invalid::new(field, problem));
    }
    Ok(())
}

/// Checks a peg-in.
///
/// # Errors
///
/// The first field that is wrong.
pub fn pegin_notification(pegin: &PeginNotification) -> Result<(), Invalid> {
    check::digits("btc_txid", &pegin.btc_txid, 64, "64")?;
    check::range("amount", pegin.amount, 1, limits::SATOSHIS_MAX)?;
    let address = &pegin.evm_address;
    let bare = address.strip_prefix("0x").or_else(|| address.strip_prefix("0X"));
    check::digits("evm_address", bare.unwrap_or(address), 40, "40")?;
    let extra = pegin.extra_data.as_ref().map_or(0, bytes::Bytes::len);
    check::bytes("extra_data", extra, limits::EXTRA_DATA_BYTES_MAX)
}

/// Checks a status update. The sync status may be unspecified: a node that is starting does not
/// know it.
///
/// # Errors
///
/// The first field that is wrong.
pub fn status_update(update: &StatusUpdate) -> Result<(), Invalid> {
    check::specified::<NodeStatus>("status", update.status)?;
    check::known::<SyncStatus>("sync_status", update.sync_status)?;
    match &update.metrics {
        Some(metrics) => performance(metrics).map_err(|invalid| invalid.within("metrics")),
        None => Ok(()),
    }
}

fn performance(metrics: &PerformanceMetrics) -> Result<(), Invalid> {
    check::measurement("cpu_usage", metrics.cpu_usage, 0.0, 100.0)?;
    check::measurement("avg_latency_ms", metrics.avg_latency_ms, 0.0, f32::MAX)
}

/// Checks a heartbeat. Its health may be unspecified: a heartbeat says that the node lives.
///
/// # Errors
///
/// The first field that is wrong.
pub fn heartbeat(heartbeat: &Heartbeat) -> Result<(), Invalid> {
    check::unix_seconds("timestamp", heartbeat.timestamp)?;
    check::known::<HealthStatus>("health", heartbeat.health)
}
