//! Typed checks of every message of `governance.v1`, both ways.
//!
//! A message that passes has every field that its kind needs, within the bounds of
//! [`crate::limits`], in the units of the published protocol. Enumerations are open on the wire:
//! a number that this version does not know is refused here, with its number, and an unspecified
//! one is refused where the field is the point of the message.
//!
//! Not a check of truth: whether signatures verify, a transaction exists, or a sender may say what
//! it says is decided elsewhere. Messages are never changed.
//!
//! Invariants:
//! - P10: no check panics, whatever a peer sent, and its cost is linear in the size of the message
//!   (times the logarithm of the number of entries).

use std::fmt;

use crate::governance::{
    RequestMetadata, RequestPriority, ResponseMetadata, StatusCode, StreamRequest, StreamResponse,
    stream_request, stream_response,
};
use crate::limits;
use crate::message::MessageKind;

mod check;
mod request;
mod response;
mod unary;

pub use request::{
    heartbeat, node_registration, pegin_notification, signature_request, status_update,
};
pub use response::{
    error_response, federation_update, heartbeat_ack, proposal_notification, registration_ack,
    signature_response, witness_data,
};
pub use unary::{capabilities_request, capabilities_response, health_request, health_response};

/// Checks what an Alys node sends: metadata and payload.
///
/// # Errors
///
/// The first field that is wrong.
pub fn request(request: &StreamRequest) -> Result<MessageKind, Invalid> {
    let metadata = request.metadata.as_ref().ok_or_else(|| Invalid::missing("metadata"))?;
    request_metadata(metadata).map_err(|invalid| invalid.within("metadata"))?;
    let payload = request.payload.as_ref().ok_or_else(|| Invalid::missing("payload"))?;
    request_payload(payload)
}

/// Checks what a governance node sends: metadata and payload, or the bare acknowledgement.
///
/// An acknowledgement and a signature response must name the request that they answer; what
/// governance sends of its own accord need not.
///
/// # Errors
///
/// The first field that is wrong.
pub fn response(response: &StreamResponse) -> Result<MessageKind, Invalid> {
    let kind = response.kind();
    let answers = matches!(kind, MessageKind::ACKNOWLEDGEMENT | MessageKind::SIGNATURE_RESPONSE);
    match &response.metadata {
        Some(metadata) => {
            response_metadata(metadata).map_err(|invalid| invalid.within("metadata"))?;
        }
        None if answers => return Err(Invalid::missing("metadata")),
        None => {}
    }
    if answers && response.request_id().is_empty() {
        return Err(Invalid::missing("metadata.request_id"));
    }
    match &response.payload {
        Some(payload) => response_payload(payload),
        None => acknowledgement(response.metadata.as_ref()),
    }
}

/// Checks the payload of a [`StreamRequest`].
///
/// # Errors
///
/// The first field that is wrong, its path starting with the name of the payload.
pub fn request_payload(payload: &stream_request::Payload) -> Result<MessageKind, Invalid> {
    use stream_request::Payload;
    let (result, name, kind) = match payload {
        Payload::NodeRegistration(it) => {
            (node_registration(it), "node_registration", MessageKind::NODE_REGISTRATION)
        }
        Payload::SignatureRequest(it) => {
            (signature_request(it), "signature_request", MessageKind::SIGNATURE_REQUEST)
        }
        Payload::PeginNotification(it) => {
            (pegin_notification(it), "pegin_notification", MessageKind::PEGIN_NOTIFICATION)
        }
        Payload::StatusUpdate(it) => {
            (status_update(it), "status_update", MessageKind::STATUS_UPDATE)
        }
        Payload::Heartbeat(it) => (heartbeat(it), "heartbeat", MessageKind::HEARTBEAT),
    };
    result.map(|()| kind).map_err(|invalid| invalid.within(name))
}

/// Checks the payload of a [`StreamResponse`].
///
/// # Errors
///
/// The first field that is wrong, its path starting with the name of the payload.
pub fn response_payload(payload: &stream_response::Payload) -> Result<MessageKind, Invalid> {
    use stream_response::Payload;
    let (result, name, kind) = match payload {
        Payload::RegistrationAck(it) => {
            (registration_ack(it), "registration_ack", MessageKind::REGISTRATION_ACK)
        }
        Payload::SignatureResponse(it) => {
            (signature_response(it), "signature_response", MessageKind::SIGNATURE_RESPONSE)
        }
        Payload::FederationUpdate(it) => {
            (federation_update(it), "federation_update", MessageKind::FEDERATION_UPDATE)
        }
        Payload::ProposalNotification(it) => {
            (proposal_notification(it), "proposal_notification", MessageKind::PROPOSAL_NOTIFICATION)
        }
        Payload::ErrorResponse(it) => {
            (error_response(it), "error_response", MessageKind::ERROR_RESPONSE)
        }
        Payload::HeartbeatAck(it) => {
            (heartbeat_ack(it), "heartbeat_ack", MessageKind::HEARTBEAT_ACK)
        }
    };
    result.map(|()| kind).map_err(|invalid| invalid.within(name))
}

/// Checks the metadata of a request. The priority may be unspecified: it then is normal.
///
/// # Errors
///
/// The first field that is wrong.
pub fn request_metadata(metadata: &RequestMetadata) -> Result<(), Invalid> {
    check::word("request_id", &metadata.request_id, limits::REQUEST_ID_BYTES_MAX)?;
    check::unix_seconds("timestamp", metadata.timestamp)?;
    check::optional_word("node_id", &metadata.node_id, limits::NODE_ID_BYTES_MAX)?;
    check::optional_word("protocol_version", &metadata.protocol_version, limits::WORD_BYTES_MAX)?;
    check::known::<RequestPriority>("priority", metadata.priority)?;
    check::seconds("timeout", metadata.timeout)
}

/// Checks the metadata of a response. Request id and status may be empty: [`response`] knows when
/// they may not.
///
/// # Errors
///
/// The first field that is wrong.
pub fn response_metadata(metadata: &ResponseMetadata) -> Result<(), Invalid> {
    check::optional_word("request_id", &metadata.request_id, limits::REQUEST_ID_BYTES_MAX)?;
    check::unix_seconds("timestamp", metadata.timestamp)?;
    check::optional_word("node_id", &metadata.node_id, limits::NODE_ID_BYTES_MAX)?;
    check::known::<StatusCode>("status", metadata.status)?;
    check::text("message", metadata.message.as_deref().unwrap_or_default())
}

/// A bare acknowledgement says nothing but its status, so it must say that.
fn acknowledgement(metadata: Option<&ResponseMetadata>) -> Result<MessageKind, Invalid> {
    let metadata = metadata.ok_or_else(|| Invalid::missing("metadata"))?;
    check::specified::<StatusCode>("metadata.status", metadata.status)?;
    Ok(MessageKind::ACKNOWLEDGEMENT)
}

/// A field that makes a message unacceptable.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// Path of the field, such as `signature_request.amounts[2]`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl Invalid {
    fn new(field: impl fmt::Display, problem: Problem) -> Self {
        Self { field: field.to_string(), problem }
    }

    fn missing(field: &str) -> Self {
        Self::new(field, Problem::Missing)
    }

    /// The same problem, seen from the message around it.
    fn within(mut self, parent: impl fmt::Display) -> Self {
        self.field = format!("{parent}.{}", self.field);
        self
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Not there, or empty, and needed.
    #[error("is missing")]
    Missing,
    /// A number that this version knows no meaning for.
    #[error("{number} is not a known {of}")]
    UnknownNumber {
        /// The enumeration.
        of: &'static str,
        /// The number on the wire.
        number: i32,
    },
    /// Left at 0 where it is the point of the message.
    #[error("is an unspecified {of}")]
    Unspecified {
        /// The enumeration.
        of: &'static str,
    },
    /// Longer than agreed.
    #[error("has {bytes} bytes (at most {bytes_max})")]
    TooLong {
        /// How many bytes it has.
        bytes: usize,
        /// How many it may have.
        bytes_max: usize,
    },
    /// More entries than agreed.
    #[error("has {count} entries (at most {count_max})")]
    TooMany {
        /// How many it has.
        count: usize,
        /// How many it may have.
        count_max: usize,
    },
    /// Two lists that belong together differ.
    #[error("has {count} entries (expected {expected}, one for each of {of})")]
    Count {
        /// How many it has.
        count: usize,
        /// How many it should have.
        expected: usize,
        /// What they belong to.
        of: &'static str,
    },
    /// An entry that was there before.
    #[error("repeats entry {first}")]
    Duplicate {
        /// Position of the first one.
        first: usize,
    },
    /// A number outside of its range.
    #[error("{value} is out of range (expected {min} to {max})")]
    OutOfRange {
        /// The number.
        value: i128,
        /// The lowest acceptable one.
        min: i128,
        /// The highest acceptable one.
        max: i128,
    },
    /// A measurement that is not a number, infinite, or out of its range.
    #[error("{value} is not a measurement (expected {min} to {max})")]
    Measurement {
        /// The number.
        value: f32,
        /// The lowest acceptable one.
        min: f32,
        /// The highest acceptable one.
        max: f32,
    },
    /// Not hexadecimal digits.
    #[error("is not hexadecimal")]
    NotHex,
    /// Hexadecimal digits, but not as many as the field has.
    #[error("has {digits} hexadecimal digits (expected {expected})")]
    Digits {
        /// How many it has.
        digits: usize,
        /// How many it should have.
        expected: &'static str,
    },
    /// A text with control characters where a word is expected.
    #[error("contains control characters")]
    ControlCharacter,
    /// Not a point of the curve in 33 bytes.
    #[error("is not a compressed public key of 33 bytes")]
    PublicKey,
    /// Not a decimal number.
    #[error("is not a decimal number")]
    NotDecimal,
}

/// Whether a text is a W3C `traceparent` of version 00: `00-TRACE_ID-PARENT_ID-FLAGS`, lower-case
/// hexadecimal, with identifiers that are not all zero.
#[must_use]
pub fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace_id, parent_id, flags] = parts[..] else { return false };
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_id = |part: &str, digits| is_hex(part, digits) && part.bytes().any(|b| b != b'0');
    version == "00" && is_id(trace_id, 32) && is_id(parent_id, 16) && is_hex(flags, 2)
}

#[cfg(test)]
mod tests;
