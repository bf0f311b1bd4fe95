//! A small gRPC client, written against the published paths and nothing of the node.

use std::net::SocketAddr;
use std::sync::Arc;

use alys_stream_protocol::governance::{StreamRequest, StreamResponse};
use alys_stream_protocol::session::Frame;
use hyper_util::rt::TokioIo;
use prost::Message;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::world::LONG;

/// Connects over TLS.
pub(crate) async fn connect(
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_| {
        let tls = TlsConnector::from(Arc::clone(&tls));
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
            tls.connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await
}

/// One call with one answer.
pub(crate) async fn unary<Q, A>(
    channel: &Channel,
    path: &'static str,
    request: Q,
) -> Result<A, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = ProstCodec::<Q, A>::default();
    let response =
        grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await?;
    Ok(response.into_inner())
}

/// Both directions of one bidirectional call.
pub(crate) struct Duplex<Q, A> {
    pub(crate) requests: mpsc::Sender<Q>,
    pub(crate) responses: Streaming<A>,
}

/// Opens a bidirectional call.
pub(crate) async fn open<Q, A>(
    channel: &Channel,
    path: &'static str,
) -> Result<Duplex<Q, A>, Status>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let (requests, outgoing) = mpsc::channel(64);
    let codec = ProstCodec::<Q, A>::default();
    let request = Request::new(ReceiverStream::new(outgoing));
    let response = grpc.streaming(request, PathAndQuery::from_static(path), codec).await?;
    Ok(Duplex { requests, responses: response.into_inner() })
}

/// A plain stream.
pub(crate) type Plain = Duplex<StreamRequest, StreamResponse>;

/// A session stream.
pub(crate) type Session = Duplex<Frame, Frame>;

pub(crate) async fn open_plain(channel: &Channel) -> Plain {
    open(channel, "/governance.v1.GovernanceStream/Stream").await.unwrap()
}

pub(crate) async fn open_session(channel: &Channel) -> Session {
    open(channel, "/alys.stream.v1.StreamService/Open").await.unwrap()
}

impl Plain {
    pub(crate) async fn say(&self, request: StreamRequest) {
        self.requests.send(request).await.unwrap();
    }

    /// The next answer.
    pub(crate) async fn hear(&mut self) -> StreamResponse {
        tokio::time::timeout(LONG, self.responses.message())
            .await
            .unwrap()
            .unwrap()
            .expect("the stream ended")
    }

    /// Asks and hears one answer.
    pub(crate) async fn ask(&mut self, request: StreamRequest) -> StreamResponse {
        self.say(request).await;
        self.hear().await
    }
}
