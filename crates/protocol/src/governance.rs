//! The published contract `governance.v1`: the generated messages, and what belongs to them.
//!
//! Not their meaning: [`crate::validate`] says which values are acceptable. Enumerations are open:
//! an unknown number is kept as it came and refused by validation, never a panic.
//!
//! Invariants:
//! - P4: credentials and session tokens never appear in `Debug` output.

use std::fmt;

use crate::message::{self, MessageKind};

mod generated;

pub use generated::*;

/// A priority that means nothing: unset, or a number this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPriority {
    /// It was left at 0.
    #[error("the priority is unspecified (expected 1 low, 2 normal, 3 high or 4 critical)")]
    Unspecified,
    /// Not a known number.
    #[error("{0} is not a priority (expected 1 low, 2 normal, 3 high or 4 critical)")]
    Unknown(i32),
}

impl From<message::Priority> for RequestPriority {
    fn from(priority: message::Priority) -> Self {
        match priority {
            message::Priority::Low => Self::Low,
            message::Priority::Normal => Self::Normal,
            message::Priority::High => Self::High,
            message::Priority::Critical => Self::Critical,
        }
    }
}

impl TryFrom<RequestPriority> for message::Priority {
    type Error = InvalidPriority;

    fn try_from(priority: RequestPriority) -> Result<Self, InvalidPriority> {
        match priority {
            RequestPriority::Unspecified => Err(InvalidPriority::Unspecified),
            RequestPriority::Low => Ok(Self::Low),
            RequestPriority::Normal => Ok(Self::Normal),
            RequestPriority::High => Ok(Self::High),
            RequestPriority::Critical => Ok(Self::Critical),
        }
    }
}

impl RequestPriority {
    /// Reads the number of a `priority` field.
    ///
    /// # Errors
    ///
    /// When it is unspecified or unknown.
    pub fn try_from_wire(number: i32) -> Result<message::Priority, InvalidPriority> {
        Self::try_from(number).map_err(|_| InvalidPriority::Unknown(number))?.try_into()
    }
}

impl StreamRequest {
    /// What the payload is; `None` when there is none.
    #[must_use]
    pub fn kind(&self) -> Option<MessageKind> {
        use stream_request::Payload;
        self.payload.as_ref().map(|payload| match payload {
            Payload::NodeRegistration(_) => MessageKind::NODE_REGISTRATION,
            Payload::SignatureRequest(_) => MessageKind::SIGNATURE_REQUEST,
            Payload::PeginNotification(_) => MessageKind::PEGIN_NOTIFICATION,
            Payload::StatusUpdate(_) => MessageKind::STATUS_UPDATE,
            Payload::Heartbeat(_) => MessageKind::HEARTBEAT,
        })
    }

    /// The request id; empty when the metadata are missing.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| &metadata.request_id)
    }
}

impl StreamResponse {
    /// What the payload is; without one it is a bare acknowledgement.
    #[must_use]
    pub const fn kind(&self) -> MessageKind {
        use stream_response::Payload;
        match &self.payload {
            None => MessageKind::ACKNOWLEDGEMENT,
            Some(Payload::RegistrationAck(_)) => MessageKind::REGISTRATION_ACK,
            Some(Payload::SignatureResponse(_)) => MessageKind::SIGNATURE_RESPONSE,
            Some(Payload::FederationUpdate(_)) => MessageKind::FEDERATION_UPDATE,
            Some(Payload::ProposalNotification(_)) => MessageKind::PROPOSAL_NOTIFICATION,
            Some(Payload::ErrorResponse(_)) => MessageKind::ERROR_RESPONSE,
            Some(Payload::HeartbeatAck(_)) => MessageKind::HEARTBEAT_ACK,
        }
    }

    /// The id of the request that it answers; empty when it answers none.
    #[must_use]
    pub fn request_id(&self) -> &str {
        self.metadata.as_ref().map_or("", |metadata| &metadata.request_id)
    }
}

impl fmt::Debug for AuthCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthCredentials")
            .field("auth_type", &self.auth_type)
            .field("credential_data", &"[redacted]")
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

impl fmt::Debug for NodeRegistrationAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeRegistrationAck")
            .field("accepted", &self.accepted)
            .field("assigned_node_id", &self.assigned_node_id)
            .field("session_token", &self.session_token.as_ref().map(|_| "[redacted]"))
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn priorities_map_by_number() {
        for priority in message::Priority::ALL {
            let wire = RequestPriority::from(priority);
            assert_eq!(wire as usize, priority.index() + 1);
            assert_eq!(RequestPriority::try_from_wire(wire.into()), Ok(priority));
        }
        assert_eq!(RequestPriority::try_from_wire(0), Err(InvalidPriority::Unspecified));
        assert_eq!(RequestPriority::try_from_wire(9), Err(InvalidPriority::Unknown(9)));
    }

    #[test]
    fn secrets_are_not_shown() {
        let auth = AuthCredentials {
            auth_type: AuthType::Bearer.into(),
            credential_data: Bytes::from_static(b"hunter2"),
            expires_at: None,
        };
        let ack = NodeRegistrationAck {
            session_token: Some("hunter2".into()),
            ..NodeRegistrationAck::default()
        };
        let registration = NodeRegistration { auth: Some(auth), ..NodeRegistration::default() };
        let shown = format!("{registration:?} {ack:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("104, 117"), "{shown}");
    }
}
