//! Answers to signature requests, also to those that are not in memory.

use alys_stream_protocol::governance::{
    ResponseMetadata, SignatureResponse, SignatureStatus, StreamRequest, StreamResponse,
    stream_request, stream_response,
};

use super::*;
use crate::collector::fixture::{keys, request, task};

pub(super) fn signature_request(number: u64) -> Message {
    let payload = stream_request::Payload::SignatureRequest(request());
    let request = StreamRequest { payload: Some(payload), ..StreamRequest::default() };
    Message {
        deadline: Some(START.saturating_add(Duration::from_secs(3600))),
        payload: request.encode_to_vec().into(),
        ..message(number, MessageKind::SIGNATURE_REQUEST.0, Priority::High)
    }
}

/// A governance node answers with what one member signs.
pub(super) fn answer(life: &Life, endpoint: EndpointId, number: u64, member: usize) -> Disposal {
    let answer = SignatureResponse {
        status: SignatureStatus::Partial.into(),
        signatures: task().sign(&keys()[member]),
        ..SignatureResponse::default()
    };
    let metadata =
        ResponseMetadata { request_id: id(number).to_string(), ..ResponseMetadata::default() };
    let response = StreamResponse {
        metadata: Some(metadata),
        payload: Some(stream_response::Payload::SignatureResponse(answer)),
    };
    life.delivery.deliver(
        Source::Plain(endpoint.0),
        MessageKind::SIGNATURE_RESPONSE,
        response,
        Origin::Passing(&Bytes::new()),
    )
}

#[tokio::test]
async fn an_answer_finds_a_request_that_is_not_in_memory() {
    let site = Site::new(2, Bounds::default());
    let life = site.start().await;
    life.accept((0..2).map(signature_request).collect()).await;
    assert_eq!(life.delivery.signatures_open(), 0, "nobody is there to be asked");
    // Sent by the process before, answered to this one.
    assert_eq!(answer(&life, ONE, 1, 0), Disposal::Kept);
    assert_eq!(life.delivery.signatures_open(), 1);
    life.stop().await;

    let life = site.start().await;
    assert_eq!(answer(&life, ONE, 1, 0), Disposal::Kept);
    assert_eq!(answer(&life, EndpointId(1), 1, 2), Disposal::Kept);
    assert_eq!(life.ended(id(1)).await, OutcomeState::Complete);
    assert_eq!(answer(&life, EndpointId(1), 1, 1), Disposal::Handled, "it is over");
    assert_eq!(answer(&life, ONE, 7, 1), Disposal::Handled, "never asked");
    life.connect(ONE);
    assert_eq!(life.batch(ONE).await, [Seq(1)], "what is signed is not asked for");
    assert_eq!(life.delivery.signatures_open(), 1);
    life.stop().await;

    let life = site.start().await;
    assert_eq!(life.ended(id(1)).await, OutcomeState::Complete);
    // Nobody answered the other one in time.
    site.clock.pass(Duration::from_secs(3601));
    life.delivery.handle_time();
    assert_eq!(life.ended(id(0)).await, OutcomeState::TimedOut);
    assert_eq!(answer(&life, ONE, 0, 0), Disposal::Handled);
    life.stop().await;
}
