//! Bugs that are planted on purpose, in what the simulation wraps around the product: the checker
//! must find each of them. At least one for every promise.
//!
//! Each is something that is done wrong, in a disk (`disk::spoilt`), on the wire (here), by an actor,
//! by a clock or by what a process is configured with; what the checker reads of it is what happened.
//! Nothing else of a run depends on it: its plan is that of its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use alys_stream_protocol::session::{Ack, Frame, Hello, Record, SeqRange, frame};
use prost::Message as _;

use crate::net::Machine;
use crate::tap::Way;

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Planted {
    /// D1: the disk of the node confirms a sync of the buffer without one.
    AckBeforeFsync,
    /// D1: after a crash the node does not see the oldest segment of its buffer.
    ForgetToReplay,
    /// D2: a governance node acknowledges what its disk does not hold yet.
    SettleUnstored,
    /// D2: whatever was sent counts as acknowledged.
    SettleOnSend,
    /// D2: the node begins every life without dead letters.
    ForgetLetters,
    /// D3: a governance node remembers only the last message.
    DedupWindow,
    /// D3: governance takes the logs of all nodes for one, and knows numbers again without them.
    MixLogs,
    /// D4: two records of one key change places on the wire.
    ReorderKey,
    /// D5: what is damaged passes for settled.
    SkipGap,
    /// D6: the node's clock for deadlines stands an hour back.
    DeliverExpired,
    /// D7: the node does not keep to the window of its outbox.
    KeepEverything,
    /// D8: governance begins every life without what it is to push.
    ForgetPushes,
    /// D8: an actor says that it dealt with a push before it does.
    AnswerUnhandled,
    /// D9: the node takes fewer signatures than the federation asks for.
    ActOnUnsigned,
    /// D9: the Chain tells of heights that it has not reached.
    ActTooEarly,
    /// D10: damage to one record takes the next ones with it.
    LoseNeighbours,
    /// D11: a sync that failed is tried again on the same file.
    RetryFsync,
    /// D11: a disk that is full passes for one that is broken.
    FullIsBroken,
    /// D12: governance begins every life without what it saw of logs, so that a restored copy goes on
    /// unnoticed.
    ForgetLog,
    /// D12: a record leaves under a number that another one had.
    ReuseSeq,
    /// D12: what governance acknowledges to one node reaches another one.
    MixAcks,
}

impl Planted {
    /// Every one, in the order of the promises.
    pub const ALL: [Self; 21] = [
        Self::AckBeforeFsync,
        Self::ForgetToReplay,
        Self::SettleUnstored,
        Self::SettleOnSend,
        Self::ForgetLetters,
        Self::DedupWindow,
        Self::MixLogs,
        Self::ReorderKey,
        Self::SkipGap,
        Self::DeliverExpired,
        Self::KeepEverything,
        Self::ForgetPushes,
        Self::AnswerUnhandled,
        Self::ActOnUnsigned,
        Self::ActTooEarly,
        Self::LoseNeighbours,
        Self::RetryFsync,
        Self::FullIsBroken,
        Self::ForgetLog,
        Self::ReuseSeq,
        Self::MixAcks,
    ];

    /// The promise that it breaks.
    #[must_use]
    pub const fn promise(self) -> &'static str {
        match self {
            Self::AckBeforeFsync | Self::ForgetToReplay => "D1",
            Self::SettleUnstored | Self::SettleOnSend | Self::ForgetLetters => "D2",
            Self::DedupWindow | Self::MixLogs => "D3",
            Self::ReorderKey => "D4",
            Self::SkipGap => "D5",
            Self::DeliverExpired => "D6",
            Self::KeepEverything => "D7",
            Self::ForgetPushes | Self::AnswerUnhandled => "D8",
            Self::ActOnUnsigned | Self::ActTooEarly => "D9",
            Self::LoseNeighbours => "D10",
            Self::RetryFsync | Self::FullIsBroken => "D11",
            Self::ForgetLog | Self::ReuseSeq | Self::MixAcks => "D12",
        }
    }

    /// Its name on the command line and in tables.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AckBeforeFsync => "ack_before_fsync",
            Self::ForgetToReplay => "forget_to_replay",
            Self::SettleUnstored => "settle_unstored",
            Self::SettleOnSend => "settle_on_send",
            Self::ForgetLetters => "forget_letters",
            Self::DedupWindow => "dedup_window",
            Self::MixLogs => "mix_logs",
            Self::ReorderKey => "reorder_key",
            Self::SkipGap => "skip_gap",
            Self::DeliverExpired => "deliver_expired",
            Self::KeepEverything => "keep_everything",
            Self::ForgetPushes => "forget_pushes",
            Self::AnswerUnhandled => "answer_unhandled",
            Self::ActOnUnsigned => "act_on_unsigned",
            Self::ActTooEarly => "act_too_early",
            Self::LoseNeighbours => "lose_neighbours",
            Self::RetryFsync => "retry_fsync",
            Self::FullIsBroken => "full_is_broken",
            Self::ForgetLog => "forget_log",
            Self::ReuseSeq => "reuse_seq",
            Self::MixAcks => "mix_acks",
        }
    }
}

/// Of so many batches one begins with a number that was given before.
const REUSE_EVERY: u32 = 4;

/// What the wires of all connections share, for bugs that mix nodes up.
#[derive(Debug, Default)]
pub(crate) struct Mixer {
    /// What governance nodes acknowledged last, and to whom.
    last_acks: Mutex<BTreeMap<Machine, (Machine, Vec<SeqRange>)>>,
    /// Whose log was taken for another one, and by whom: once each, or it would be fenced for ever.
    mixed: Mutex<BTreeSet<(Machine, Machine)>>,
    /// The highest number that was sent, and by whom to whom.
    sent: Mutex<BTreeMap<(Machine, Machine), u64>>,
}

impl Mixer {
    /// What is acknowledged is what another node was told before, if one was.
    fn mix_acks(&self, (node, gov): (Machine, Machine), ack: &mut Ack) -> bool {
        let mut last = self.last_acks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.insert(gov, (node, ack.ranges.clone()));
        let other = before.filter(|(to, _)| *to != node);
        other.map(|(_, ranges)| ack.ranges = ranges).is_some()
    }

    fn note_sent(&self, ends: (Machine, Machine), records: &[Record]) {
        let highest = records.iter().map(|record| record.seq).max().unwrap_or(0);
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).insert(ends, highest);
    }

    /// What is acknowledged is everything up to what was sent last.
    fn settle_on_send(&self, ends: (Machine, Machine), ack: &mut Ack) -> bool {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).get(&ends).copied();
        let (Some(last), Some(sent)) = (ack.ranges.last_mut(), sent) else { return false };
        last.last = last.last.max(sent);
        true
    }

    /// The log has the id that every log has.
    fn mix_logs(&self, ends: (Machine, Machine), hello: &mut Hello) -> bool {
        hello.log_id = vec![1; hello.log_id.len()].into();
        self.mixed.lock().unwrap_or_else(PoisonError::into_inner).insert(ends)
    }
}

/// What a bug does to the bytes of one direction of a connection.
#[derive(Debug)]
pub(crate) struct WireBug {
    bug: Option<Planted>,
    batches: u32,
    /// The number of a record of the batch before.
    given: u64,
}

impl WireBug {
    pub(crate) fn new(planted: Option<Planted>, way: Way) -> Self {
        let spoils = match way {
            Way::ToGovernance => {
                &[Planted::ReorderKey, Planted::ReuseSeq, Planted::MixLogs, Planted::SettleOnSend][..]
            }
            Way::ToNode => &[Planted::MixAcks, Planted::SettleOnSend][..],
        };
        Self { bug: planted.filter(|bug| spoils.contains(bug)), batches: 0, given: 0 }
    }

    /// May change a payload of HTTP/2 between a node and a governance node, never its length.
    pub(crate) fn spoil(&mut self, payload: &mut [u8], ends: (Machine, Machine), mixer: &Mixer) {
        let Some(bug) = self.bug else { return };
        let Some((_, message)) = payload.split_first_chunk_mut::<5>() else { return };
        let Ok(Frame { kind: Some(mut kind) }) = Frame::decode(&*message) else { return };
        let is_spoilt = match (bug, &mut kind) {
            (Planted::ReorderKey, frame::Kind::Data(data)) => reorder(&mut data.records),
            (Planted::ReuseSeq, frame::Kind::Data(data)) => self.reuse(&mut data.records),
            (Planted::MixLogs, frame::Kind::Hello(hello)) => mixer.mix_logs(ends, hello),
            (Planted::MixAcks, frame::Kind::Ack(ack)) => mixer.mix_acks(ends, ack),
            (Planted::SettleOnSend, frame::Kind::Data(data)) => {
                mixer.note_sent(ends, &data.records);
                false
            }
            (Planted::SettleOnSend, frame::Kind::Ack(ack)) => mixer.settle_on_send(ends, ack),
            _ => false,
        };
        let spoilt = Frame { kind: Some(kind) }.encode_to_vec();
        if is_spoilt && spoilt.len() == message.len() {
            message.copy_from_slice(&spoilt);
        }
    }

    fn reuse(&mut self, records: &mut [Record]) -> bool {
        let Some(first) = records.first_mut().filter(|first| first.seq > 0) else { return false };
        let before = std::mem::replace(&mut self.given, first.seq);
        self.batches += 1;
        if before == 0 || !self.batches.is_multiple_of(REUSE_EVERY) {
            return false;
        }
        first.seq = before;
        true
    }
}

/// Lets two neighbours of one key change places.
fn reorder(records: &mut [Record]) -> bool {
    let is_pair = |pair: &[Record]| {
        pair[0].priority == pair[1].priority
            && !pair[0].ordering_key.is_empty()
            && pair[0].ordering_key == pair[1].ordering_key
    };
    let Some(at) = records.windows(2).position(is_pair) else { return false };
    records.swap(at, at + 1);
    true
}
