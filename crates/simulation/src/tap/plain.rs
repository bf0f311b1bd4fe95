//! Messages of the published protocol, as the tap sees them: on streams of their own, and as what a
//! session carries.

use alys_stream_protocol::governance::{
    FederationUpdateType, StreamRequest, StreamResponse, stream_request, stream_response,
};
use alys_stream_protocol::session::Record;
use prost::Message as _;

use super::Way;
use crate::journal::Fact;
use crate::net::Machine;

/// Whether a stream that begins with this is one of the published protocol, of the node that dialled.
pub(super) fn begins(bytes: &[u8], way: Way, node: Machine) -> bool {
    match way {
        Way::ToGovernance => StreamRequest::decode(bytes).is_ok_and(|request| {
            let node = node.identity();
            let is_node = |node_id: &str| node.is_some_and(|node| node_id == node.name());
            matches!(request.payload, Some(stream_request::Payload::NodeRegistration(_)))
                && request.metadata.is_some_and(|metadata| is_node(&metadata.node_id))
        }),
        Way::ToNode => StreamResponse::decode(bytes).is_ok_and(|response| {
            use stream_response::Payload::{ErrorResponse, RegistrationAck};
            matches!(response.payload, Some(RegistrationAck(_) | ErrorResponse(_)))
        }),
    }
}

/// What there is to note of a message that came after: to whom, and when by the sender's clock.
pub(super) fn fact(way: Way, (to, at_ms): (Machine, u64), bytes: &[u8]) -> Option<Fact> {
    match way {
        Way::ToGovernance => {
            let request = StreamRequest::decode(bytes).ok()?;
            // Its id is minted, and differs from run to run.
            if let Some(stream_request::Payload::NodeRegistration(_)) = request.payload {
                return None;
            }
            let id = request.metadata?.request_id.parse().ok()?;
            Some(Fact::Asked { to, at_ms, id })
        }
        Way::ToNode => {
            let response = StreamResponse::decode(bytes).ok()?;
            let stream_response::Payload::ErrorResponse(_) = response.payload? else {
                return None;
            };
            Some(Fact::Denied { to, id: response.metadata?.request_id.parse().ok()? })
        }
    }
}

/// What a governance node pushes, as the Chain calls it when it is told; empty for anything else.
pub(super) fn words(record: &Record) -> String {
    use FederationUpdateType::EmergencyHalt;
    use stream_response::Payload::{FederationUpdate, ProposalNotification};
    let payload = StreamResponse::decode(&*record.payload).ok().and_then(|it| it.payload);
    match payload {
        Some(ProposalNotification(proposal)) => format!("proposal {}", proposal.proposal_id),
        Some(FederationUpdate(update)) if update.update_type() == EmergencyHalt => {
            "halt".to_owned()
        }
        Some(FederationUpdate(update)) => {
            let config = update.config.unwrap_or_default();
            format!("update {}", config.parameters.get("version").map_or("", String::as_str))
        }
        _ => String::new(),
    }
}
