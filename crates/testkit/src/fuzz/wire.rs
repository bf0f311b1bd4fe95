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
use alys_stream_protocol::message::{Epoch, LogId, Opening, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{Batch, Data, Frame, frame};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_protocol::validate;
use alys_stream_transport::exchange::{LocalLog, PeerLog, ReceiveCursor};
use alys_stream_transport::session::handshake::{self, Acceptance, Offer};
use alys_stream_transport::session::{Limits, LocalView, Session, SessionConfig, Terms};
use prost::Message as _;

mod credentials;
mod filters;
mod seeds;

/// Most frames or pieces of one input.
const FRAMES_MAX: usize = 64;

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

    /// Feeds it.
    pub fn feed(self, data: &[u8]) {
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

/// Frames, each behind its length in two bytes, to a session that is established.
pub fn session(data: &[u8]) {
    let Some(mut session) = established() else { return };
    let mut now = now();
    for bytes in pieces(data) {
        now += Duration::from_millis(7);
        let Ok(frame) = Frame::decode(bytes) else { continue };
        read_records(&frame);
        if session.handle_frame(now, frame).is_err() || session.handle_timeout(now).is_err() {
            return;
        }
        drain(&mut session, now);
    }
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

/// A block of a batch, behind the size that it is said to have, to a session that takes such.
pub fn decompression(data: &[u8]) {
    let Some((size, block)) = data.split_first_chunk::<4>() else { return };
    let Some(mut session) = established() else { return };
    let data = Data {
        compressed: block.to_vec().into(),
        uncompressed_bytes: u32::from_le_bytes(*size),
        settled_below: 1,
        ..Data::default()
    };
    let frame = Frame { kind: Some(frame::Kind::Data(data)) };
    // Either answer is right; nothing else may happen.
    let _is_taken = session.handle_frame(now(), frame).is_ok();
    drain(&mut session, now());
}

/// The first frame of a node, and of a governance node.
pub fn handshake(data: &[u8]) {
    let Ok(frame) = Frame::decode(data) else { return };
    if let Ok(hello) = handshake::read_hello(frame.clone()) {
        let acceptance = acceptance();
        let peer_log = hello.peer_log(PEER_LOG);
        let _is_rolled_back = handshake::check_rollback(acceptance.local, &peer_log).is_err();
        let terms = handshake::accepted_terms(&hello, &acceptance);
        let config = SessionConfig::default();
        drain(&mut Session::new(now(), terms, config), now());
    }
    if let Ok((peer, terms)) = handshake::read_welcome(frame, &offer()) {
        let _is_rolled_back = handshake::check_rollback(offer().local, &peer).is_err();
        let config = SessionConfig::default();
        drain(&mut Session::new(now(), terms, config), now());
    }
}

/// Messages of the published protocol, in both directions.
pub fn governance(data: &[u8]) {
    if let Ok(request) = StreamRequest::decode(data) {
        let _is_valid = validate::request(&request).is_ok();
    }
    if let Ok(response) = StreamResponse::decode(data) {
        let _is_valid = validate::response(&response).is_ok();
        if let Some(stream_response::Payload::FederationUpdate(update)) = &response.payload {
            verify(update);
        }
    }
    if let Ok(update) = FederationUpdate::decode(data) {
        verify(&update);
    }
}

/// Nobody signed it: whatever it says, it is refused.
fn verify(update: &FederationUpdate) {
    let _digest = update_digest(update);
    if let Some(federation) = federation() {
        let verified = federation.verify_update(update);
        assert!(verified.is_err(), "invariant D9: nobody signed this: {verified:?}");
    }
}

/// A configuration file.
///
/// # Panics
///
/// When an error is not one line.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = NodeConfig::parse(Path::new("node.yaml"), text) {
        let line = error.to_string();
        assert!(!line.contains('\n'), "an error is one line: {line:?}");
    }
    let parsed = GovernanceConfig::parse(text).and_then(|config| config.validate());
    if let Err(error) = parsed {
        let line = error.to_string();
        assert!(!line.contains('\n'), "an error is one line: {line:?}");
    }
}

/// Certificates of a peer, or our own files with certificates, keys, pins and revocation lists.
///
/// # Panics
///
/// When somebody is believed for whom nobody vouched, an error is not one line, or shows a key.
pub fn credentials(data: &[u8]) {
    credentials::feed(data);
}

/// A filter of dead letters as it comes over the wire, or one of log lines.
///
/// # Panics
///
/// When a filter means something else than its parts, or an error is not one line.
pub fn filters(data: &[u8]) {
    filters::feed(data);
}

/// Reads the records of a frame as messages.
fn read_records(frame: &Frame) {
    let Some(frame::Kind::Data(data)) = &frame.kind else { return };
    for record in &data.records {
        let _is_valid = record.clone().try_into_message().is_ok();
    }
    let _is_batch = Batch::decode(data.compressed.clone()).is_ok();
}

fn drain(session: &mut Session, now: Instant) {
    let view = LocalView { settled_below: Seq(1), acks_durable: 0, wall: UnixMillis(1) };
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
    LocalLog { log_id, opening: Epoch(3).into(), next_seq: Seq(50), settled_below: Seq(10) }
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
