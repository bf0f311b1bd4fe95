//! Two ends of a session, as after a handshake: what one sends the other receives, with no stream
//! and no task between them.

use std::time::{Duration, Instant};

use alys_stream_protocol::message::{Epoch, LogId, Message, Seq, Settled};
use alys_stream_protocol::session::Frame;
use alys_stream_transport::exchange::{LocalLog, OutboundRecord, ReceiveCursor};
use alys_stream_transport::session::features::Features;
use alys_stream_transport::session::handshake::{
    Acceptance, Limits, Offer, accepted_terms, hello, read_hello, read_welcome, welcome,
};
use alys_stream_transport::session::{Event, LocalView, Session, SessionConfig};
use prost::Message as _;

use crate::NOW;

/// Both ends, and the place of the next record.
#[derive(Debug)]
pub struct Pair {
    near: Session,
    far: Session,
    next: u64,
    now: Instant,
}

fn log(byte: u8) -> LocalLog {
    LocalLog {
        log_id: LogId::new([byte; 16]),
        opening: Epoch(1).into(),
        next_seq: Seq(1),
        settled: Settled::NONE,
    }
}

impl Pair {
    /// Shakes hands at `now`.
    ///
    /// # Panics
    ///
    /// When the handshake of the crate under measurement does not succeed.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let features = Features { zstd: false, ..Features::ALL }.names();
        let offer = Offer {
            node_id: "node".to_owned(),
            local: log(1),
            cursors: Vec::new(),
            features: features.clone(),
            software: "bench".to_owned(),
            auth: None,
            limits: Limits::default(),
        };
        let greeting = read_hello(hello(&offer)).expect("a hello of our own");
        let acceptance = Acceptance {
            session_id: "session".to_owned(),
            peer_id: "peer".to_owned(),
            local: log(2),
            cursor: ReceiveCursor::unseen(log(1).log_id),
            limits: Limits::default(),
            heartbeat_interval: Duration::from_secs(15),
            features,
            server_time: NOW,
            software: "bench".to_owned(),
        };
        let (_, terms) = read_welcome(welcome(&acceptance), &offer).expect("a welcome of our own");
        let theirs = accepted_terms(&greeting, &acceptance);
        let config = SessionConfig::default();
        Self {
            near: Session::new(now, terms, config),
            far: Session::new(now, theirs, config),
            next: 1,
            now,
        }
    }

    /// One batch from the records to the acknowledgement, encoded and decoded on the way; how many
    /// bytes that took on the wire.
    ///
    /// # Panics
    ///
    /// When a machine under measurement refuses it.
    pub fn carry(&mut self, messages: &[Message]) -> usize {
        let first = self.next;
        let records: Vec<OutboundRecord> = messages
            .iter()
            .zip(first..)
            .map(|(message, seq)| OutboundRecord { seq: Seq(seq), message: message.clone() })
            .collect();
        self.next += u64::try_from(records.len()).expect("small");
        let view =
            LocalView { settled: Settled::known_below(Seq(first)), acks_durable: 0, wall: NOW };
        let frame = self.near.handle_send(self.now, view, &records).expect("within the budget");
        let mut bytes = deliver(frame.expect("a batch"), &mut self.far, self.now);
        let mut stored = Vec::new();
        while let Some(event) = self.far.poll_event() {
            if let Event::Received(records) = event {
                stored.extend(records.iter().map(|r| (r.seq, r.message.payload.len())));
            }
        }
        assert_eq!(stored.len(), messages.len(), "everything arrived");
        for (seq, length) in stored {
            self.far.handle_stored(self.now, seq, u64::try_from(length).expect("small"));
        }
        self.far.handle_all_stored(self.now);
        let view = LocalView { settled: Settled::NONE, acks_durable: 0, wall: NOW };
        while let Some(frame) = self.far.poll_frame(self.now, view) {
            bytes += deliver(frame, &mut self.near, self.now);
        }
        while self.near.poll_event().is_some() {}
        assert_eq!(self.near.in_flight(), 0, "everything is acknowledged");
        bytes
    }
}

fn deliver(frame: Frame, to: &mut Session, now: Instant) -> usize {
    let encoded = frame.encode_to_vec();
    let bytes = encoded.len();
    let frame = Frame::decode(bytes::Bytes::from(encoded)).expect("a frame of our own");
    to.handle_frame(now, frame).expect("a frame of our own");
    bytes
}
