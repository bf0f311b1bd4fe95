//! One plain stream: the driver of [`crate::conversation`].
//!
//! Requests are read in small batches, stored with one wait for the disk, and answered in their
//! order; so a heartbeat is answered only after everything before it is in custody.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::log::Position;
use alys_stream_protocol::governance::stream_response::Payload;
use alys_stream_protocol::governance::{
    ErrorCode, NodeRegistration, SignatureStatus, StatusCode, StreamRequest, StreamResponse,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use crate::conversation::{Admission, Conversation, Step};
use crate::custody::{Custody, Declined, Taken};
use crate::intake::intake;
use crate::misbehaviour::Misdeed;
use crate::reply::{self, Problem, Speaker};
use crate::server::io::PeerInfo;
use crate::streams::{Act, Ears, PUSHES_MAX};

/// Requests that are stored under one sync.
const BATCH_MAX: usize = 64;

/// Answers that wait for the stream.
pub(crate) const REPLIES_MAX: usize = 1024;

/// Seconds that a peer is asked to wait when there is no room.
const BUSY_RETRY: i32 = 1;

type Replies = mpsc::Sender<Result<StreamResponse, Status>>;

/// One plain stream.
pub(crate) struct Plain {
    pub(crate) custody: Arc<Custody>,
    pub(crate) peer: PeerInfo,
    pub(crate) ears: Ears,
    pub(crate) replies: Replies,
}

/// What a stream remembers between requests.
struct Talk {
    conversation: Conversation,
    /// The way back for answers of the engine.
    pushes: mpsc::Sender<StreamResponse>,
    /// Everything taken is stored once this is durable.
    stored: Option<Position>,
    /// Requests that the engine has still to answer for good.
    owed: usize,
}

impl Talk {
    fn new(pushes: mpsc::Sender<StreamResponse>) -> Self {
        Self { conversation: Conversation::default(), pushes, stored: None, owed: 0 }
    }

    fn handle_push(&mut self, push: &StreamResponse) {
        if let Some(Payload::SignatureResponse(answer)) = &push.payload
            && answer.status != i32::from(SignatureStatus::Pending)
        {
            self.owed = self.owed.saturating_sub(1);
        }
    }
}

/// Waits for a moment, or for ever.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Why a conversation ends.
enum End {
    /// The peer has gone, or the stream was cancelled.
    Over,
    /// The node has something to say about it.
    With(Status),
}

impl Admission for PeerInfo {
    fn refusal(&self, node_id: &str, registration: &NodeRegistration) -> Option<String> {
        self.name_refusal(node_id).or_else(|| {
            let expires_at = registration.auth.as_ref().and_then(|auth| auth.expires_at)?;
            (expires_at <= self.connected_at.as_unix_seconds())
                .then(|| "node_registration.auth.expires_at: has passed".to_owned())
        })
    }
}

impl Plain {
    /// Runs the conversation to its end.
    pub(crate) async fn run(mut self, requests: Streaming<StreamRequest>) {
        let requests = intake(requests, &self.ears, &self.custody.streams, self.peer.cut.clone());
        let end = self.converse(requests).await;
        if let End::With(status) = end {
            let told =
                tokio::time::timeout(Duration::from_secs(1), self.replies.send(Err(status))).await;
            tracing::debug!(told = told.is_ok(), "a plain stream was ended by this side");
        }
        self.custody.streams.closed(self.ears.key);
    }

    async fn converse(
        &mut self,
        requests: BoxStream<'static, Result<StreamRequest, Status>>,
    ) -> End {
        let (pushes_in, mut pushes) = mpsc::channel(PUSHES_MAX);
        let mut talk = Talk::new(pushes_in);
        let mut requests = requests.ready_chunks(BATCH_MAX);
        let shutdown = self.custody.streams.shutdown.clone();
        let (mut is_half_closed, mut close_at) = (false, None);
        // A peer that has said all it wants still gets its answers.
        while !is_half_closed || talk.owed > 0 {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return End::With(Status::unavailable("this node stops")),
                () = self.ears.cancel.cancelled() => return End::Over,
                () = self.replies.closed() => return End::Over,
                () = until(close_at) => return End::With(Status::unavailable("drained, as told")),
                act = self.ears.acts.recv() => match act {
                    Ok(Act::Close) => return End::With(Status::unavailable("closed, as told")),
                    Ok(Act::Drain(deadline)) => {
                        close_at = Some(Instant::now() + deadline);
                        self.announce_drain(deadline).await;
                    }
                    Err(_) => {}
                },
                Some(push) = pushes.recv() => {
                    talk.handle_push(&push);
                    if !self.say(push).await {
                        return End::Over;
                    }
                }
                batch = requests.next(), if !is_half_closed => match batch {
                    None => is_half_closed = true,
                    Some(batch) => if let Err(end) = self.take(&mut talk, batch).await {
                        return end;
                    },
                },
            }
        }
        End::Over
    }

    async fn announce_drain(&self, deadline: Duration) {
        let seconds = i32::try_from(deadline.as_secs().max(1)).unwrap_or(i32::MAX);
        let problem = Problem::unavailable("draining: go elsewhere", seconds);
        let speaker = Speaker { node_id: &self.custody.own_id, now: self.custody.now() };
        self.say(speaker.error("", problem)).await;
    }

    /// Stores a batch, then answers it in order.
    async fn take(
        &self,
        talk: &mut Talk,
        batch: Vec<Result<StreamRequest, Status>>,
    ) -> Result<(), End> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut broken = None;
        for request in batch {
            match request {
                Ok(request) => answers.extend(self.handle(talk, request)),
                Err(status) => {
                    broken = Some(status);
                    break;
                }
            }
        }
        if let Some(position) = talk.stored.take() {
            let durable = self.custody.inbox.durable(position).await;
            durable.map_err(|error| End::With(Status::internal(error.to_string())))?;
        }
        for answer in answers {
            if !self.say(answer).await {
                return Err(End::Over);
            }
        }
        match broken {
            // What cannot be read is answered by its reason: too large, or no message at all.
            Some(status) => {
                let (code, reason) = (status.code(), status.message());
                tracing::warn!(address = %self.peer.address, ?code, reason, "a request cannot be read");
                Err(End::With(status))
            }
            None => Ok(()),
        }
    }

    /// Takes one request. Returns its answer, to be sent once everything is stored; `None` when the
    /// engine answers.
    fn handle(&self, talk: &mut Talk, request: StreamRequest) -> Option<StreamResponse> {
        let speaker = Speaker { node_id: &self.custody.own_id, now: self.custody.now() };
        let flags = self.ears.flags.borrow().clone();
        match talk.conversation.handle_request(speaker, request, &flags, &self.peer) {
            Step::Reply(response) => Some(response),
            Step::Deny(response, misdeed) => {
                self.custody.streams.did(misdeed);
                Some(response)
            }
            Step::Registered(response) => {
                let node_id = talk.conversation.node_id()?;
                tracing::info!(%node_id, address = %self.peer.address, "a node registered on a plain stream");
                // Before anything of it reaches the engine, whose answers need the way back.
                self.custody.streams.identify(self.ears.key, node_id, Some(talk.pushes.clone()));
                Some(response)
            }
            Step::Take { kind, request } => {
                let node_id = talk.conversation.node_id()?;
                let metadata = request.metadata.as_ref();
                let request_id = metadata.map_or("", |metadata| metadata.request_id.as_str());
                match self.custody.receive_plain(node_id, self.ears.key, kind, &request) {
                    Ok(Taken { position, is_answered_later }) => {
                        talk.stored = talk.stored.max(Some(position));
                        talk.owed += usize::from(is_answered_later);
                        (!is_answered_later).then(|| speaker.acknowledgement(request_id))
                    }
                    Err(declined) => {
                        self.custody.metrics.declined(declined.word());
                        Some(speaker.error(request_id, problem(&declined)))
                    }
                }
            }
        }
    }

    /// Sends an answer, unless acknowledgements are to be swallowed. Returns false when the peer
    /// has gone.
    async fn say(&self, response: StreamResponse) -> bool {
        if self.ears.flags.borrow().drop_acks && reply::is_acknowledgement(&response) {
            self.custody.streams.did(Misdeed::AckSwallowed);
            return true;
        }
        tokio::select! {
            biased;
            () = self.ears.cancel.cancelled() => false,
            sent = self.replies.send(Ok(response)) => sent.is_ok(),
        }
    }
}

fn problem(declined: &Declined) -> Problem {
    match declined {
        Declined::Busy => Problem::unavailable(declined.to_string(), BUSY_RETRY),
        Declined::Invalid(_) | Declined::Conflict(_) => {
            Problem::new(StatusCode::Error, ErrorCode::InvalidRequest, declined.to_string())
        }
    }
}
