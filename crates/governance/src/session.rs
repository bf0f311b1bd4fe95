//! One session: a node's records in, answers and pushes out.
//!
//! The protocol itself is [`alys_stream_transport::session`]; here is the handshake of the side
//! that is dialled, and what the session needs from the owner of the messages ([`Client`]).

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_stream_messaging::inbox::Fenced;
use alys_stream_messaging::inbox::InboxRecord;
use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::message::{LogId, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{Frame, GapCause, RefuseCode};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::exchange::{
    Budget, Exchange, InboundRecord, LocalLog, Nack, NackKind, OutboundRecord, PeerLog,
    ReceiveCursor, ReceiveError, Refusal, Verdict,
};
use alys_stream_transport::health::HeartbeatConfig;
use alys_stream_transport::session::credential::{Credentials as _, SessionAuth, Stated};
use alys_stream_transport::session::driver::{self, Control, SessionEnd, SessionParts, Unobserved};
use alys_stream_transport::session::features::{self, Features};
use alys_stream_transport::session::handshake::{self, Acceptance, Limits, PeerHello};
use alys_stream_transport::session::{Compression, Session, SessionConfig};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use tokio::sync::{Notify, mpsc};
use tonic::{Status, Streaming};

use crate::custody::{Custody, Declined};
use crate::intake::intake;
use crate::misbehaviour::{Misdeed, Refuse};
use crate::server::io::PeerInfo;
use crate::session::order::KeyOrder;
use crate::session::retries::Retries;
use crate::session::settling::Settling;
use crate::streams::{Act, Ears};
use crate::sync::lock;

pub(crate) mod order;
mod retries;
mod settling;

/// How long a node may take to say who it is.
const HELLO_WAIT: Duration = Duration::from_secs(5);

/// When a node may come back after it was told that there is no room.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// Orders that wait for a session.
const CONTROLS_MAX: usize = 8;

type Frames = BoxStream<'static, Result<Frame, Status>>;

/// The messages of one node, as its session sees them.
struct Client {
    custody: Arc<Custody>,
    node_id: Arc<str>,
    log: LogId,
    /// The number of this session, so that an older one gets nothing any more.
    session: u64,
    wake: Arc<Notify>,
    settling: Settling,
    retries: Retries,
    /// Keys of records that were refused for now.
    order: Mutex<KeyOrder>,
    /// Orders to the session itself.
    controls: mpsc::Sender<Control>,
}

/// One session stream, before its handshake.
pub(crate) struct SessionStream {
    pub(crate) custody: Arc<Custody>,
    pub(crate) peer: PeerInfo,
    pub(crate) ears: Ears,
    pub(crate) heartbeat: Duration,
    pub(crate) drain: Duration,
    pub(crate) frames_out: mpsc::Sender<Frame>,
}

impl SessionStream {
    /// Runs the session to its end.
    pub(crate) async fn run(self, frames: Streaming<Frame>) {
        let (custody, key) = (Arc::clone(&self.custody), self.ears.key);
        let frames = intake(frames, &self.ears, &self.custody.streams, self.peer.cut.clone());
        self.converse(frames).await;
        custody.streams.closed(key);
    }

    async fn converse(self, mut frames: Frames) {
        let first = tokio::time::timeout(HELLO_WAIT, frames.next()).await;
        let Ok(Some(Ok(first))) = first else {
            tracing::debug!(address = %self.peer.address, "a session stream ended before its hello");
            return;
        };
        let (controls_in, controls) = mpsc::channel(CONTROLS_MAX);
        let accepted = match handshake::read_hello(first) {
            Ok(hello) => self
                .accept(&hello, controls_in)
                .await
                .map(|(client, acceptance, theirs)| (hello, client, acceptance, theirs)),
            Err(violation) => {
                Err(Refusal::new(RefuseCode::ProtocolViolation, violation.to_string()))
            }
        };
        let (hello, client, acceptance, theirs) = match accepted {
            Ok(accepted) => accepted,
            Err(refusal) => {
                tracing::warn!(address = %self.peer.address, %refusal, "a session was refused");
                self.custody.metrics.declined("session");
                // The peer may have gone; then there is nobody to tell.
                drop(self.frames_out.send(handshake::refuse(&refusal)).await);
                return;
            }
        };
        let terms = handshake::accepted_terms(&hello, &acceptance);
        if self.frames_out.send(handshake::welcome(&acceptance)).await.is_err() {
            client.lost();
            return;
        }
        let node_id = Arc::clone(&client.node_id);
        tracing::info!(%node_id, session = %acceptance.session_id, address = %self.peer.address, "session opened");
        let heartbeat = HeartbeatConfig { interval: self.heartbeat, ..HeartbeatConfig::default() };
        // A link that does not leave the machine is faster than any compressor.
        let is_near = self.peer.address.ip().is_loopback();
        let compression = if is_near { Compression::Off } else { Compression::Auto };
        let config = SessionConfig { heartbeat, compression, ..SessionConfig::default() };
        let session = Session::new(tokio::time::Instant::now().into_std(), terms, config);
        let end = self.drive(session, client, theirs, controls, frames).await;
        tracing::info!(%node_id, session = %acceptance.session_id, %end, "session ended");
    }

    /// Decides whether a node gets a session, and until when its credential is good.
    async fn accept(
        &self,
        hello: &PeerHello,
        controls: mpsc::Sender<Control>,
    ) -> Result<(Arc<Client>, Acceptance, Option<UnixMillis>), Refusal> {
        if let Some(text) = self.peer.name_refusal(&hello.node_id) {
            return Err(Refusal::new(RefuseCode::Forbidden, text));
        }
        let theirs = Stated(None).verify(&hello.node_id, hello.auth.as_ref())?;
        if theirs.is_some_and(|until| until <= self.custody.now()) {
            let text = format!("the credential of {} has expired; show a new one", hello.node_id);
            return Err(Refusal::new(RefuseCode::CredentialExpired, text));
        }
        let (peers, log, name) =
            (Arc::clone(&self.custody.peers), hello.log_id, hello.node_id.clone());
        let remembered = self.custody.workers.run(move || peers.remember(log, &name)).await;
        if let Err(error) = remembered.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            return Err(Refusal::new(
                RefuseCode::Busy,
                format!("this node cannot store who you are: {error}"),
            ));
        }
        let client = Client {
            custody: Arc::clone(&self.custody),
            node_id: hello.node_id.as_str().into(),
            log: hello.log_id,
            session: self.ears.key.number(),
            wake: self.custody.wake_of(&hello.node_id),
            settling: Settling::default(),
            retries: Retries::default(),
            order: Mutex::default(),
            controls,
        };
        let local = client.local();
        let peer_log = hello.peer_log(local.log_id);
        handshake::check_rollback(local, &peer_log)?;
        client.check_seen(&peer_log)?;
        client.established(&peer_log)?;
        self.custody.streams.identify(self.ears.key, &hello.node_id, None);
        let acceptance = Acceptance {
            session_id: uuid::Uuid::now_v7().to_string(),
            peer_id: self.custody.own_id.clone(),
            local,
            cursor: client.receive_cursor(hello.log_id),
            limits: Limits::default(),
            heartbeat_interval: self.heartbeat,
            features: features::chosen(&hello.features, Features::ALL),
            server_time: self.custody.now(),
            software: concat!("alys-stream-governance/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Ok((Arc::new(client), acceptance, theirs))
    }

    /// Runs the session, and passes on what every live stream is told.
    async fn drive(
        mut self,
        session: Session,
        client: Arc<Client>,
        theirs: Option<UnixMillis>,
        controls: mpsc::Receiver<Control>,
        frames: Frames,
    ) -> SessionEnd<Status> {
        let controls_in = client.controls.clone();
        let parts = SessionParts {
            session,
            exchange: Arc::clone(&client),
            observer: Arc::new(Unobserved),
            clock: Arc::clone(&self.custody.clock),
            auth: SessionAuth { theirs, ..SessionAuth::none() },
            controls,
            shutdown: self.custody.streams.shutdown.clone(),
            drain: self.drain,
        };
        let mut running = std::pin::pin!(driver::run(parts, frames, self.frames_out.clone()));
        let mut settling = std::pin::pin!(client.settling.run(&self.custody.outbox));
        let mut retrying = std::pin::pin!(client.retries.run(|seq| client.send_again(seq)));
        let mut suspended = false;
        loop {
            let wanted = self.ears.flags.borrow_and_update().suspended;
            if wanted != suspended {
                suspended = wanted;
                if wanted {
                    self.custody.streams.did(Misdeed::Suspended);
                }
                let reason = "as told".to_owned();
                let control =
                    if wanted { Control::Suspend { reason } } else { Control::Resume { reason } };
                // A full queue means a session that is ending anyway.
                drop(controls_in.try_send(control));
            }
            tokio::select! {
                biased;
                () = self.ears.cancel.cancelled() => return SessionEnd::Closed,
                end = &mut running => return end,
                () = &mut settling => {}
                () = &mut retrying => {}
                changed = self.ears.flags.changed() => if changed.is_err() { return SessionEnd::Closed },
                act = self.ears.acts.recv() => match act {
                    Ok(Act::Close) => return SessionEnd::Closed,
                    Ok(Act::Drain(deadline)) => {
                        let reason = "as told".to_owned();
                        drop(controls_in.try_send(Control::Drain { deadline, reason }));
                    }
                    Err(_) => {}
                },
            }
        }
    }
}

impl Client {
    fn send_again(&self, seq: Seq) {
        lock(&self.custody.outbound).handle_retry(&self.node_id, self.session, seq);
        self.wake.notify_one();
    }

    /// Checks that what the node has of our log it has from this one, and not from one of which ours
    /// is an old copy (D12).
    fn check_seen(&self, peer: &PeerLog) -> Result<(), Refusal> {
        let outbox = &self.custody.outbox;
        let what = if outbox.is_contradicted_by(peer.seen, peer.highest_seen) {
            format!("seen record {}", peer.highest_seen)
        } else if outbox.is_outlived_by(peer.forgotten) {
            format!("been told that {} records are over", peer.forgotten.settled_count)
        } else {
            return Ok(());
        };
        let (peer, log) = (&peer.peer_id, outbox.log_id());
        let text = format!(
            "{peer} has {what} of log {log}, and not by this one: it was restored from an old copy"
        );
        Err(Refusal::new(RefuseCode::LogRolledBack, text))
    }

    /// Tells the node of a hole in our log (D5).
    fn report_gap(&self, seq: Seq, text: String) {
        let control = Control::Gap { range: seq..=seq, cause: GapCause::Corruption, text };
        if self.controls.try_send(control).is_err() {
            // It is ending, or told of more holes than orders may wait; the log has the rest.
            tracing::warn!(node_id = %self.node_id, %seq, "the node was not told of a hole");
        }
    }

    fn declined(&self, declined: &Declined) -> Verdict {
        self.custody.metrics.declined(declined.word());
        let kind = match declined {
            Declined::Busy => NackKind::Retry { after: Some(BUSY_RETRY) },
            Declined::Invalid(_) | Declined::Conflict(_) => NackKind::Terminal,
        };
        let code = u32::try_from(i32::from(declined.code())).unwrap_or(0);
        Verdict::Refused { kind, code, text: declined.to_string() }
    }
}

/// What everything is answered with when the node is told to refuse.
fn refused_as_told(refuse: Refuse) -> Verdict {
    use alys_stream_protocol::governance::ErrorCode;
    let (kind, code, text) = match refuse {
        Refuse::Terminal => {
            (NackKind::Terminal, ErrorCode::InvalidRequest, "refused for good, as told")
        }
        Refuse::Retryable { after_ms } => {
            let after = (after_ms > 0).then(|| Duration::from_millis(u64::from(after_ms)));
            (NackKind::Retry { after }, ErrorCode::ServiceUnavailable, "refused for now, as told")
        }
    };
    Verdict::Refused {
        kind,
        code: u32::try_from(i32::from(code)).unwrap_or(0),
        text: text.to_owned(),
    }
}

impl Exchange for Client {
    fn local(&self) -> LocalLog {
        let outbox = &self.custody.outbox;
        LocalLog {
            log_id: outbox.log_id(),
            opening: outbox.opening(),
            next_seq: outbox.next_seq(),
            settled: outbox.settled_durable(),
        }
    }

    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor {
        let cursor = self.custody.inbox.cursor(peer_log);
        ReceiveCursor {
            log_id: peer_log,
            received: cursor.received,
            highest_seen: cursor.highest_seen,
            seen: cursor.seen,
            forgotten: cursor.forgotten,
        }
    }

    fn receive_cursors(&self) -> Vec<ReceiveCursor> {
        vec![self.receive_cursor(self.log)]
    }

    fn established(&self, peer: &PeerLog) -> Result<(), Refusal> {
        self.custody
            .inbox
            .admit(peer.log_id, peer.opening, peer.next_seq)
            .map_err(|fenced| refusal(peer, &fenced))?;
        let settled = lock(&self.custody.outbound).handle_connected(
            &self.node_id,
            self.session,
            peer.payload_bytes_max,
            &peer.received,
        );
        if !settled.is_empty() {
            self.custody.outbox.settle(&settled);
        }
        Ok(())
    }

    fn poll_batch(&self, budget: Budget) -> Vec<OutboundRecord> {
        let seqs = lock(&self.custody.outbound).poll_batch(&self.node_id, self.session, budget);
        let mut records = Vec::with_capacity(seqs.len());
        for seq in seqs {
            match self.custody.outbox.read(seq) {
                Ok(Some(message)) => records.push(OutboundRecord { seq, message }),
                Ok(None) => lock(&self.custody.outbound).handle_given_up(&self.node_id, seq),
                Err(error) => {
                    tracing::error!(%seq, %error, "an answer cannot be read back and is given up");
                    lock(&self.custody.outbound).handle_given_up(&self.node_id, seq);
                    self.report_gap(seq, error.to_string());
                }
            }
        }
        records
    }

    async fn ready(&self) {
        self.wake.notified().await;
    }

    fn acked(&self, ack_id: u64, ranges: &SeqSet) {
        let owed = lock(&self.custody.outbound).handle_ack(&self.node_id, ranges);
        self.settling.push(ack_id, self.custody.outbox.settle(&owed));
    }

    fn acks_durable(&self) -> u64 {
        self.settling.durable()
    }

    fn peer_settled(&self, settled: Settled, covered: &SeqSet) {
        self.custody.inbox.forget(self.log, settled, covered);
    }

    fn nacked(&self, nack: Nack) {
        match nack.kind {
            NackKind::InProgress => {}
            NackKind::Retry { after } => self.retries.push(nack.seq, after),
            NackKind::Terminal => {
                tracing::warn!(node_id = %self.node_id, seq = %nack.seq, text = nack.text, "a node refused an answer");
                lock(&self.custody.outbound).handle_given_up(&self.node_id, nack.seq);
                self.custody.outbox.settle(&[nack.seq].into_iter().collect());
            }
        }
    }

    async fn receive(&self, records: Vec<InboundRecord>) -> Result<Vec<Verdict>, ReceiveError> {
        let refuse = self.custody.streams.flags().refuse;
        let records: Vec<InboxRecord> = records
            .into_iter()
            .map(|record| InboxRecord { seq: record.seq, message: record.message })
            .collect();
        if let Some(refuse) = refuse {
            self.custody.streams.did(refuse.misdeed());
            let mut order = lock(&self.order);
            if let Refuse::Retryable { .. } = refuse {
                records.iter().for_each(|record| order.handle_refused(record));
            }
            return Ok(records.iter().map(|_| refused_as_told(refuse)).collect());
        }
        let verdicts = self.custody.receive(self.log, &self.node_id, &self.order, records).await;
        let verdicts = verdicts.map_err(ReceiveError)?;
        let verdict = |taken: &Result<(), Declined>| match taken {
            Ok(()) => Verdict::Stored,
            Err(declined) => self.declined(declined),
        };
        Ok(verdicts.iter().map(verdict).collect())
    }

    fn established_plain(&self, _peer_id: &str) {
        // Only the side that dials has plain peers.
        debug_assert!(false, "this side is dialled");
    }

    fn receive_unsequenced(&self, _response: StreamResponse, _encoded: Bytes) {
        // Only the side that dials has plain peers.
        debug_assert!(false, "a session carries numbered records only");
    }

    fn gap(&self, range: RangeInclusive<Seq>, cause: GapCause, text: &str) {
        let (first, last) = (range.start(), range.end());
        tracing::error!(node_id = %self.node_id, %first, %last, ?cause, text, "a node reports a hole in its log");
    }

    fn lost(&self) {
        lock(&self.custody.outbound).handle_lost(&self.node_id, self.session);
    }
}

fn refusal(peer: &PeerLog, fenced: &Fenced) -> Refusal {
    let code = match fenced {
        Fenced::StaleEpoch { .. } => RefuseCode::StaleEpoch,
        Fenced::RolledBack { .. } | Fenced::Copied { .. } => RefuseCode::LogRolledBack,
    };
    Refusal::new(code, format!("log {} of {}: {fenced}", peer.log_id, peer.peer_id))
}
