//! The gRPC services of a simulated governance node: the capabilities and the session.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use alys_stream_protocol::governance::{CapabilitiesRequest, CapabilitiesResponse};
use alys_stream_protocol::session::Frame;
use alys_stream_transport::grpc::FrameCodec;
use alys_stream_transport::session::FEATURE;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::peer::Sessions;

type Answer = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

/// `governance.v1`: says that there are sessions.
#[derive(Clone)]
pub(crate) struct GovernanceService;

/// `alys.stream.v1`.
#[derive(Clone)]
pub(crate) struct SessionService(pub(crate) Arc<Sessions>);

impl NamedService for GovernanceService {
    const NAME: &'static str = "governance.v1.GovernanceStream";
}

impl NamedService for SessionService {
    const NAME: &'static str = "alys.stream.v1.StreamService";
}

impl UnaryService<CapabilitiesRequest> for GovernanceService {
    type Response = CapabilitiesResponse;
    type Future = BoxFuture<'static, Result<Response<CapabilitiesResponse>, Status>>;

    fn call(&mut self, _request: Request<CapabilitiesRequest>) -> Self::Future {
        let features = vec![FEATURE.to_owned()];
        let answer = CapabilitiesResponse { features, ..Default::default() };
        async move { Ok(Response::new(answer)) }.boxed()
    }
}

impl StreamingService<Frame> for SessionService {
    type Response = Frame;
    type ResponseStream = BoxStream<'static, Result<Frame, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Frame>>) -> Self::Future {
        let frames = ReceiverStream::new(self.0.open(request.into_inner())).map(Ok).boxed();
        async move { Ok(Response::new(frames)) }.boxed()
    }
}

impl tower::Service<http::Request<Body>> for GovernanceService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let codec = ProstCodec::<CapabilitiesResponse, CapabilitiesRequest>::default();
        async move { Ok(Grpc::new(codec).unary(Self, request).await) }.boxed()
    }
}

impl tower::Service<http::Request<Body>> for SessionService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let service = self.clone();
        async move { Ok(Grpc::new(FrameCodec).streaming(service, request).await) }.boxed()
    }
}
