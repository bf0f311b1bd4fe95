//! The admin server, and misbehaviour through it.

use std::net::SocketAddr;

use alys_stream_protocol::governance::{StatusCode, stream_request, stream_response::Payload};
use alys_stream_protocol::signing::SigningTask;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{connect, open_plain};
use crate::requests::{id, pegin, registration, request, signature_request};
use crate::world::{World, stop};

/// One HTTP request; returns status line and body.
pub(crate) async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Value {
    serde_json::from_str(&http(address, "GET", path, "").await.1).unwrap()
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &Value) -> Value {
    let (status, text) = http(address, "POST", path, &body.to_string()).await;
    assert!(status.contains("200"), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_shows_itself() {
    let world = World::new();
    let running = world.start().await;
    let admin = running.admin_addr();
    for path in ["/healthz", "/readyz", "/health", "/ready"] {
        assert!(http(admin, "GET", path, "").await.0.contains("200"), "{path}");
    }
    assert_eq!(get(admin, "/status").await["node"]["signs_for"], json!(["gov-1"]));
    let metrics = http(admin, "GET", "/metrics", "").await.1;
    assert!(metrics.contains("alys_stream_governance_streams"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let (status, text) = http(admin, "POST", "/misbehave", "{\"dealy_ms\": 3}").await;
    assert!(status.contains("400") && text.contains("dealy_ms"), "{status} {text}");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_misbehaves_as_told_on_live_plain_streams() {
    let world = World::new();
    let running = world.start().await;
    let admin = running.admin_addr();
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    let mut stream = open_plain(&channel).await;
    stream.ask(registration()).await;
    let status = |response: &alys_stream_protocol::governance::StreamResponse| {
        response.metadata.as_ref().unwrap().status
    };

    post(admin, "/misbehave", &json!({"refuse": {"retryable": {"after_ms": 2000}}})).await;
    let refused = stream.ask(request(&id(), pegin(1))).await;
    assert_eq!(status(&refused), i32::from(StatusCode::ServiceUnavailable));
    let Some(Payload::ErrorResponse(error)) = refused.payload else { panic!("no error") };
    assert_eq!(error.retry_info.unwrap().retry_after, 2);
    post(admin, "/misbehave", &json!({"refuse": "terminal"})).await;
    assert_eq!(status(&stream.ask(request(&id(), pegin(1))).await), i32::from(StatusCode::Error));

    post(admin, "/misbehave", &json!({"refuse": null, "wrong_signatures": true})).await;
    let asked = signature_request(&world.federation(), 2, 2);
    let task = SigningTask::try_new(&asked, &world.federation()).unwrap();
    let answer = stream.ask(request(&id(), stream_request::Payload::SignatureRequest(asked))).await;
    let Some(Payload::SignatureResponse(answer)) = answer.payload else { panic!("no signatures") };
    assert_eq!(answer.signatures.len(), 2);
    assert!(answer.signatures.iter().all(|witness| task.attribute(witness).is_none()));

    post(admin, "/misbehave", &json!({"close": true})).await;
    assert!(stream.responses.message().await.is_err(), "the stream was to be closed with a reason");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_pushes_is_signed_and_reaches_plain_streams() {
    let world = World::new();
    let running = world.start().await;
    let admin = running.admin_addr();
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    let mut stream = open_plain(&channel).await;
    stream.ask(registration()).await;

    let pushed =
        post(admin, "/push/federation_update", &json!({"version": 7, "effective_height": 100}))
            .await;
    assert_eq!(pushed["plain_streams"], 1);
    let Some(Payload::FederationUpdate(update)) = stream.hear().await.payload else {
        panic!("no update")
    };
    assert_eq!(alys_stream_protocol::federation::update_version(&update).unwrap(), 7);
    let set = alys_stream_protocol::session::SignatureSet::decode(update.update_signature.clone())
        .unwrap();
    assert_eq!(set.signatures.len(), 1);
    assert!(
        world.federation().verify_update(&update).is_err(),
        "one of two signatures does not suffice"
    );

    // The second member signs the same halt; together they suffice.
    let halt = post(admin, "/push/halt", &json!({"version": 8})).await;
    assert_eq!(halt["signatures"].as_array().unwrap().len(), 1);
    let Some(Payload::FederationUpdate(halt)) = stream.hear().await.payload else {
        panic!("no halt")
    };
    let second = alys_stream_protocol::federation::sign_update(&halt, "gov-2", &world.members[1]);
    let body = json!({"version": 8, "signatures": [{"member_id": "gov-2", "signature": hex::encode(&second.signature)}]});
    post(admin, "/push/halt", &body).await;
    let Some(Payload::FederationUpdate(halt)) = stream.hear().await.payload else {
        panic!("no halt")
    };
    world.federation().verify_update(&halt).unwrap();

    post(admin, "/push/proposal", &json!({})).await;
    assert!(matches!(stream.hear().await.payload, Some(Payload::ProposalNotification(_))));
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn goaway_ends_connections_but_not_their_streams() {
    let world = World::new();
    let running = world.start().await;
    let connected = || connect(running.local_addr(), world.client_tls(&world.authority));
    let mut stream = open_plain(&connected().await.unwrap()).await;
    stream.ask(registration()).await;
    post(running.admin_addr(), "/misbehave", &json!({"goaway": true})).await;
    let beat = stream.ask(crate::requests::heartbeat(1)).await;
    assert!(matches!(beat.payload, Some(Payload::HeartbeatAck(_))));
    let mut other = open_plain(&connected().await.unwrap()).await;
    other.ask(registration()).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_read_is_read_later() {
    let world = World::with_extra("misbehave: { stop_reading: true }\n");
    let running = world.start().await;
    let channel = connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    let mut stream = open_plain(&channel).await;
    stream.say(registration()).await;
    stream.say(request(&id(), pegin(1))).await;
    assert_eq!(get(running.admin_addr(), "/ledger").await["applied"]["messages"], 0);
    post(running.admin_addr(), "/misbehave", &json!({"stop_reading": false})).await;
    stream.hear().await;
    assert_eq!(stream.hear().await.payload, None);
    stop(running).await;
}
