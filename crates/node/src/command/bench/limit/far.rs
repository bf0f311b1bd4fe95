//! The end that stores and acknowledges.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, WatchStream};
use tonic::server::{NamedService, StreamingService};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::log::GroupLog;
use super::{Args, Batch, CONNECTION_WINDOW, FRAME_BYTES, STREAM_WINDOW, codec};
use crate::failure::Failure;

/// Connections that wait to be served; there is one.
const CONNECTIONS_MAX: usize = 4;

/// Serves until it is dropped.
pub(in crate::command::bench) struct FarEnd {
    log: GroupLog<u64>,
    tasks: JoinSet<()>,
}

impl FarEnd {
    /// Listens.
    ///
    /// # Errors
    ///
    /// When a certificate, the log or the address cannot be used.
    pub(in crate::command::bench) async fn start(args: &Args) -> Result<Self, Failure> {
        let acked = watch::Sender::new(0);
        let told = acked.clone();
        let log = GroupLog::create(args.log.as_deref(), move |ends: Vec<u64>| {
            if let Some(end) = ends.into_iter().max() {
                told.send_replace(end);
            }
        })?;
        let listener = TcpListener::bind(args.address)
            .await
            .map_err(|error| Failure::listen("the far end", args.address, &error))?;
        let acceptor = TlsAcceptor::from(args.server()?);
        let (connections, accepted) = mpsc::channel(CONNECTIONS_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                drop(tcp.set_nodelay(true));
                let Ok(stream) = acceptor.accept(tcp).await else { continue };
                if connections.send(Ok::<_, io::Error>(Guest(stream))).await.is_err() {
                    return;
                }
            }
        });
        let service = Bare { log: log.clone(), acked };
        let serving = Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(accepted));
        tasks.spawn(serving.map(drop));
        Ok(Self { log, tasks })
    }

    /// How often its log synced.
    pub(in crate::command::bench) fn syncs(&self) -> u64 {
        self.log.syncs()
    }

    /// Whether it still serves.
    pub(in crate::command::bench) fn is_serving(&self) -> bool {
        !self.tasks.is_empty()
    }
}

#[derive(Clone)]
struct Bare {
    log: GroupLog<u64>,
    acked: watch::Sender<u64>,
}

impl Bare {
    async fn store(self, mut batches: Streaming<Batch>) {
        while let Ok(Some(batch)) = batches.message().await {
            let end = batch.first + u64::try_from(batch.records.len()).unwrap_or(0);
            drop(self.log.append(|bytes, ends| {
                for record in &batch.records {
                    super::near::write(bytes, record);
                }
                ends.push(end);
            }));
        }
    }
}

impl NamedService for Bare {
    const NAME: &'static str = "alys.bench.Bare";
}

impl tower::Service<tonic::codegen::http::Request<tonic::body::Body>> for Bare {
    type Response = tonic::codegen::http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::codegen::http::Request<tonic::body::Body>) -> Self::Future {
        let service = self.clone();
        let answer = async move {
            let mut grpc = tonic::server::Grpc::new(codec::Far);
            Ok(grpc.streaming(service, request).await)
        };
        answer.boxed()
    }
}

impl StreamingService<Batch> for Bare {
    type Response = u64;
    type ResponseStream = BoxStream<'static, Result<u64, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Batch>>) -> Self::Future {
        let acks = WatchStream::from_changes(self.acked.subscribe());
        let mut storing = JoinSet::new();
        storing.spawn(self.clone().store(request.into_inner()));
        // The task lives as long as the stream that carries its acknowledgements.
        let held = Arc::new(storing);
        let acks = acks.map(move |end| {
            let _held = &held;
            Ok(end)
        });
        let answer: Self::ResponseStream = acks.boxed();
        futures::future::ready(Ok(Response::new(answer))).boxed()
    }
}

/// An accepted connection, as tonic wants it.
struct Guest(TlsStream<TcpStream>);

impl Connected for Guest {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
