//! What arrives: decoded within bounds, past the gate, checked, stored once, handed on.

use std::time::Duration;

use alys_stream_messaging::inbox::InboxRecord;
use alys_stream_messaging::router::{Router, UnknownKind};
use alys_stream_protocol::governance::{ErrorCode, StreamResponse};
use alys_stream_protocol::message::{LogId, Message, MessageKind, Seq};
use alys_stream_protocol::validate::{self, Invalid};
use alys_stream_transport::exchange::{InboundRecord, NackKind, ReceiveError, Verdict};
use bytes::Bytes;
use prost::Message as _;

use super::EndpointExchange;
use crate::collector::Source;
use crate::delivery::{Disposal, Origin};
use crate::failure::{Classified, Context, FailureKind};
use crate::gate::{Gate, GateRefusal};

/// When a peer sends again what found no room: an actor that is started again is back by then.
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// Something that arrived and is not taken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(super) enum NotTaken {
    /// Governance does not send this kind, or nobody here takes it.
    #[error(transparent)]
    Kind(UnknownKind),
    /// Its bytes are no message.
    #[error("payload: not a StreamResponse ({0})")]
    Garbled(prost::DecodeError),
    /// Another kind is inside than the one that is announced.
    #[error("kind: {announced} is announced, {inside} is inside")]
    Mislabelled {
        /// What the record says.
        announced: u32,
        /// What it is.
        inside: u32,
    },
    /// It is not let in.
    #[error(transparent)]
    Gate(GateRefusal),
    /// A field is missing or out of bounds.
    #[error(transparent)]
    Invalid(Invalid),
}

impl Classified for NotTaken {
    fn kind(&self) -> FailureKind {
        match self {
            Self::Kind(unknown) => unknown.kind(),
            Self::Garbled(_) | Self::Mislabelled { .. } => FailureKind::InboundInvalid,
            Self::Gate(refusal) => refusal.kind(),
            Self::Invalid(invalid) => invalid.kind(),
        }
    }
}

impl NotTaken {
    /// What the peer is told.
    fn verdict(&self) -> Verdict {
        match self {
            Self::Gate(refusal) => refusal.verdict(),
            Self::Kind(_) | Self::Garbled(_) | Self::Mislabelled { .. } | Self::Invalid(_) => {
                Verdict::Refused {
                    kind: NackKind::Terminal,
                    code: ErrorCode::InvalidRequest as u32,
                    text: self.to_string(),
                }
            }
        }
    }
}

/// Decodes and checks what was let in before, and is in the inbox.
pub(crate) fn decode(payload: &Bytes) -> Result<(MessageKind, StreamResponse), String> {
    let response = StreamResponse::decode(payload.clone()).map_err(|error| error.to_string())?;
    let kind = validate::response(&response).map_err(|error| error.to_string())?;
    Ok((kind, response))
}

/// Looks at a record: its kind, its form, the gate, its content.
fn examine(
    router: &Router,
    gate: &dyn Gate,
    endpoint: &str,
    message: &Message,
) -> Result<(MessageKind, StreamResponse), NotTaken> {
    let announced = message.kind;
    router.inbound(announced).map_err(NotTaken::Kind)?;
    if announced.is_application() {
        // The protocol has no message of governance to an application.
        return Err(NotTaken::Kind(UnknownKind(announced)));
    }
    let payload = &message.payload;
    let response = StreamResponse::decode(payload.clone()).map_err(NotTaken::Garbled)?;
    let inside = response.kind();
    if inside != announced {
        return Err(NotTaken::Mislabelled { announced: announced.0, inside: inside.0 });
    }
    gate.admit(endpoint, inside, payload).map_err(NotTaken::Gate)?;
    let kind = validate::response(&response).map_err(NotTaken::Invalid)?;
    Ok((kind, response))
}

impl EndpointExchange {
    pub(super) async fn store(
        &self,
        peer: LogId,
        records: Vec<InboundRecord>,
    ) -> Result<Vec<Verdict>, ReceiveError> {
        let mut verdicts = Vec::with_capacity(records.len());
        let mut valid = Vec::with_capacity(records.len());
        let mut places = Vec::with_capacity(records.len());
        for InboundRecord { seq, message } in records {
            let delivery = &self.delivery;
            match examine(&delivery.router, &*delivery.gate, self.name(), &message) {
                Ok((kind, response)) if seq.is_volatile() => {
                    let origin = Origin::Passing(&message.payload);
                    _ = self.delivery.deliver(Source::Log(peer), kind, response, origin);
                    verdicts.push(Verdict::Stored);
                }
                Ok((_, response)) if !self.has_room(peer, seq, &response) => {
                    verdicts.push(busy());
                }
                Ok(_) => {
                    places.push((verdicts.len(), seq));
                    valid.push(InboxRecord { seq, message });
                    verdicts.push(Verdict::Stored);
                }
                Err(error) => {
                    self.refuse(&error, seq, &message);
                    verdicts.push(error.verdict());
                }
            }
        }
        let refused = verdicts.iter().filter(|verdict| **verdict != Verdict::Stored).count();
        let receipt = self.delivery.inbox.receive(peer, valid);
        self.delivery.count_inbound(receipt.fresh.len(), receipt.duplicates, refused);
        // Before the disk: a halt does not wait for it, and a stream that ends meanwhile takes
        // nothing along. What is lost with the disk is not acknowledged, and comes again.
        for received in receipt.fresh {
            self.delivery.dispatch(received);
        }
        let durable = self.delivery.inbox.durable(receipt.position).await;
        durable.map_err(|error| ReceiveError(error.to_string()))?;
        for (place, seq) in places {
            if self.delivery.duties.is_pending(peer, seq) {
                verdicts[place] = in_progress();
            }
        }
        Ok(verdicts)
    }

    /// Whether a record may come in: also when there is no room for more, if it is here already.
    fn has_room(&self, peer: LogId, seq: Seq, response: &StreamResponse) -> bool {
        self.delivery.duties.has_room(Some(self.endpoint), response)
            || self.delivery.inbox.has(peer, seq)
    }

    /// Classifies what is not taken, and counts it.
    fn refuse(&self, error: &NotTaken, seq: Seq, message: &Message) {
        let context = Context::endpoint(self.name()).message(seq, &message.id);
        self.delivery.failures.record(error, context);
        self.delivery.metrics.message_error(self.name(), "protocol", "any");
    }

    /// A plain peer answered or pushed something.
    pub(super) fn take_unsequenced(&self, response: StreamResponse, encoded: &Bytes) {
        let admitted = self.delivery.gate.admit(self.name(), response.kind(), encoded);
        let checked = admitted
            .map_err(NotTaken::Gate)
            .and_then(|()| validate::response(&response).map_err(NotTaken::Invalid));
        match checked {
            Ok(kind) => {
                self.delivery.count_inbound(1, 0, 0);
                let source = Source::Plain(self.endpoint.0);
                let origin = Origin::Passing(encoded);
                let _: Disposal = self.delivery.deliver(source, kind, response, origin);
            }
            Err(error) => {
                self.delivery.failures.record(&error, Context::endpoint(self.name()));
                self.delivery.count_inbound(0, 0, 1);
                self.delivery.metrics.message_error(self.name(), "protocol", "any");
            }
        }
    }
}

/// An actor does not keep up: the peer keeps the record, and sends it again later.
fn busy() -> Verdict {
    Verdict::Refused {
        kind: NackKind::Retry { after: Some(BUSY_RETRY) },
        code: ErrorCode::ServiceUnavailable as u32,
        text: "too much is waiting for the actors of this node".to_owned(),
    }
}

/// It is stored, and acknowledged once an actor has dealt with it.
fn in_progress() -> Verdict {
    Verdict::Refused { kind: NackKind::InProgress, code: 0, text: String::new() }
}
