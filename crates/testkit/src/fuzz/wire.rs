//! What a peer or an operator may say: frames, handshakes, compressed batches, messages of
//! `governance.v1`, configuration files, credentials, filters. Whatever the bytes, the answer is a
//! value or an error.

use std::path::Path;
use std::time::{Duration, Instant};

use alys_stream_config::NodeConfig;
use alys_stream_governance::GovernanceConfig;
use alys_stream_protocol::federation::{Federation, Member, ScriptKind, update_digest};
use alys_stream_protocol::governance::{
    FederationUpdate, StreamRequest, StreamResponse, stream_response,
};
use alys_stream_protocol::message::{Epoch, Forgotten, LogId, Opening, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{Data, Frame, frame};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_protocol::validate;
use alys_stream_transport::exchange::{LocalLog, PeerLog, ReceiveCursor};
use alys_stream_transport::grpc::read_frame;
use alys_stream_transport::session::handshake::{self, Acceptance, Offer};
use alys_stream_transport::session::{Inflate, Limits, LocalView, Session, SessionConfig, Terms};
use prost::Message as _;

mod credentials;
mod filters;
mod seeds;

/// Most frames or pieces of one input.
const FRAMES_MAX: usize = 64;

/// Of the logs of both sides.
const SETTLED_BELOW: Seq = Seq(10);

const NODE_LOG: LogId = LogId::new([1; 16]);
const PEER_LOG: LogId = LogId::new([2; 16]);

/// A fuzz target: its name is that of its corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Frames to a session that is established.
    Session,
    /// The first frame of each side.
    Handshake,
    /// A compressed batch.
    Decompression,
    /// Messages of `governance.v1`.
    Governance,
    /// Configuration files of a node and of a governance node.
    Configuration,
    /// Certificates that a peer shows, and the files that say whom to believe.
    Credentials,
    /// What dead letters and log lines are filtered by.
    Filters,
}

impl Target {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Session,
        Self::Handshake,
        Self::Decompression,
        Self::Governance,
        Self::Configuration,
        Self::Credentials,
        Self::Filters,
    ];

    /// The name of the target and of its corpus.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Handshake => "handshake",
            Self::Decompression => "decompression",
            Self::Governance => "governance",
            Self::Configuration => "configuration",
            Self::Credentials => "credentials",
            Self::Filters => "filters",
        }
    }

    /// Feeds it; whether it took anything of it.
    #[must_use]
    pub fn feed(self, data: &[u8]) -> bool {
        match self {
            Self::Session => session(data),
            Self::Handshake => handshake(data),
            Self::Decompression => decompression(data),
            Self::Governance => governance(data),
            Self::Configuration => configuration(data),
            Self::Credentials => credentials(data),
            Self::Filters => filters(data),
        }
    }

    /// Inputs that mean something, by name: what the corpus begins with.
    #[must_use]
    pub fn seeds(self) -> Vec<(String, Vec<u8>)> {
        seeds::of(self)
    }
}

/// Frames, each behind its length in two bytes, to a session that is established; whether one was
/// taken.
#[must_use]
pub fn session(data: &[u8]) -> bool {
    let Some(mut session) = established() else { return false };
    let (mut now, mut is_taken) = (now(), false);
    let mut inflate = Inflate::default();
    for bytes in pieces(data) {
        now += Duration::from_millis(7);
        let Ok(frame) = read_frame(bytes.to_vec().into()) else { break };
        if !take(&mut session, &mut inflate, now, frame) || session.handle_timeout(now).is_err() {
            break;
        }
        is_taken = true;
        drain(&mut session, now);
    }
    is_taken
}

/// One frame to a session, its block inflated first; whether it was taken.
fn take(session: &mut Session, inflate: &mut Inflate, now: Instant, mut frame: Frame) -> bool {
    let inflated = inflate.inflate_frame(&mut frame, || session.inflated_bytes_max());
    inflated.and_then(|()| session.handle_frame(now, frame)).is_ok()
}

/// The pieces of an input, each behind its length in two bytes; the last one as far as it goes.
fn pieces(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (piece, next) = behind.split_at(length);
        rest = next;
        Some(piece)
    })
    .take(FRAMES_MAX)
}

/// A block of a batch, behind the size that it is said to have, to a session that takes such; whether
/// it did.
#[must_use]
pub fn decompression(data: &[u8]) -> bool {
    let Some((size, block)) = data.split_first_chunk::<4>() else { return false };
    let Some(mut session) = established() else { return false };
    let data = Data {
        compressed: block.to_vec().into(),
        uncompressed_bytes: u32::from_le_bytes(*size),
        settled_below: SETTLED_BELOW.0,
        ..Data::default()
    };
    let frame = Frame { kind: Some(frame::Kind::Data(data)) };
    let is_taken = take(&mut session, &mut Inflate::default(), now(), frame);
    drain(&mut session, now());
    is_taken
}

/// The first frame of a node, and of a governance node; whether it is either.
#[must_use]
pub fn handshake(data: &[u8]) -> bool {
    let Ok(frame) = read_frame(data.to_vec().into()) else { return false };
    let mut is_taken = false;
    if let Ok(hello) = handshake::read_hello(frame.clone()) {
        let acceptance = acceptance();
        let peer_log = hello.peer_log(PEER_LOG);
        let _is_rolled_back = handshake::check_rollback(acceptance.local, &peer_log).is_err();
        let terms = handshake::accepted_terms(&hello, &acceptance);
        let config = SessionConfig::default();
        drain(&mut Session::new(now(), terms, config), now());
        is_taken = true;
    }
    if let Ok((peer, terms)) = handshake::read_welcome(frame, &offer()) {
        let _is_rolled_back = handshake::check_rollback(offer().local, &peer).is_err();
        let config = SessionConfig::default();
        drain(&mut Session::new(now(), terms, config), now());
        is_taken = true;
    }
    is_taken
}

/// Messages of the published protocol, in both directions; whether it is a valid one.
#[must_use]
pub fn governance(data: &[u8]) -> bool {
    let mut is_valid = false;
    if let Ok(request) = StreamRequest::decode(data) {
        is_valid |= validate::request(&request).is_ok();
    }
    if let Ok(response) = StreamResponse::decode(data) {
        is_valid |= validate::response(&response).is_ok();
        if let Some(stream_response::Payload::FederationUpdate(update)) = &response.payload {
            verify(update);
        }
    }
    if let Ok(update) = FederationUpdate::decode(data) {
        verify(&update);
    }
    is_valid
}

/// Nobody signed it: whatever it says, it is refused.
fn verify(update: &FederationUpdate) {
    let _digest = update_digest(update);
    if let Some(federation) = federation() {
        let verified = federation.verify_update(update);
        assert!(verified.is_err(), "invariant D9: nobody signed this: {verified:?}");
    }
}

/// A configuration file; whether it is one of either kind.
///
/// # Panics
///
/// When an error is not one line.
#[must_use]
pub fn configuration(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let check = |error: String| assert!(!error.contains('\n'), "an error is one line: {error:?}");
    let node = NodeConfig::parse(Path::new("node.yaml"), text);
    let governance = GovernanceConfig::parse(text).and_then(|config| config.validate());
    let is_taken = node.is_ok() || governance.is_ok();
    node.err().map(|error| error.to_string()).into_iter().for_each(check);
    governance.err().map(|error| error.to_string()).into_iter().for_each(check);
    is_taken
}

/// Certificates of a peer, or our own files with certificates, keys, pins and revocation lists;
/// whether somebody is believed.
///
/// # Panics
///
/// When somebody is believed for whom nobody vouched, an error is not one line, or shows a key.
#[must_use]
pub fn credentials(data: &[u8]) -> bool {
    credentials::feed(data)
}

/// A filter of dead letters as it comes over the wire, or one of log lines; whether it is one.
///
/// # Panics
///
/// When a filter means something else than its parts, or an error is not one line.
#[must_use]
pub fn filters(data: &[u8]) -> bool {
    filters::feed(data)
}

fn drain(session: &mut Session, now: Instant) {
    let view = LocalView { settled: Settled::NONE, acks_durable: 0, wall: UnixMillis(1) };
    while session.poll_event().is_some() {}
    for _ in 0..FRAMES_MAX {
        if session.poll_frame(now, view).is_none() {
            return;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a fuzzer has no other beginning of time")]
fn now() -> Instant {
    Instant::now()
}

fn local(log_id: LogId) -> LocalLog {
    LocalLog {
        log_id,
        opening: Epoch(3).into(),
        next_seq: Seq(50),
        settled: Settled::known_below(SETTLED_BELOW),
    }
}

fn offer() -> Offer {
    Offer {
        node_id: "node-1".to_owned(),
        local: local(NODE_LOG),
        cursors: Vec::new(),
        features: vec!["zstd".to_owned(), "chunks".to_owned()],
        software: "fuzz/1".to_owned(),
        auth: None,
        limits: Limits::default(),
    }
}

fn acceptance() -> Acceptance {
    Acceptance {
        session_id: "session".to_owned(),
        peer_id: "gov-1".to_owned(),
        local: local(PEER_LOG),
        cursor: ReceiveCursor {
            log_id: NODE_LOG,
            received: [Seq(11), Seq(12), Seq(20)].into_iter().collect::<SeqSet>(),
            highest_seen: Seq(20),
            seen: Opening::NONE,
            forgotten: Forgotten::NONE,
        },
        limits: Limits::default(),
        heartbeat_interval: Duration::from_secs(15),
        features: vec!["zstd".to_owned(), "chunks".to_owned()],
        server_time: UnixMillis(1_700_000_000_000),
        software: "fuzz/1".to_owned(),
    }
}

/// A session of a node whose handshake is over.
fn established() -> Option<Session> {
    let welcome = handshake::welcome(&acceptance());
    let (_, terms): (PeerLog, Terms) = handshake::read_welcome(welcome, &offer()).ok()?;
    Some(Session::new(now(), terms, SessionConfig::default()))
}

fn federation() -> Option<Federation> {
    // The generator of the curve, and its double: keys of 1 and 2.
    let keys = [
        "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5",
    ];
    let members = (1..).zip(keys).map(|(n, key)| {
        Some(Member { id: format!("m{n}"), public_key: key.parse().ok()?, weight: 1 })
    });
    let members = members.collect::<Option<Vec<_>>>()?;
    Federation::try_new(2, members, ScriptKind::P2wsh).ok()
}
