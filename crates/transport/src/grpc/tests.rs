//! The driver against real sockets: peers of both dialects, and peers that are none.

mod endpoints;
mod plain;
mod sessions;
mod slow;
mod trust;
mod walks;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use alys_stream_protocol::governance::{
    CapabilitiesRequest, CapabilitiesResponse, HeartbeatAck, NodeRegistrationAck, ResponseMetadata,
    StatusCode, StreamRequest, StreamResponse, stream_request, stream_response,
};
use alys_stream_protocol::message::{MessageKind, Seq};
use alys_stream_protocol::session::Frame;
use alys_stream_protocol::time::{SystemClock, UnixMillis};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::*;
use crate::connection::StateKind;
use crate::endpoint::Insecure;
use crate::exchange::Exchange;
use crate::session::credential::SessionAuth;
use crate::session::driver::tests::{Memory, until};
use crate::session::driver::{self, FRAMES_OUT_MAX, SessionParts};
use crate::session::features::{self, Features};
use crate::session::handshake::{Acceptance, Limits, accepted_terms, read_hello, welcome};
use crate::session::{FEATURE, Session, SessionConfig};
use crate::tls;
use crate::tls::tests::Authority;

type HttpBody = tonic::body::Body;

/// A governance node in miniature: it stores in memory and knows one node.
#[derive(Clone)]
struct Peer {
    sessions: bool,
    exchange: Arc<Memory>,
    shutdown: CancellationToken,
}

impl tonic::server::UnaryService<CapabilitiesRequest> for Peer {
    type Response = CapabilitiesResponse;
    type Future = BoxFuture<'static, Result<Response<CapabilitiesResponse>, Status>>;

    fn call(&mut self, _request: Request<CapabilitiesRequest>) -> Self::Future {
        let features = if self.sessions { vec![FEATURE.to_owned()] } else { vec![] };
        let answer = CapabilitiesResponse { features, ..Default::default() };
        async move { Ok(Response::new(answer)) }.boxed()
    }
}

#[derive(Clone)]
struct Sessions(Peer);

impl tonic::server::StreamingService<Frame> for Sessions {
    type Response = Frame;
    type ResponseStream = BoxStream<'static, Result<Frame, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Frame>>) -> Self::Future {
        let (peer, mut frames_in) = (self.0.clone(), request.into_inner());
        let (frames_out, outgoing) = mpsc::channel(FRAMES_OUT_MAX);
        let session = async move {
            let hello = read_hello(frames_in.message().await.unwrap().unwrap()).unwrap();
            let exchange = Arc::clone(&peer.exchange);
            let _turn = exchange.turn.lock().await;
            let acceptance = Acceptance {
                session_id: "session-1".into(),
                peer_id: "gov-1".into(),
                local: peer.exchange.local(),
                cursor: peer.exchange.receive_cursor(hello.log_id),
                limits: Limits::default(),
                heartbeat_interval: Duration::from_secs(15),
                features: features::chosen(&hello.features, Features::ALL),
                server_time: UnixMillis(1),
                software: "test/1".into(),
            };
            let terms = accepted_terms(&hello, &acceptance);
            exchange.established(&hello.peer_log(exchange.local().log_id)).unwrap();
            frames_out.send(welcome(&acceptance)).await.unwrap();
            let now = tokio::time::Instant::now().into_std();
            let (_orders, controls) = mpsc::channel(1);
            let parts = SessionParts {
                session: Session::new(now, terms, SessionConfig::default()),
                exchange: peer.exchange,
                observer: Arc::new(driver::Unobserved),
                clock: Arc::new(SystemClock),
                auth: SessionAuth::none(),
                controls,
                shutdown: peer.shutdown,
                drain: Duration::from_secs(1),
            };
            driver::run(parts, frames_in, frames_out).await;
        };
        answer_while(session, outgoing)
    }
}

#[derive(Clone)]
struct Plainly(Peer);

impl tonic::server::StreamingService<StreamRequest> for Plainly {
    type Response = StreamResponse;
    type ResponseStream = BoxStream<'static, Result<StreamResponse, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    /// Acknowledges the registration and heartbeats, and nothing else.
    fn call(&mut self, request: Request<Streaming<StreamRequest>>) -> Self::Future {
        let (peer, mut requests) = (self.0.clone(), request.into_inner());
        let (answers, outgoing) = mpsc::channel(4);
        let work = async move {
            while let Ok(Some(request)) = requests.message().await {
                let request_id = request.request_id().to_owned();
                let payload = match request.payload {
                    Some(stream_request::Payload::NodeRegistration(_)) => {
                        let ack = NodeRegistrationAck { accepted: true, ..Default::default() };
                        stream_response::Payload::RegistrationAck(ack)
                    }
                    Some(stream_request::Payload::Heartbeat(heartbeat)) => {
                        let sequence = heartbeat.sequence;
                        let ack = HeartbeatAck { sequence, ..Default::default() };
                        stream_response::Payload::HeartbeatAck(ack)
                    }
                    Some(_) | None => {
                        crate::lock(&peer.exchange.received).push(1);
                        continue;
                    }
                };
                let status = StatusCode::Success.into();
                let node_id = "gov-1".to_owned();
                let metadata =
                    ResponseMetadata { request_id, status, node_id, ..Default::default() };
                let answer = StreamResponse { metadata: Some(metadata), payload: Some(payload) };
                if answers.send(answer).await.is_err() {
                    break;
                }
            }
        };
        answer_while(work, outgoing)
    }
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// A response stream that also drives the work which feeds it.
fn answer_while<T: Send + 'static>(
    work: impl Future<Output = ()> + Send + 'static,
    outgoing: mpsc::Receiver<T>,
) -> BoxFuture<'static, Result<Response<Answers<T>>, Status>> {
    let working = futures::stream::once(work).filter_map(|()| async { None });
    let stream = futures::stream::select(working, ReceiverStream::new(outgoing).map(Ok)).boxed();
    async move { Ok(Response::new(stream)) }.boxed()
}

macro_rules! service {
    ($name:ident, $path:literal) => {
        #[derive(Clone)]
        struct $name(Peer);

        impl tonic::server::NamedService for $name {
            const NAME: &'static str = $path;
        }

        impl tower::Service<http::Request<HttpBody>> for $name {
            type Response = http::Response<HttpBody>;
            type Error = Infallible;
            type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<HttpBody>) -> Self::Future {
                let peer = self.0.clone();
                async move { Ok(dispatch(peer, request).await) }.boxed()
            }
        }
    };
}

service!(GovernanceService, "governance.v1.GovernanceStream");
service!(SessionService, "alys.stream.v1.StreamService");

async fn dispatch(peer: Peer, request: http::Request<HttpBody>) -> http::Response<HttpBody> {
    match request.uri().path() {
        "/governance.v1.GovernanceStream/GetCapabilities" => {
            let codec = ProstCodec::<CapabilitiesResponse, CapabilitiesRequest>::default();
            tonic::server::Grpc::new(codec).unary(peer, request).await
        }
        "/governance.v1.GovernanceStream/Stream" => {
            let codec = ProstCodec::<StreamResponse, StreamRequest>::default();
            tonic::server::Grpc::new(codec).streaming(Plainly(peer), request).await
        }
        "/alys.stream.v1.StreamService/Open" if peer.sessions => {
            let codec = ProstCodec::<Frame, Frame>::default();
            tonic::server::Grpc::new(codec).streaming(Sessions(peer), request).await
        }
        _ => Status::unimplemented("").into_http(),
    }
}

/// Serves a peer until the set is dropped.
async fn serve(tasks: &mut JoinSet<()>, peer: Peer) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tasks.spawn(async move {
        tonic::transport::Server::builder()
            .add_service(GovernanceService(peer.clone()))
            .add_service(SessionService(peer))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
    address
}

/// A peer that says something else to whoever connects.
async fn foreign(tasks: &mut JoinSet<()>, says: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut kept: Vec<TcpStream> = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut heard = [0; 1024];
            let read = socket.read(&mut heard).await;
            let said = socket.write_all(says).await;
            if read.is_ok() && said.is_ok() {
                kept.push(socket);
            }
        }
    });
    address
}

struct Driven {
    handle: EndpointHandle,
    exchange: Arc<Memory>,
    shutdown: CancellationToken,
}

fn drive(
    tasks: &mut JoinSet<()>,
    config: EndpointConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
    exchange: Arc<Memory>,
) -> Driven {
    drive_with(tasks, config, tls, exchange, EndpointSettings::default())
}

fn drive_with(
    tasks: &mut JoinSet<()>,
    config: EndpointConfig,
    tls: Option<Arc<rustls::ClientConfig>>,
    exchange: Arc<Memory>,
    settings: EndpointSettings,
) -> Driven {
    let shutdown = CancellationToken::new();
    let identity = NodeIdentity {
        node_id: "node-1".into(),
        software: "test/1".into(),
        public_key: "02".repeat(33),
        node_type: NodeType::Bridge,
        region: None,
        auth: None,
    };
    let parts = EndpointParts {
        config,
        identity,
        tls,
        exchange: Arc::clone(&exchange),
        observer: Arc::new(Unobserved),
        clock: Arc::new(SystemClock),
        seed: 1,
        settings,
        shutdown: shutdown.clone(),
    };
    let (driver, handle) = EndpointDriver::try_new(parts).unwrap();
    tasks.spawn(driver.run());
    Driven { handle, exchange, shutdown }
}

fn plaintext(address: SocketAddr) -> EndpointConfig {
    let insecure = Some(Insecure::Plaintext);
    let url = format!("http://{address}").parse().unwrap();
    EndpointConfig { insecure, ..EndpointConfig::new("one", url) }
}

async fn wait_for(
    handle: &EndpointHandle,
    what: impl FnMut(&EndpointStatus) -> bool,
) -> EndpointStatus {
    let mut status = handle.status();
    let found = tokio::time::timeout(Duration::from_secs(20), status.wait_for(what)).await;
    found.expect("in time").expect("the driver runs").clone()
}

/// The error that the endpoint shows, without the port.
async fn failure(config: EndpointConfig, tls: Option<Arc<rustls::ClientConfig>>) -> String {
    let mut tasks = JoinSet::new();
    let port = config.url.port().to_string();
    let driven = drive(&mut tasks, config, tls, Memory::with(0, 0));
    let status = wait_for(&driven.handle, |status| status.last_error.is_some()).await;
    assert_eq!(status.state, StateKind::Failed);
    assert!(status.retry_at_ms.is_some(), "T30");
    status.last_error.unwrap().replace(&port, "PORT")
}

#[tokio::test]
async fn peers_that_are_none_are_named() {
    let mut tasks = JoinSet::new();
    let http1 = foreign(&mut tasks, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    expect_test::expect!["capabilities: the peer does not speak HTTP/2 (it answered like HTTP/1.1); check that the port is a gRPC port"]
        .assert_eq(&failure(plaintext(http1), None).await);
    let garbage = foreign(&mut tasks, b"SSH-2.0-OpenSSH_9.9\r\n").await;
    expect_test::expect!["capabilities: the peer does not speak HTTP/2 (its first bytes are something else); check that the port is a gRPC port"]
        .assert_eq(&failure(plaintext(garbage), None).await);
    let authority = Authority::new("Test CA");
    let authorities = [authority.as_pem()];
    let client = tls::client_config(tls::Authorities::Private(&authorities), None).unwrap();
    let url = format!("https://{garbage}").parse().unwrap();
    expect_test::expect!["TLS handshake (127.0.0.1:PORT): the peer does not speak TLS (its first bytes are no TLS record); check scheme and port"]
        .assert_eq(&failure(EndpointConfig::new("one", url), Some(client)).await);
    let url = format!("https://{garbage}").parse().unwrap();
    expect_test::expect![
        "TLS handshake (127.0.0.1:PORT): TLS is not configured; name a CA, a certificate and a key"
    ]
    .assert_eq(&failure(EndpointConfig::new("one", url), None).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    expect_test::expect!["TCP connect (127.0.0.1:PORT): connection refused: nobody listens there; start the peer or check the port"]
        .assert_eq(&failure(plaintext(nobody), None).await);
}

#[tokio::test]
async fn a_missing_client_certificate_is_named_although_tls_1_3_says_it_late() {
    let authority = Authority::new("Test CA");
    let server = authority.issue("gov-1", &["localhost"]);
    let config = tls::server_config(server.identity(), &[authority.as_pem()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        while let Ok((socket, _)) = listener.accept().await {
            // The failed handshake sends its alert before it returns.
            assert!(acceptor.accept(socket).await.is_err());
        }
    });
    let authorities = [authority.as_pem()];
    let client = tls::client_config(tls::Authorities::Private(&authorities), None).unwrap();
    let url = format!("https://{address}").parse().unwrap();
    let server_name = Some("localhost".to_owned());
    let config = EndpointConfig { server_name, ..EndpointConfig::new("one", url) };
    expect_test::expect!["capabilities: a client certificate is required and none was shown; configure certificate and key"]
        .assert_eq(&failure(config, Some(client)).await);
}

#[tokio::test]
async fn a_session_delivers_both_ways_and_closes_politely() {
    let mut tasks = JoinSet::new();
    let far = Memory::with(500, 100);
    let shutdown = CancellationToken::new();
    let peer = Peer { sessions: true, exchange: Arc::clone(&far), shutdown };
    let address = serve(&mut tasks, peer).await;
    let mut drivers = JoinSet::new();
    let driven = drive(&mut drivers, plaintext(address), None, Memory::with(500, 100));
    let status = wait_for(&driven.handle, |status| status.state == StateKind::Healthy).await;
    assert_eq!(status.session_id.as_deref(), Some("session-1"));
    assert_eq!(status.peer_id.as_deref(), Some("gov-1"));
    let sides = [&driven.exchange, &far];
    for side in sides {
        until(side, |side| crate::lock(&side.acked).len() == 500).await;
    }
    for side in sides {
        assert_eq!(*crate::lock(&side.received), (1..=500).collect::<Vec<_>>());
    }
    driven.handle.reconnect_now();
    let status = wait_for(&driven.handle, |status| status.attempts == 2 && status.is_live()).await;
    let states: Vec<_> = status.history.iter().map(|t| t.new.as_str()).collect();
    assert!(
        states.windows(3).any(|w| w == ["critical", "reconnecting", "connecting"]),
        "{states:?}"
    );
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
    assert_eq!(driven.handle.status().borrow().state, StateKind::Disconnected);
    assert_eq!(driven.exchange.losses.load(Ordering::Relaxed), 2, "T1");
}

#[tokio::test]
async fn a_plain_peer_settles_by_the_heartbeat_barrier() {
    let mut tasks = JoinSet::new();
    let far = Memory::with(0, 0);
    let peer =
        Peer { sessions: false, exchange: Arc::clone(&far), shutdown: CancellationToken::new() };
    let address = serve(&mut tasks, peer).await;
    let mut drivers = JoinSet::new();
    // An empty payload is an empty `StreamRequest`: it goes out as it is.
    let near = Arc::new(Memory {
        queue: std::sync::Mutex::new((1..=100).collect()),
        kind: Some(MessageKind::PEGIN_NOTIFICATION),
        ..Memory::default()
    });
    let driven = drive(&mut drivers, plaintext(address), None, near);
    let status = wait_for(&driven.handle, |status| status.state == StateKind::Healthy).await;
    assert_eq!(status.dialect, Some(crate::endpoint::Dialect::Plain));
    assert_eq!(status.peer_id.as_deref(), Some("gov-1"));
    until(&driven.exchange, |side| crate::lock(&side.acked).len() == 100).await;
    assert_eq!(crate::lock(&far.received).len(), 100);
    assert!(crate::lock(&driven.exchange.acked).contains(&Seq(100).0));
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
    assert_eq!(driven.handle.status().borrow().state, StateKind::Disconnected);
    assert_eq!(driven.exchange.losses.load(Ordering::Relaxed), 1, "T1");
}
