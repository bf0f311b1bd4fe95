//! What passes on a connection, read off the wire: HTTP/2, gRPC, frames of the session, messages of
//! the published protocol.
//!
//! It reads what the product really sends, so that the checker believes nobody's word. Where there is
//! TLS, `sealed` opens it first.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{Batch, Data, Frame, Record, SeqRange, frame};
use alys_stream_protocol::time::WallClock as _;
use bytes::BytesMut;
use prost::Message as _;

use crate::clock::SkewedClock;
use crate::journal::{Carried, Fact, Journal};
use crate::logs::Logs;
use crate::net::{Machine, Tap};
use crate::planted::{Mixer, Planted, WireBug};

mod backlog;
mod plain;
pub(crate) mod sealed;

use backlog::Backlog;

/// Bytes with which a client of HTTP/2 begins.
const PREFACE_BYTES: usize = 24;

/// Bytes of the header of an HTTP/2 frame, and of a message of gRPC.
const FRAME_HEADER: usize = 9;
const MESSAGE_HEADER: usize = 5;

const TYPE_DATA: u8 = 0;
const FLAG_PADDED: u8 = 8;

/// Which way a tap looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    ToGovernance,
    ToNode,
}

/// What the taps of all connections share.
pub(crate) struct Tapped {
    pub(crate) journal: Journal,
    /// The clocks of those who dial.
    pub(crate) clocks: BTreeMap<Machine, Arc<SkewedClock>>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) ids: Logs,
    pub(crate) planted: Option<Planted>,
    pub(crate) mixer: Mixer,
}

/// The tap of one direction of a connection.
pub(crate) struct SessionTap {
    shared: Arc<Tapped>,
    way: Way,
    node: Machine,
    gov: Machine,
    /// What is missing of the preface.
    preface: usize,
    /// What is there of a message, per stream.
    streams: BTreeMap<u32, Stream>,
    bug: WireBug,
    backlog: Backlog,
    /// When the present frame was handed over at the earliest, by the clock of the node.
    handed_at: u64,
}

/// What a stream speaks, by its first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Speech {
    #[default]
    Unknown,
    Session,
    Plain,
    /// Nothing that is looked at.
    Other,
}

#[derive(Default)]
struct Stream {
    begun: Vec<u8>,
    speech: Speech,
    log: u8,
    /// Below which number everything is over, as far as the journal has it.
    over_below: u64,
}

impl Stream {
    /// Learns from a frame below which number everything is over; what is news of a heartbeat.
    fn learn_over(&mut self, kind: &frame::Kind) -> Option<u64> {
        let (below, is_beat) = match kind {
            frame::Kind::Hello(hello) => (hello.settled_below, false),
            frame::Kind::Data(data) => (data.settled_below, false),
            frame::Kind::Heartbeat(beat) => (beat.settled_below, true),
            frame::Kind::HeartbeatAck(ack) => (ack.settled_below, true),
            frame::Kind::Welcome(_)
            | frame::Kind::Refuse(_)
            | frame::Kind::Ack(_)
            | frame::Kind::Nack(_)
            | frame::Kind::Credit(_)
            | frame::Kind::AuthRefresh(_)
            | frame::Kind::Suspend(_)
            | frame::Kind::Resume(_)
            | frame::Kind::Drain(_)
            | frame::Kind::Gap(_)
            | frame::Kind::Chunk(_) => return None,
        };
        let is_news = below > self.over_below;
        self.over_below = self.over_below.max(below);
        (is_news && is_beat).then_some(below)
    }
}

impl SessionTap {
    /// A tap of a connection from the first machine to the second.
    pub(crate) fn new(shared: Arc<Tapped>, way: Way, (node, gov): (Machine, Machine)) -> Self {
        let bug = WireBug::new(shared.planted, way);
        let (streams, backlog) = (BTreeMap::new(), Backlog::default());
        let preface = if way == Way::ToGovernance { PREFACE_BYTES } else { 0 };
        Self { shared, way, node, gov, preface, streams, bug, backlog, handed_at: 0 }
    }

    /// Without a bug: nobody changes a frame under TLS.
    fn honest(self) -> Self {
        let bug = WireBug::new(None, self.way);
        Self { bug, ..self }
    }

    /// The time by the clock of who dialled.
    fn now(&self) -> u64 {
        self.shared.clocks.get(&self.node).map_or(0, |clock| clock.now().0)
    }

    fn data(&mut self, stream: u32, payload: &mut [u8]) {
        let found = self.streams.entry(stream).or_default();
        if found.speech == Speech::Other {
            return;
        }
        // A bug may only change messages that lie in one frame.
        if found.begun.is_empty() && found.speech != Speech::Plain {
            self.bug.spoil(payload, (self.node, self.gov), &self.shared.mixer);
        }
        found.begun.extend_from_slice(payload);
        let mut messages = Vec::new();
        while let Some(header) = found.begun.first_chunk::<MESSAGE_HEADER>() {
            let bytes = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let end = MESSAGE_HEADER + usize::try_from(bytes).unwrap_or(usize::MAX);
            if found.begun.len() < end {
                break;
            }
            messages.push(found.begun.get(MESSAGE_HEADER..end).unwrap_or_default().to_vec());
            found.begun.drain(..end);
        }
        for message in messages {
            self.message(stream, &message);
        }
    }

    fn message(&mut self, stream: u32, bytes: &[u8]) {
        let kind = Frame::decode(bytes).ok().and_then(|frame| frame.kind);
        let Some(found) = self.streams.get_mut(&stream) else { return };
        if found.speech == Speech::Unknown {
            let is_session = match (&kind, self.way) {
                (Some(frame::Kind::Hello(hello)), Way::ToGovernance) => {
                    self.node.identity().is_some_and(|node| hello.node_id == node.name())
                        && hello.log_id.len() == 16
                }
                (Some(frame::Kind::Welcome(welcome)), Way::ToNode) => {
                    welcome.peer_log_id.len() == 16
                }
                (Some(frame::Kind::Refuse(_)), Way::ToNode) => true,
                _ => false,
            };
            found.speech = match is_session {
                true => Speech::Session,
                false if plain::begins(bytes, self.way, self.node) => Speech::Plain,
                false => Speech::Other,
            };
        }
        match found.speech {
            Speech::Session => {}
            Speech::Plain => {
                let to = if self.way == Way::ToNode { self.node } else { self.gov };
                let fact = plain::fact(self.way, (to, self.handed_at), bytes);
                return self.note(fact);
            }
            Speech::Unknown | Speech::Other => {
                found.begun = Vec::new();
                return;
            }
        }
        if let Some(frame::Kind::Hello(hello)) = &kind {
            found.log = self.shared.logs.number(&hello.log_id);
        }
        let Some(kind) = kind else { return };
        let (log, news) = (found.log, found.learn_over(&kind));
        let fact = match self.way {
            Way::ToGovernance => {
                let over = |settled_below| Fact::Over { to: self.gov, log, settled_below };
                news.map(over).or_else(|| self.of_node(kind, log))
            }
            Way::ToNode => self.of_governance(kind),
        };
        self.note(fact);
    }

    fn note(&self, fact: Option<Fact>) {
        if let Some(fact) = fact {
            let who = if self.way == Way::ToNode { self.gov } else { self.node };
            self.shared.journal.note(who, fact);
        }
    }

    fn of_node(&self, kind: frame::Kind, log: u8) -> Option<Fact> {
        let to = self.gov;
        match kind {
            frame::Kind::Hello(hello) => Some(Fact::Hello {
                to,
                log,
                epoch: hello.epoch,
                next_seq: hello.next_seq,
                settled_below: hello.settled_below,
            }),
            frame::Kind::Data(data) => {
                let (at_ms, settled_below) = (self.handed_at, data.settled_below);
                Some(Fact::Sent { to, log, at_ms, settled_below, records: records(data) })
            }
            frame::Kind::Chunk(chunk) => {
                let (at_ms, settled_below) = (self.handed_at, chunk.settled_below);
                let records = vec![carried(&chunk.record?)?];
                Some(Fact::Sent { to, log, at_ms, settled_below, records })
            }
            frame::Kind::Ack(ack) => Some(Fact::PushAcked { to, ranges: ranges(&ack.ranges) }),
            frame::Kind::Gap(gap) => {
                let range = gap.range?;
                Some(Fact::GapTold { to, first: range.first, last: range.last })
            }
            frame::Kind::Welcome(_)
            | frame::Kind::Refuse(_)
            | frame::Kind::Nack(_)
            | frame::Kind::Credit(_)
            | frame::Kind::Heartbeat(_)
            | frame::Kind::HeartbeatAck(_)
            | frame::Kind::AuthRefresh(_)
            | frame::Kind::Suspend(_)
            | frame::Kind::Resume(_)
            | frame::Kind::Drain(_) => None,
        }
    }

    fn of_governance(&self, kind: frame::Kind) -> Option<Fact> {
        let to = self.node;
        match kind {
            frame::Kind::Welcome(welcome) => Some(Fact::Welcome {
                to,
                highest: welcome.highest_seq_seen,
                received: ranges(&welcome.received),
            }),
            frame::Kind::Refuse(refuse) => Some(Fact::Rejected { to, code: refuse.code }),
            frame::Kind::Data(data) => {
                let all = inflated(data);
                let records = all.iter().filter_map(|it| Some((carried(it)?, plain::words(it))));
                // Governance mints its ids: they differ from run to run.
                let number = |(mut record, words): (Carried, String)| {
                    let mut id = [0; 16];
                    id[15] = self.shared.ids.number(record.id.as_bytes());
                    record.id = MessageId::new(id);
                    (record, words)
                };
                Some(Fact::Pushed { to, records: records.map(number).collect() })
            }
            frame::Kind::Ack(ack) => Some(Fact::Acked { to, ranges: ranges(&ack.ranges) }),
            frame::Kind::Nack(nack) => Some(Fact::Nacked { to, seq: nack.seq, kind: nack.kind }),
            frame::Kind::Hello(_)
            | frame::Kind::Credit(_)
            | frame::Kind::Heartbeat(_)
            | frame::Kind::HeartbeatAck(_)
            | frame::Kind::AuthRefresh(_)
            | frame::Kind::Suspend(_)
            | frame::Kind::Resume(_)
            | frame::Kind::Drain(_)
            | frame::Kind::Gap(_)
            | frame::Kind::Chunk(_) => None,
        }
    }
}

fn records(data: Data) -> Vec<Carried> {
    inflated(data).iter().filter_map(carried).collect()
}

fn inflated(data: Data) -> Vec<Record> {
    if data.compressed.is_empty() {
        return data.records;
    }
    let bytes = usize::try_from(data.uncompressed_bytes).unwrap_or(0);
    let block = zstd::bulk::decompress(&data.compressed, bytes).unwrap_or_default();
    Batch::decode(&*block).unwrap_or_default().records
}

fn carried(record: &Record) -> Option<Carried> {
    let id = MessageId::try_from_slice(&record.message_id).ok()?;
    let Record { seq, deadline_ms, priority, .. } = *record;
    Some(Carried { seq: Seq(seq), id, deadline_ms, priority })
}

fn ranges(ranges: &[SeqRange]) -> SeqSet {
    SeqSet::try_from_wire(ranges).unwrap_or_default()
}

impl SessionTap {
    fn frame(&mut self, frame: &mut [u8]) {
        self.handed_at = self.backlog.handle_written(self.now(), frame.len());
        let Some((header, payload)) = frame.split_first_chunk_mut::<FRAME_HEADER>() else { return };
        if header[3] != TYPE_DATA {
            return;
        }
        let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
        let is_padded = header[4] & FLAG_PADDED != 0;
        let payload = match payload.split_first_mut() {
            Some((padding, rest)) if is_padded => {
                let end = rest.len().saturating_sub(usize::from(*padding));
                rest.get_mut(..end).unwrap_or_default()
            }
            _ => payload,
        };
        self.data(stream, payload);
    }
}

impl Tap for SessionTap {
    fn next(&mut self, begun: &mut BytesMut) -> Option<BytesMut> {
        if self.preface > 0 {
            let bytes = self.preface;
            let preface = (begun.len() >= bytes).then(|| begun.split_to(bytes))?;
            self.preface = 0;
            return Some(preface);
        }
        let header = begun.first_chunk::<FRAME_HEADER>()?;
        let payload = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        let whole = FRAME_HEADER + usize::try_from(payload).unwrap_or(0);
        let mut frame = (begun.len() >= whole).then(|| begun.split_to(whole))?;
        self.frame(&mut frame);
        Some(frame)
    }

    fn blocked(&mut self) {
        self.backlog.handle_blocked(self.now());
    }

    fn flushed(&mut self) {
        self.backlog.handle_flushed(self.now());
    }
}
