//! What a message says, apart from when and by whom: identities and digests.
//!
//! Pure.

use alys_stream_protocol::governance::StreamRequest;
use alys_stream_protocol::message::{MessageId, MessageKind};
use bitcoin::hashes::{Hash as _, HashEngine as _, sha256};
use prost::Message as _;

/// Digest of what a payload asks for. Metadata is not part of it: a request that is sent again may
/// carry another timestamp.
#[must_use]
pub(crate) fn digest(
    kind: MessageKind,
    payload: &[u8],
    request: Option<&StreamRequest>,
) -> [u8; 16] {
    let mut engine = sha256::Hash::engine();
    engine.input(&kind.0.to_le_bytes());
    match request {
        Some(request) => {
            let bare = StreamRequest { metadata: None, payload: request.payload.clone() };
            engine.input(&bare.encode_to_vec());
        }
        None => engine.input(payload),
    }
    first_half(engine)
}

/// The message id behind a `request_id`: the id itself when it is one, else one derived from the
/// text and the node, so that clients may use texts of their own.
#[must_use]
pub(crate) fn message_id(node_id: &str, request_id: &str) -> MessageId {
    request_id
        .parse()
        .unwrap_or_else(|_| derived("request", &[node_id.as_bytes(), request_id.as_bytes()]))
}

/// The message id of an answer: the same for the same answer, so that answering again after a crash
/// adds nothing.
#[must_use]
pub(crate) fn answer_id(own_id: &str, node_id: &str, request: MessageId, status: i32) -> MessageId {
    let parts = [own_id.as_bytes(), node_id.as_bytes(), request.as_bytes(), &status.to_le_bytes()];
    derived("answer", &parts)
}

/// The message id of a push to one node.
#[must_use]
pub(crate) fn push_id(push: MessageId, node_id: &str) -> MessageId {
    derived("push", &[push.as_bytes(), node_id.as_bytes()])
}

fn derived(purpose: &str, parts: &[&[u8]]) -> MessageId {
    let mut engine = sha256::Hash::engine();
    engine.input(b"alys-stream-governance/");
    engine.input(purpose.as_bytes());
    for part in parts {
        engine.input(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        engine.input(part);
    }
    MessageId::new(first_half(engine))
}

fn first_half(engine: sha256::HashEngine) -> [u8; 16] {
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::governance::{RequestMetadata, StatusUpdate, stream_request};

    use super::*;

    #[test]
    fn an_id_is_taken_as_it_is_and_a_text_becomes_one() {
        let id = MessageId::new([7; 16]);
        assert_eq!(message_id("node", &id.to_string()), id);
        assert_eq!(message_id("node", "request 1"), message_id("node", "request 1"));
        assert_ne!(message_id("node", "request 1"), message_id("other", "request 1"));
    }

    #[test]
    fn metadata_is_not_content() {
        let with = |timestamp, block_height| StreamRequest {
            metadata: Some(RequestMetadata { timestamp, ..RequestMetadata::default() }),
            payload: Some(stream_request::Payload::StatusUpdate(StatusUpdate {
                block_height,
                ..StatusUpdate::default()
            })),
        };
        let of = |request: &StreamRequest| digest(MessageKind::STATUS_UPDATE, &[], Some(request));
        assert_eq!(of(&with(1, 5)), of(&with(2, 5)));
        assert_ne!(of(&with(1, 5)), of(&with(1, 6)));
    }
}
