//! One plain stream: the driver of [`crate::conversation`].
//!
//! Requests are read in small batches, stored with one wait for the disk, and answered in their
//! order; so a heartbeat is answered only after everything before it is in custody.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::governance::{
    ErrorCode, NodeRegistration, StatusCode, StreamRequest, StreamResponse,
};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{broadcast, mpsc};
use tonic::{Status, Streaming};

use crate::conversation::{Admission, Conversation, Step};
use crate::custody::{Custody, Declined, Taken};
use crate::intake::intake;
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

/// An answer that may have to wait for the disk.
struct Due {
    /// `None`: the engine answers.
    response: Option<StreamResponse>,
    registers: bool,
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
            let expires_at = registration
                .auth
                .as_ref()
                .and_then(|auth| auth.expires_at)?;
            (expires_at <= self.connected_at.as_unix_seconds())
                .then(|| "node_registration.auth.expires_at: has passed".to_owned())
        })
    }
}

impl Plain {
    /// Runs the conversation to its end.
    pub(crate) async fn run(mut self, requests: Streaming<StreamRequest>) {
        let requests = intake(
            requests,
            &self.ears,
            &self.custody.streams,
            self.peer.cut.clone(),
        );
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
        let mut conversation = Conversation::default();
        let (pushes_in, mut pushes) = mpsc::channel(PUSHES_MAX);
        let mut requests = requests.ready_chunks(BATCH_MAX);
        let shutdown = self.custody.streams.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return End::With(Status::unavailable("this node stops")),
                act = self.ears.acts.recv() => if let Some(end) = self.act(act).await { return end },
                Some(push) = pushes.recv() => if !self.say(push).await { return End::Over },
                batch = requests.next() => {
                    let Some(batch) = batch else { return End::Over };
                    if let Err(end) = self.take(&mut conversation, batch, &pushes_in).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Does what every live stream was told to. Returns how it ends, if it does.
    async fn act(&self, act: Result<Act, broadcast::error::RecvError>) -> Option<End> {
        match act {
            Ok(Act::Close) => Some(End::With(Status::unavailable("closed, as told"))),
            Ok(Act::Drain(deadline)) => {
                let seconds = i32::try_from(deadline.as_secs().max(1)).unwrap_or(i32::MAX);
                let problem = Problem::unavailable("draining: go elsewhere", seconds);
                let now = self.custody.now();
                self.say(
                    Speaker {
                        node_id: &self.custody.own_id,
                        now,
                    }
                    .error("", problem),
                )
                .await;
                tokio::time::sleep(deadline).await;
                Some(End::With(Status::unavailable("drained, as told")))
            }
            Err(_) => None,
        }
    }

    /// Stores a batch, then answers it in order.
    async fn take(
        &self,
        conversation: &mut Conversation,
        batch: Vec<Result<StreamRequest, Status>>,
        pushes: &mpsc::Sender<StreamResponse>,
    ) -> Result<(), End> {
        let mut due = Vec::with_capacity(batch.len());
        let (mut position, mut broken) = (None, false);
        for request in batch {
            let Ok(request) = request else {
                broken = true;
                break;
            };
            due.push(self.handle(conversation, request, &mut position));
        }
        if let Some(position) = position {
            let durable = self.custody.inbox.durable(position).await;
            durable.map_err(|error| End::With(Status::internal(error.to_string())))?;
        }
        for Due {
            response,
            registers,
        } in due
        {
            if registers && let Some(node_id) = conversation.node_id() {
                tracing::info!(%node_id, address = %self.peer.address, "a node registered on a plain stream");
                self.custody
                    .streams
                    .identify(self.ears.key, node_id, Some(pushes.clone()));
            }
            if let Some(response) = response
                && !self.say(response).await
            {
                return Err(End::Over);
            }
        }
        if broken { Err(End::Over) } else { Ok(()) }
    }

    fn handle(
        &self,
        conversation: &mut Conversation,
        request: StreamRequest,
        position: &mut Option<alys_stream_messaging::log::Position>,
    ) -> Due {
        let speaker = Speaker {
            node_id: &self.custody.own_id,
            now: self.custody.now(),
        };
        let flags = self.ears.flags.borrow().clone();
        let (response, registers) =
            match conversation.handle_request(speaker, request, &flags, &self.peer) {
                Step::Reply(response) => (Some(response), false),
                Step::Registered(response) => (Some(response), true),
                Step::Take { kind, request } => {
                    let Some(node_id) = conversation.node_id() else {
                        return Due {
                            response: None,
                            registers: false,
                        };
                    };
                    let request_id = request
                        .metadata
                        .as_ref()
                        .map_or("", |metadata| metadata.request_id.as_str());
                    match self
                        .custody
                        .receive_plain(node_id, self.ears.key, kind, &request)
                    {
                        Ok(Taken {
                            position: at,
                            is_answered_later,
                        }) => {
                            *position = (*position).max(Some(at));
                            (
                                (!is_answered_later).then(|| speaker.acknowledgement(request_id)),
                                false,
                            )
                        }
                        Err(declined) => {
                            self.custody.metrics.declined(declined.word());
                            (Some(speaker.error(request_id, problem(&declined))), false)
                        }
                    }
                }
            };
        Due {
            response,
            registers,
        }
    }

    /// Sends an answer, unless acknowledgements are to be swallowed. Returns false when the peer
    /// has gone.
    async fn say(&self, response: StreamResponse) -> bool {
        if self.ears.flags.borrow().drop_acks && reply::is_acknowledgement(&response) {
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
        Declined::Invalid(_) | Declined::Conflict(_) => Problem::new(
            StatusCode::Error,
            ErrorCode::InvalidRequest,
            declined.to_string(),
        ),
    }
}
