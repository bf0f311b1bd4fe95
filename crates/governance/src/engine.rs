//! The engine: applies what was received, signs, answers. The driver of [`crate::answers`].
//!
//! One task. A message is done in this order: applied in the ledger and its answer appended to the
//! log, both synced, then marked handled in the inbox. A crash in between does it again, and the
//! ledger and the answer's own id make that invisible.
//!
//! Invariants:
//! - G12: the inbox forgets a message only after its application and its answer are durable.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::record::RecordMeta;
use alys_stream_protocol::governance::{
    SignatureResponse, SignatureStatus, StreamRequest, stream_request,
};
use alys_stream_protocol::message::{Message, MessageKind, OrderingKey, Seq};
use prost::Message as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answers::{Action, Answers};
use crate::content;
use crate::custody::Custody;
use crate::desk::{AnswerTo, Item, Most, SignWork, Work};
use crate::ledger::Application;
use crate::member::{Honesty, SigningMember};
use crate::misbehaviour::Misdeed;
use crate::reply::Speaker;
use crate::sync::lock;

/// Messages that are applied under one sync. Signing takes the longest, and the first answer waits
/// for the last one.
const BATCH_MAX: Most = Most { messages: 4096, to_sign: 512 };

/// Shortest time from one sync of the ledger to the next while nobody waits for an answer: more
/// comes together under one, and fewer stand before those that peers wait for.
const ROUND_MIN: Duration = Duration::from_millis(10);

/// Pause before a full or failing disk is tried again.
const DISK_PAUSE: Duration = Duration::from_millis(500);

/// The application of one node.
#[derive(Debug)]
pub(crate) struct Engine {
    custody: Arc<Custody>,
    member: Arc<SigningMember>,
    answers: Answers<Item>,
}

/// What one round leads to.
#[derive(Debug, Default)]
struct Round {
    applications: Vec<Application>,
    answers: Vec<Message>,
    plain: Vec<(crate::streams::StreamKey, alys_stream_protocol::governance::StreamResponse)>,
    done: Vec<Item>,
}

impl Engine {
    pub(crate) fn new(custody: Arc<Custody>, member: Arc<SigningMember>) -> Self {
        Self { custody, member, answers: Answers::new() }
    }

    /// Runs until cancelled, or until nothing can be stored any more; returns why then.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), String> {
        loop {
            let (begun, mut round) = (Instant::now(), Round::default());
            let items = self.custody.desk.take(BATCH_MAX);
            let received =
                items.iter().filter_map(|item| item.inbox.map(|(_, position)| position)).max();
            if let Some(position) = received {
                self.custody.inbox.durable(position).await.map_err(|error| error.to_string())?;
            }
            let is_idle = items.is_empty();
            self.accept(items, &mut round);
            self.answers.handle_timeout(self.custody.now());
            while let Some(action) = self.answers.poll_action() {
                self.perform(action, &mut round);
            }
            let (is_quiet, is_asked) = (round.is_empty(), round.is_asked());
            if !is_quiet && !self.commit(round, &shutdown).await? {
                return Ok(());
            }
            if !is_quiet && !is_asked {
                self.rest(begun + ROUND_MIN, &shutdown).await;
            }
            if is_idle && is_quiet && !self.wait(&shutdown).await {
                return Ok(());
            }
        }
    }

    /// Waits for work. Returns false when the node stops.
    async fn wait(&self, shutdown: &CancellationToken) -> bool {
        let due = self.answers.poll_timeout().map(|at| at.saturating_since(self.custody.now()));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => false,
            () = self.custody.desk.arrived() => true,
            () = tokio::time::sleep(due.unwrap_or(Duration::MAX)), if due.is_some() => true,
        }
    }

    /// Lets more come together, unless something that is answered comes.
    async fn rest(&self, until: Instant, shutdown: &CancellationToken) {
        let due = self.answers.poll_timeout().map(|at| at.saturating_since(self.custody.now()));
        let until = due.map_or(until, |due| until.min(Instant::now() + due));
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.custody.desk.asked() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    /// Applies items and decides what else they need.
    fn accept(&mut self, items: Vec<Item>, round: &mut Round) {
        let stored = || items.iter().filter(|item| item.inbox.is_some());
        let applied = self.custody.ledger.apply(stored().map(|item| &item.application));
        let applied = stored().zip(applied).filter_map(|(item, is)| is.then_some(item.application));
        round.applications.extend(applied);
        // Neighbours are mostly of one kind: a label lookup for each run of them, not for each.
        for run in round.applications.chunk_by(|one, next| one.kind == next.kind) {
            if let Some(first) = run.first() {
                let count = u64::try_from(run.len()).unwrap_or(u64::MAX);
                self.custody.metrics.applied(first.kind, count);
            }
        }
        for item in items {
            self.take_up(item, round);
        }
    }

    fn take_up(&mut self, item: Item, round: &mut Round) {
        match &item.work {
            Work::Apply => round.done.push(item),
            Work::Sign(work) => {
                let timeout = signature_request(work)
                    .and_then(|(_, request)| request.timeout_seconds)
                    .map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
                let delay = Duration::from_millis(self.custody.streams.flags().delay_ms);
                let received = item.application.received;
                if !delay.is_zero() {
                    self.custody.streams.did(Misdeed::Delayed);
                }
                self.answers.handle_request(self.custody.now(), item, received, delay, timeout);
            }
        }
    }

    fn perform(&self, action: Action<Item>, round: &mut Round) {
        let (item, is_final) = match &action {
            Action::Pending(item) => (item, false),
            Action::Sign(item) | Action::TimeOut(item) => (item, true),
        };
        let Work::Sign(work) = &item.work else { return };
        if let Some((request_id, request)) = signature_request(work) {
            let response = match &action {
                Action::Pending(_) => self.member.pending(),
                Action::TimeOut(_) => self.member.timed_out(&request),
                Action::Sign(_) => {
                    let wrong = self.custody.streams.flags().wrong_signatures;
                    if wrong {
                        self.custody.streams.did(Misdeed::SignedWrongly);
                    }
                    self.member.sign(
                        &request,
                        if wrong { Honesty::WrongSignatures } else { Honesty::Honest },
                    )
                }
            };
            self.answer(item, work, &request_id, response, round);
        }
        if is_final {
            round.done.push(item.clone());
        }
    }

    fn answer(
        &self,
        item: &Item,
        work: &SignWork,
        request_id: &str,
        response: SignatureResponse,
        round: &mut Round,
    ) {
        let status = response.status;
        self.custody.metrics.answered(SignatureStatus::try_from(status).unwrap_or_default());
        let speaker = Speaker { node_id: &self.custody.own_id, now: self.custody.now() };
        let response = speaker.signature(request_id, response);
        match work.answer_to {
            AnswerTo::Nobody => {}
            AnswerTo::Plain(stream) => round.plain.push((stream, response)),
            AnswerTo::Session => {
                let Ok(ordering_key) = OrderingKey::try_new(item.node_id.as_bytes().to_vec())
                else {
                    return;
                };
                round.answers.push(Message {
                    id: content::answer_id(
                        &self.custody.own_id,
                        &item.node_id,
                        item.application.id,
                        status,
                    ),
                    kind: MessageKind::SIGNATURE_RESPONSE,
                    priority: work.priority,
                    deadline: None,
                    ordering_key: Some(ordering_key),
                    traceparent: work.traceparent.clone(),
                    payload: response.encode_to_vec().into(),
                });
            }
        }
    }

    /// Makes a round durable and lets go of it (G12). Returns false when the node stops first.
    async fn commit(&self, round: Round, shutdown: &CancellationToken) -> Result<bool, String> {
        let Some(appended) = self.append(round.answers, shutdown).await? else {
            return Ok(false);
        };
        if !self.write_ledger(round.applications, shutdown).await? {
            return Ok(false);
        }
        if let Some(last) = appended {
            self.custody.outbox.durable(last).await.map_err(|error| error.to_string())?;
        }
        for (stream, response) in round.plain {
            if !self.custody.streams.push(stream, response) {
                tracing::debug!(
                    stream = stream.number(),
                    "an answer found its stream closed or full"
                );
            }
        }
        let handled: Vec<_> =
            round.done.iter().filter_map(|item| item.inbox.map(|(id, _)| id)).collect();
        if !handled.is_empty() {
            self.custody.inbox.handled(&handled);
        }
        self.custody.desk.done(&round.done);
        Ok(true)
    }

    /// Appends answers; waits while the log is full. `None` when the node stops first.
    async fn append(
        &self,
        mut messages: Vec<Message>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Option<Seq>>, String> {
        while !messages.is_empty() {
            match self.custody.outbox.append(self.custody.now(), messages) {
                Ok(accepted) => {
                    return Ok(Some(accepted.iter().map(|accepted| accepted.seq).max()));
                }
                Err(error) if error.cause.is_backpressure() => {
                    tracing::warn!(%error, "answers have to wait");
                    messages = error.messages;
                    if pause(shutdown).await {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(Some(None))
    }

    /// Writes the ledger; waits while the disk refuses. Returns false when the node stops first.
    async fn write_ledger(
        &self,
        applications: Vec<Application>,
        shutdown: &CancellationToken,
    ) -> Result<bool, String> {
        if applications.is_empty() {
            return Ok(true);
        }
        let applications: Arc<[Application]> = applications.into();
        loop {
            let (ledger, batch) = (Arc::clone(&self.custody.ledger), Arc::clone(&applications));
            let written = self.custody.workers.run(move || ledger.write(&batch)).await;
            match written {
                Ok(Ok(())) => return Ok(true),
                Ok(Err(error)) => {
                    tracing::error!(%error, "the ledger cannot be written; trying again");
                    if pause(shutdown).await {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Round {
    /// Whether somebody waits for something of it.
    fn is_asked(&self) -> bool {
        !self.answers.is_empty() || !self.plain.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.applications.is_empty()
            && self.answers.is_empty()
            && self.plain.is_empty()
            && self.done.is_empty()
    }
}

/// Returns true when the node stops meanwhile.
async fn pause(shutdown: &CancellationToken) -> bool {
    tokio::time::timeout(DISK_PAUSE, shutdown.cancelled()).await.is_ok()
}

/// The request id and the request of an item. Its payload was checked when it was received.
fn signature_request(
    work: &SignWork,
) -> Option<(String, alys_stream_protocol::governance::SignatureRequest)> {
    let request = StreamRequest::decode(work.payload.clone()).ok()?;
    let request_id = request.metadata.map(|metadata| metadata.request_id).unwrap_or_default();
    match request.payload {
        Some(stream_request::Payload::SignatureRequest(request)) => Some((request_id, request)),
        _ => None,
    }
}

/// The node that a record of the log of answers is for.
pub(crate) fn recipient(meta: &RecordMeta) -> Option<&str> {
    meta.ordering_key.as_ref().and_then(|key| std::str::from_utf8(key.as_bytes()).ok())
}

/// Files what is durable in the log of answers under the node it is for.
pub(crate) async fn dispatch(custody: Arc<Custody>, shutdown: CancellationToken) {
    loop {
        let records = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            records = custody.outbox.next_durable() => records,
        };
        let Some(records) = records else { return };
        for meta in &records {
            if let Some(node_id) = recipient(meta) {
                lock(&custody.outbound).handle_durable(
                    node_id,
                    meta.seq,
                    meta.priority,
                    u64::from(meta.payload_bytes),
                );
                custody.wake_of(node_id).notify_one();
            }
        }
    }
}
