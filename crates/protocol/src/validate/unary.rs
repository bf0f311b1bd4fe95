//! Checks of the two unary calls, `Health` and `GetCapabilities`.

use super::{Invalid, check};
use crate::governance::{
    CapabilitiesRequest, CapabilitiesResponse, HealthRequest, HealthResponse, HealthStatus,
};
use crate::limits;

/// Checks a question for health.
///
/// # Errors
///
/// The first field that is wrong.
pub fn health_request(request: &HealthRequest) -> Result<(), Invalid> {
    let check_type = request.check_type.as_deref().unwrap_or_default();
    check::optional_word("check_type", check_type, limits::WORD_BYTES_MAX)
}

/// Checks what a governance node says about its health; it may leave the status unspecified.
///
/// # Errors
///
/// The first field that is wrong.
pub fn health_response(response: &HealthResponse) -> Result<(), Invalid> {
    check::known::<HealthStatus>("status", response.status)?;
    check::optional_word("version", &response.version, limits::WORD_BYTES_MAX)?;
    check::range("uptime", response.uptime, 0, i64::MAX)?;
    check::count("info", response.info.len(), limits::LIST_ITEMS_MAX)?;
    for (key, value) in &response.info {
        check::word("info", key, limits::WORD_BYTES_MAX)?;
        check::text("info", value)?;
    }
    Ok(())
}

/// Checks a question for capabilities.
///
/// # Errors
///
/// The first field that is wrong.
pub fn capabilities_request(request: &CapabilitiesRequest) -> Result<(), Invalid> {
    check::optional_word("node_id", &request.node_id, limits::NODE_ID_BYTES_MAX)
}

/// Checks what a governance node says that it can do.
///
/// # Errors
///
/// The first field that is wrong.
pub fn capabilities_response(response: &CapabilitiesResponse) -> Result<(), Invalid> {
    check::words("protocol_versions", &response.protocol_versions)?;
    check::words("features", &response.features)?;
    check::count("limits", response.limits.len(), limits::LIST_ITEMS_MAX)?;
    for (key, value) in &response.limits {
        check::word("limits", key, limits::WORD_BYTES_MAX)?;
        check::range(&format!("limits[{key:?}]"), *value, 0, i32::MAX)?;
    }
    Ok(())
}
