//! The gRPC services: thin, every conversation is elsewhere.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::governance::{
    CapabilitiesRequest, CapabilitiesResponse, HealthRequest, HealthResponse, HealthStatus,
    StreamRequest, StreamResponse,
};
use alys_stream_protocol::limits;
use alys_stream_protocol::session::{Frame, frame};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::session::FEATURE;
use alys_stream_transport::session::driver::FRAMES_OUT_MAX;
use futures::Stream;
use futures::stream::unfold;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::io::PeerInfo;
use crate::config::Dialect;
use crate::custody::Custody;
use crate::governance_server::governance_stream_server::GovernanceStream;
use crate::misbehaviour::Misdeed;
use crate::plain::{Plain, REPLIES_MAX};
use crate::session::SessionStream;
use crate::session_server::stream_service_server::StreamService;
use crate::streams::{Ears, Streams};

/// The version of the published protocol.
pub(crate) const PROTOCOL_VERSION: &str = "governance.v1";

/// Answers every call.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    pub(crate) custody: Arc<Custody>,
    pub(crate) dialects: Arc<[Dialect]>,
    pub(crate) heartbeat: Duration,
    pub(crate) drain: Duration,
    pub(crate) started: UnixMillis,
}

impl Rpc {
    fn peer<T>(request: &Request<T>) -> Result<PeerInfo, Status> {
        let peer = request.extensions().get::<PeerInfo>().cloned();
        peer.ok_or_else(|| Status::internal("the connection is unknown"))
    }

    fn check(&self, dialect: Dialect) -> Result<(), Status> {
        if self.custody.streams.shutdown.is_cancelled() {
            return Err(Status::unavailable("this node stops; go elsewhere"));
        }
        if self.dialects.contains(&dialect) {
            return Ok(());
        }
        Err(Status::unimplemented("this node is configured not to speak this dialect"))
    }

    fn is_stopping(&self) -> bool {
        self.custody.streams.shutdown.is_cancelled()
    }
}

#[tonic::async_trait]
impl GovernanceStream for Rpc {
    type StreamStream = ReceiverStream<Result<StreamResponse, Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        self.check(Dialect::Plain)?;
        let peer = Self::peer(&request)?;
        let custody = Arc::clone(&self.custody);
        let ears = custody.streams.open(Dialect::Plain, peer.address.to_string(), custody.now());
        let (replies, answers) = mpsc::channel(REPLIES_MAX);
        let plain = Plain { custody: Arc::clone(&custody), peer, ears, replies };
        // The response goes out before the first request is awaited, or both sides wait for ever.
        custody.streams.spawn(plain.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn health(
        &self,
        request: Request<HealthRequest>,
    ) -> Result<Response<HealthResponse>, Status> {
        let status =
            if self.is_stopping() { HealthStatus::Unhealthy } else { HealthStatus::Healthy };
        let uptime = self.custody.now().saturating_since(self.started).as_secs();
        let mut info = BTreeMap::from([
            ("node_id".to_owned(), self.custody.own_id.clone()),
            ("held_messages".to_owned(), self.custody.desk.messages().to_string()),
        ]);
        if let Some(check) = request.into_inner().check_type {
            let check = check.chars().take(limits::NODE_ID_BYTES_MAX).collect();
            info.insert("check_type".to_owned(), check);
        }
        Ok(Response::new(HealthResponse {
            status: status.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime: i64::try_from(uptime).unwrap_or(i64::MAX),
            info,
        }))
    }

    async fn get_capabilities(
        &self,
        _request: Request<CapabilitiesRequest>,
    ) -> Result<Response<CapabilitiesResponse>, Status> {
        let mut features = Vec::new();
        if self.dialects.contains(&Dialect::Session) {
            features.push(FEATURE.to_owned());
        }
        let limit = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        let limits = BTreeMap::from([
            ("message_bytes_max".to_owned(), limit(limits::MESSAGE_BYTES_MAX)),
            ("signature_inputs_max".to_owned(), limit(limits::SIGNATURE_INPUTS_MAX)),
        ]);
        let protocol_versions = vec![PROTOCOL_VERSION.to_owned()];
        Ok(Response::new(CapabilitiesResponse { protocol_versions, features, limits }))
    }
}

#[tonic::async_trait]
impl StreamService for Rpc {
    type OpenStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn open(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::OpenStream>, Status> {
        self.check(Dialect::Session)?;
        let peer = Self::peer(&request)?;
        let custody = Arc::clone(&self.custody);
        let ears = custody.streams.open(Dialect::Session, peer.address.to_string(), custody.now());
        let (frames_out, frames) = mpsc::channel(FRAMES_OUT_MAX);
        let outgoing = outgoing(frames, &ears, Arc::clone(&custody.streams));
        let session = SessionStream {
            custody: Arc::clone(&custody),
            peer,
            ears,
            heartbeat: self.heartbeat,
            drain: self.drain,
            frames_out,
        };
        custody.streams.spawn(session.run(request.into_inner()));
        Ok(Response::new(Box::pin(outgoing)))
    }
}

/// Frames on their way out, without acknowledgements while those are to be swallowed. A stream that
/// lost some ends when that is over: acknowledgements have no holes, and the next stream resumes.
fn outgoing(
    frames: mpsc::Receiver<Frame>,
    ears: &Ears,
    streams: Arc<Streams>,
) -> impl Stream<Item = Result<Frame, Status>> + Send + use<> {
    let (flags, cancel) = (ears.flags.clone(), ears.cancel.clone());
    unfold((frames, flags, cancel, false), move |(mut frames, flags, cancel, mut swallowed)| {
        let streams = Arc::clone(&streams);
        async move {
            loop {
                let frame = frames.recv().await?;
                if !matches!(frame.kind, Some(frame::Kind::Ack(_))) {
                    return Some((Ok(frame), (frames, flags, cancel, swallowed)));
                }
                if flags.borrow().drop_acks {
                    streams.did(Misdeed::AckSwallowed);
                    swallowed = true;
                } else if swallowed {
                    cancel.cancel();
                    return None;
                } else {
                    return Some((Ok(frame), (frames, flags, cancel, swallowed)));
                }
            }
        }
    })
}
