//! Sessions over real sockets: every feature over TLS, rotation, and how the dialect is chosen.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use super::*;
use crate::endpoint::Dialect;
use crate::grpc::codec::{FrameCodec, RawCodec};
use crate::session::Compression;
use crate::session::rotation::RotationConfig;

/// A TLS connection that tonic can serve.
struct Secure(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Secure {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Secure {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Secure {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// Serves a peer over TLS until the set is dropped.
pub(super) async fn serve_tls(
    tasks: &mut JoinSet<()>,
    peer: Peer,
    config: Arc<rustls::ServerConfig>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(config);
    let incoming = futures::stream::unfold((listener, acceptor), |(listener, acceptor)| async {
        let (socket, _) = listener.accept().await.unwrap();
        let secure = acceptor.accept(socket).await.map(Secure);
        Some((secure, (listener, acceptor)))
    });
    tasks.spawn(async move {
        tonic::transport::Server::builder()
            .add_service(GovernanceService(peer.clone()))
            .add_service(SessionService(peer))
            .serve_with_incoming(incoming.boxed())
            .await
            .unwrap();
    });
    address
}

fn peer(exchange: &Arc<Memory>) -> Peer {
    let shutdown = CancellationToken::new();
    Peer { sessions: true, exchange: Arc::clone(exchange), shutdown }
}

fn sorted(side: &Memory) -> Vec<u64> {
    let mut received = crate::lock(&side.received).clone();
    received.sort_unstable();
    received
}

#[tokio::test]
async fn every_feature_works_over_tls() {
    let authority = Authority::new("Test CA");
    let server = authority.issue("gov-1", &["localhost"]);
    let node = authority.issue("node-1", &[]);
    let authorities = [authority.as_pem()];
    let server = tls::server_config(server.identity(), &authorities).unwrap();
    let client =
        tls::client_config(tls::Authorities::Private(&authorities), Some(node.identity())).unwrap();
    let (mut tasks, far) = (JoinSet::new(), Memory::with(500, 100));
    let address = serve_tls(&mut tasks, peer(&far), server).await;
    let url = format!("https://{address}").parse().unwrap();
    let server_name = Some("localhost".to_owned());
    let config = EndpointConfig { server_name, ..EndpointConfig::new("one", url) };
    let near = Memory::with(500, 100);
    for seq in 1001..=1004 {
        near.push(alys_stream_protocol::message::Priority::Low, seq, 3_000_000);
    }
    let settings =
        EndpointSettings { compression: Compression::Always, ..EndpointSettings::default() };
    let mut drivers = JoinSet::new();
    let driven = drive_with(&mut drivers, config, Some(client), near, settings);
    until(&driven.exchange, |side| crate::lock(&side.acked).len() == 504).await;
    until(&far, |side| crate::lock(&side.acked).len() == 500).await;
    assert_eq!(sorted(&far), (1..=500).chain(1001..=1004).collect::<Vec<_>>());
    assert_eq!(sorted(&driven.exchange), (1..=500).collect::<Vec<_>>());
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn rotation_loses_nothing_and_applies_nothing_twice() {
    let (mut tasks, far) = (JoinSet::new(), Memory::with(0, 100));
    let address = serve(&mut tasks, peer(&far)).await;
    let mut drivers = JoinSet::new();
    let rotation = RotationConfig { age: Duration::from_millis(30), ..RotationConfig::default() };
    let settings = EndpointSettings { rotation, ..EndpointSettings::default() };
    let near = Memory::with(0, 100);
    let driven = drive_with(&mut drivers, plaintext(address), None, near, settings);
    let mut sent = 0;
    // Messages in both directions, until streams have come and gone.
    while driven.exchange.losses.load(Ordering::Relaxed) < 5 {
        for side in [&driven.exchange, &far] {
            crate::lock(&side.queue).extend(sent + 1..=sent + 50);
            side.notify.notify_one();
        }
        sent += 50;
        for side in [&driven.exchange, &far] {
            until(side, |side| u64::try_from(crate::lock(&side.acked).len()).unwrap() == sent)
                .await;
        }
    }
    for side in [&driven.exchange, &far] {
        assert_eq!(sorted(side), (1..=sent).collect::<Vec<_>>());
    }
    let status = wait_for(&driven.handle, |status| status.is_live()).await;
    assert_eq!(status.attempts, 1, "all on one connection");
    assert_eq!(status.last_error, None);
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
}

/// A peer that may answer `GetCapabilities` in more ways than one.
#[derive(Clone)]
struct Capable {
    peer: Peer,
    asked: Arc<AtomicU32>,
    /// It does not know the call.
    is_old: bool,
    /// It says that it speaks sessions, and does not; until it is asked again.
    is_wrong: Arc<AtomicBool>,
}

impl tonic::server::NamedService for Capable {
    const NAME: &'static str = "governance.v1.GovernanceStream";
}

impl tower::Service<http::Request<HttpBody>> for Capable {
    type Response = http::Response<HttpBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<HttpBody>) -> Self::Future {
        let mut peer = self.peer.clone();
        if request.uri().path().ends_with("/GetCapabilities") {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.is_old {
                return async { Ok(Status::unimplemented("").into_http()) }.boxed();
            }
            peer.sessions |= self.is_wrong.swap(false, Ordering::Relaxed);
        }
        async move { Ok(dispatch(peer, request).await) }.boxed()
    }
}

async fn serve_capable(
    tasks: &mut JoinSet<()>,
    is_old: bool,
    is_wrong: bool,
    sessions: bool,
) -> (SocketAddr, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let peer = Peer { sessions, ..peer(&Memory::with(0, 0)) };
    let is_wrong = Arc::new(AtomicBool::new(is_wrong));
    let capable = Capable { peer: peer.clone(), asked: Arc::clone(&asked), is_old, is_wrong };
    tasks.spawn(async move {
        tonic::transport::Server::builder()
            .add_service(capable)
            .add_service(SessionService(peer))
            .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
            .await
            .unwrap();
    });
    (address, asked)
}

/// Connects three times.
async fn connect_three_times(address: SocketAddr, speaks: Dialect) {
    let mut drivers = JoinSet::new();
    let driven = drive(&mut drivers, plaintext(address), None, Memory::with(0, 0));
    for attempts in 1..=3 {
        let is_up = |s: &EndpointStatus| s.attempts == attempts && s.state == StateKind::Healthy;
        let status = wait_for(&driven.handle, is_up).await;
        assert_eq!(status.dialect, Some(speaks));
        let promise = status.promise.unwrap_or_default();
        assert_eq!(promise.contains("at least once"), speaks == Dialect::Plain);
        driven.handle.reconnect_now();
    }
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
}

/// It may have learned them meanwhile, and nothing else would show that.
#[tokio::test]
async fn a_peer_without_sessions_is_asked_at_every_connection() {
    let mut tasks = JoinSet::new();
    for is_old in [true, false] {
        let (address, asked) = serve_capable(&mut tasks, is_old, false, false).await;
        connect_three_times(address, Dialect::Plain).await;
        assert!(asked.load(Ordering::Relaxed) >= 3, "the answer is not kept");
    }
}

#[tokio::test]
async fn a_peer_with_sessions_is_asked_once() {
    let mut tasks = JoinSet::new();
    let (address, asked) = serve_capable(&mut tasks, false, false, true).await;
    connect_three_times(address, Dialect::Session).await;
    assert_eq!(asked.load(Ordering::Relaxed), 1, "the answer is kept");
}

#[tokio::test]
async fn an_answer_that_proves_wrong_is_not_kept() {
    let mut tasks = JoinSet::new();
    let (address, asked) = serve_capable(&mut tasks, false, true, false).await;
    let mut drivers = JoinSet::new();
    let driven = drive(&mut drivers, plaintext(address), None, Memory::with(0, 0));
    let status = wait_for(&driven.handle, |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("does not offer sessions"));
    driven.handle.reconnect_now();
    let status = wait_for(&driven.handle, |status| status.state == StateKind::Healthy).await;
    assert_eq!(status.dialect, Some(Dialect::Plain));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
}

/// A peer that says too much in one frame, after the handshake.
#[derive(Clone)]
struct Talkative(Bytes);

impl tonic::server::StreamingService<Bytes> for Talkative {
    type Response = Bytes;
    type ResponseStream = BoxStream<'static, Result<Bytes, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _request: Request<Streaming<Bytes>>) -> Self::Future {
        let frame = self.0.clone();
        let stream = futures::stream::iter([Ok(frame)]).chain(futures::stream::pending());
        async move { Ok(Response::new(stream.boxed())) }.boxed()
    }
}

#[tokio::test]
async fn a_frame_that_holds_more_than_a_frame_may_is_not_decoded() {
    use alys_stream_protocol::session::{Data, Record, frame};
    use prost::Message as _;

    let records = vec![Record::default(); 1_000_000];
    let flood = Frame::from(frame::Kind::Data(Data { records, ..Data::default() }));
    let encoded = Bytes::from(flood.encode_to_vec());
    drop(flood);
    let incoming = http::Request::new(tonic::body::Body::empty());
    let answer = tonic::server::Grpc::new(RawCodec).streaming(Talkative(encoded), incoming).await;
    let body = answer.into_body();
    let mut frames = Streaming::new_response(FrameCodec, body, http::StatusCode::OK, None, None);
    let refused = frames.message().await.unwrap_err();
    assert!(refused.message().contains("a batch of 513 records"), "{refused}");
}
