//! The plain dialect, as a client of other tools would use it.

use std::collections::BTreeSet;

use alys_stream_governance::read_ledger;
use alys_stream_protocol::governance::{
    CapabilitiesRequest, CapabilitiesResponse, ErrorCode, HealthRequest, HealthResponse,
    HealthStatus, SignatureResponse, SignatureStatus, StatusCode, StreamResponse, stream_request,
    stream_response::Payload,
};
use alys_stream_protocol::signing::SigningTask;

use crate::client::{Plain, connect, open_plain, unary};
use crate::requests::{
    heartbeat, id, pegin, registration, request, signature_request, status_update,
};
use crate::world::{World, stop};

async fn registered(world: &World, running: &alys_stream_governance::Running) -> Plain {
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    let mut stream = open_plain(&channel).await;
    let ack = stream.ask(registration()).await;
    assert!(
        matches!(ack.payload, Some(Payload::RegistrationAck(ref ack)) if ack.accepted),
        "{ack:?}"
    );
    stream
}

#[track_caller]
fn status_of(response: &StreamResponse) -> StatusCode {
    StatusCode::try_from(response.metadata.as_ref().unwrap().status).unwrap()
}

#[track_caller]
fn signature_of(response: StreamResponse) -> SignatureResponse {
    match response.payload {
        Some(Payload::SignatureResponse(response)) => response,
        other => panic!("not a signature response: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_gets_its_answer() {
    let world = World::new();
    let running = world.start().await;
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();

    let health: HealthResponse =
        unary(&channel, "/governance.v1.GovernanceStream/Health", HealthRequest::default())
            .await
            .unwrap();
    assert_eq!(health.status, i32::from(HealthStatus::Healthy));
    let asked = CapabilitiesRequest { node_id: "alys-1".to_owned() };
    let capabilities: CapabilitiesResponse =
        unary(&channel, "/governance.v1.GovernanceStream/GetCapabilities", asked).await.unwrap();
    assert_eq!(capabilities.features, ["alys.stream.v1"]);

    let mut stream = open_plain(&channel).await;
    let early = stream.ask(request(&id(), status_update())).await;
    assert_eq!(status_of(&early), StatusCode::Unauthorized);
    let ack = stream.ask(registration()).await;
    assert_eq!(status_of(&ack), StatusCode::Success);

    for payload in [status_update(), pegin(5_000)] {
        let request_id = id();
        let response = stream.ask(request(&request_id, payload)).await;
        assert_eq!(response.payload, None);
        assert_eq!(response.metadata.as_ref().unwrap().request_id, request_id);
        assert_eq!(status_of(&response), StatusCode::Success);
    }
    let beat = stream.ask(heartbeat(42)).await;
    assert!(matches!(beat.payload, Some(Payload::HeartbeatAck(ack)) if ack.sequence == 42));

    let mut invalid = pegin(0);
    if let stream_request::Payload::PeginNotification(pegin) = &mut invalid {
        pegin.btc_txid = "zz".to_owned();
    }
    let refused = stream.ask(request(&id(), invalid)).await;
    assert_eq!(status_of(&refused), StatusCode::Error);
    let Some(Payload::ErrorResponse(error)) = refused.payload else { panic!("no error") };
    assert_eq!(error.error_code, i32::from(ErrorCode::InvalidRequest));
    assert!(error.error_message.contains("btc_txid"), "{}", error.error_message);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_verify_for_every_input() {
    let world = World::new();
    let running = world.start().await;
    let mut stream = registered(&world, &running).await;
    let federation = world.federation();

    let asked = signature_request(&federation, 3, 2);
    let task = SigningTask::try_new(&asked, &federation).unwrap();
    let answer =
        stream.ask(request(&id(), stream_request::Payload::SignatureRequest(asked.clone()))).await;
    let answer = signature_of(answer);
    assert_eq!(answer.status, i32::from(SignatureStatus::Partial), "one key of two is not enough");
    assert_eq!(answer.partial_signatures.len(), 1);
    assert_eq!(answer.partial_signatures[0].signer_id, "gov-1");
    let inputs: BTreeSet<usize> = answer
        .signatures
        .iter()
        .map(|witness| task.attribute(witness).expect("verifies").input)
        .collect();
    assert_eq!(inputs, BTreeSet::from([0, 1, 2]));

    let mut impossible = asked.clone();
    impossible.input_indices = vec![0, 1, 9];
    let failed =
        stream.ask(request(&id(), stream_request::Payload::SignatureRequest(impossible))).await;
    let failed = signature_of(failed);
    assert_eq!(failed.status, i32::from(SignatureStatus::Failed));
    assert!(
        failed.failure_reason.is_some_and(|reason| !reason.is_empty())
            && failed.signatures.is_empty()
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_and_late_requests_are_answered_truthfully() {
    let world = World::with_extra("misbehave: { delay_ms: 300 }\n");
    let running = world.start().await;
    let mut stream = registered(&world, &running).await;
    let mut asked = signature_request(&world.federation(), 1, 2);
    let ask = |asked| request(&id(), stream_request::Payload::SignatureRequest(asked));

    let pending = signature_of(stream.ask(ask(asked.clone())).await);
    assert_eq!(pending.status, i32::from(SignatureStatus::Pending));
    assert!(pending.signatures.is_empty());
    let partial = signature_of(stream.hear().await);
    assert_eq!(partial.status, i32::from(SignatureStatus::Partial));

    let patch = serde_json::json!({ "delay_ms": 60_000 });
    crate::admin::post(running.admin_addr(), "/misbehave", &patch).await;
    asked.timeout_seconds = Some(1);
    let pending = signature_of(stream.ask(ask(asked)).await);
    assert_eq!(pending.status, i32::from(SignatureStatus::Pending));
    let late = signature_of(stream.hear().await);
    assert_eq!(late.status, i32::from(SignatureStatus::Timeout));
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_is_applied_once_also_across_a_restart() {
    let world = World::new();
    let running = world.start().await;
    let mut stream = registered(&world, &running).await;
    let request_id = id();
    let signature =
        stream_request::Payload::SignatureRequest(signature_request(&world.federation(), 1, 2));
    for _ in 0..2 {
        let ack = stream.ask(request(&request_id, pegin(5_000))).await;
        assert_eq!(status_of(&ack), StatusCode::Success);
    }
    let first =
        signature_of(stream.ask(request("request of other tools", signature.clone())).await);
    stop(running).await;

    let running = world.start().await;
    let mut stream = registered(&world, &running).await;
    let again = stream.ask(request(&request_id, pegin(5_000))).await;
    assert_eq!(status_of(&again), StatusCode::Success);
    let conflict = stream.ask(request(&request_id, pegin(6_000))).await;
    assert_eq!(status_of(&conflict), StatusCode::Error);
    let second = signature_of(stream.ask(request("request of other tools", signature)).await);
    assert_eq!(first, second);
    let shown = crate::admin::get(running.admin_addr(), "/ledger").await;
    assert_eq!(shown["applied"]["messages"], 2, "{shown}");
    assert_eq!(shown["applied"]["twice"], 0);
    stop(running).await;

    let ledger = read_ledger(&world.data_dir()).unwrap();
    assert_eq!(ledger.len(), 2);
    assert!(ledger.iter().all(|(_, count)| *count == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_of_two_hundred_is_acknowledged_after_all_before_it() {
    let world = World::new();
    let running = world.start().await;
    let mut stream = registered(&world, &running).await;
    let requests = stream.requests.clone();
    let sending = async {
        for amount in 1..=200 {
            requests.send(request(&id(), pegin(amount))).await.unwrap();
        }
        requests.send(heartbeat(1)).await.unwrap();
    };
    let hearing = async {
        for _ in 1..=200 {
            assert_eq!(stream.hear().await.payload, None);
        }
        assert!(matches!(stream.hear().await.payload, Some(Payload::HeartbeatAck(_))));
    };
    tokio::join!(sending, hearing);
    stop(running).await;
    assert_eq!(read_ledger(&world.data_dir()).unwrap().len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_has_said_all_still_gets_its_answers() {
    let world = World::with_extra("misbehave: { delay_ms: 200 }\n");
    let running = world.start().await;
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    let Plain { requests, mut responses } = open_plain(&channel).await;
    let asked =
        stream_request::Payload::SignatureRequest(signature_request(&world.federation(), 1, 2));
    requests.send(registration()).await.unwrap();
    requests.send(request(&id(), asked)).await.unwrap();
    drop(requests);
    let mut answers = Vec::new();
    while let Some(answer) = responses.message().await.unwrap() {
        answers.push(answer);
    }
    assert_eq!(answers.len(), 3, "registration, PENDING, PARTIAL: {answers:?}");
    let last = signature_of(answers.pop().unwrap());
    assert_eq!(last.status, i32::from(SignatureStatus::Partial));
    stop(running).await;
}
