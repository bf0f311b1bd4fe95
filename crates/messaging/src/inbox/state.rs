//! What the inbox knows in memory, and how it is rebuilt.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alys_stream_protocol::message::{Epoch, EpochNonce, Forgotten, LogId, Opening, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;

use super::{
    Cursor, Fenced, InboxId, InboxRecord, KIND_ADMITTED, KIND_HANDLED, KIND_RECEIVED, Receipt,
    Received,
};
use crate::log::{Event, Location, Log, LogClient, Placed, Position, SegmentId, SegmentUsage};
use crate::record::{self, ByteReader};

#[derive(Debug, Clone)]
struct Sender {
    admitted: Opening,
    seen: Opening,
    settled_below: Seq,
    received: SeqSet,
    highest_seen: Seq,
    forgotten: Forgotten,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            admitted: Opening::NONE,
            seen: Opening::NONE,
            settled_below: Seq::FIRST,
            received: SeqSet::new(),
            highest_seen: Seq(0),
            forgotten: Forgotten::NONE,
        }
    }
}

/// A record that is not durable yet.
#[derive(Debug)]
struct Pending {
    position: Position,
    id: u64,
    sender: LogId,
    seq: Seq,
}

#[derive(Debug)]
pub(super) struct State {
    next_id: u64,
    senders: BTreeMap<LogId, Sender>,
    /// Not handled; with their place once durable.
    unhandled: BTreeMap<u64, Option<Location>>,
    pending: VecDeque<Pending>,
    usage: SegmentUsage,
}

impl Default for State {
    fn default() -> Self {
        Self {
            next_id: 1,
            senders: BTreeMap::new(),
            unhandled: BTreeMap::new(),
            pending: VecDeque::new(),
            usage: SegmentUsage::default(),
        }
    }
}

impl State {
    pub(super) fn admit(
        &mut self,
        log: &Log,
        sender: LogId,
        opening: Opening,
        next_seq: Seq,
    ) -> Result<(), Fenced> {
        let known = self.senders.entry(sender).or_default();
        let Opening { epoch, nonce } = opening;
        if epoch < known.admitted.epoch {
            return Err(Fenced::StaleEpoch { seen: known.admitted.epoch });
        }
        let are_known = nonce.is_known() && known.admitted.nonce.is_known();
        if epoch == known.admitted.epoch && are_known && nonce != known.admitted.nonce {
            return Err(Fenced::Copied { epoch });
        }
        if known.highest_seen >= next_seq {
            return Err(Fenced::RolledBack { highest_seen: known.highest_seen });
        }
        // Whoever does not tell the nonce of its epoch any more takes nothing back.
        if epoch > known.admitted.epoch || (nonce.is_known() && !known.admitted.nonce.is_known()) {
            known.admitted = opening;
            log.append(KIND_ADMITTED, epoch.0, |out| {
                out.extend_from_slice(sender.as_bytes());
                if nonce.is_known() {
                    out.extend_from_slice(&nonce.0.to_le_bytes());
                }
            });
        }
        Ok(())
    }

    pub(super) fn has(&self, sender: LogId, seq: Seq) -> bool {
        self.senders
            .get(&sender)
            .is_some_and(|known| seq < known.settled_below || known.received.contains(seq))
    }

    pub(super) fn cursor(&self, sender: LogId) -> Cursor {
        let known = self.senders.get(&sender).cloned().unwrap_or_default();
        Cursor { received: self.received_before(sender, &known, 0), ..Cursor::from(known) }
    }

    pub(super) fn cursors(&self) -> Vec<(LogId, Cursor)> {
        self.senders.keys().map(|id| (*id, self.cursor(*id))).collect()
    }

    /// What was received of a sender, without what is pending from the `from`-th on.
    fn received_before(&self, id: LogId, sender: &Sender, from: usize) -> SeqSet {
        let mut received = sender.received.clone();
        for pending in self.pending.iter().skip(from).filter(|pending| pending.sender == id) {
            received.remove_range(pending.seq..=pending.seq);
        }
        received
    }

    pub(super) fn receive(
        &mut self,
        log: &Log,
        sender: LogId,
        records: Vec<InboxRecord>,
    ) -> Receipt {
        let known = self.senders.entry(sender).or_default();
        let mut fresh = Vec::with_capacity(records.len());
        let mut duplicates = 0;
        for InboxRecord { seq, message } in records {
            // M16: below `settled_below` everything counts as received.
            if seq < known.settled_below || !known.received.insert(seq) {
                duplicates += 1;
                continue;
            }
            known.highest_seen = known.highest_seen.max(seq);
            known.seen = known.admitted;
            let id = self.next_id;
            self.next_id += 1;
            let position = log.append(KIND_RECEIVED, id, |out| {
                out.extend_from_slice(sender.as_bytes());
                out.extend_from_slice(&seq.0.to_le_bytes());
                record::encode(out, UnixMillis(0), &message);
            });
            self.unhandled.insert(id, None);
            self.pending.push_back(Pending { position, id, sender, seq });
            fresh.push(Received { id: InboxId(id), sender, seq, message });
        }
        // The first copy of a duplicate may not be durable itself.
        Receipt { fresh, duplicates, position: log.last_position() }
    }

    pub(super) fn handled(&mut self, log: &Log, ids: &[InboxId]) -> Position {
        let mut set = SeqSet::new();
        for id in ids {
            if let Some(location) = self.unhandled.remove(&id.0) {
                set.insert(Seq(id.0));
                if let Some(location) = location {
                    self.usage.handle_released(location.segment);
                }
            }
        }
        if set.is_empty() {
            return log.last_position();
        }
        log.append(KIND_HANDLED, 0, |out| record::put_seq_set(out, &set))
    }

    pub(super) fn forget(&mut self, sender: LogId, settled: Settled, covered: &SeqSet) {
        let Some(known) = self.senders.get_mut(&sender) else {
            return;
        };
        let Settled { below: settled_below, count: settled_count } = settled;
        if settled_below > known.settled_below || !covered.is_empty() {
            known.forgotten = Forgotten { opening: known.admitted, settled_count };
        }
        if settled_below > known.settled_below {
            known.settled_below = settled_below;
            known.received.remove_below(settled_below);
            // What is settled was given: a log whose next number is lower was rolled back (D12),
            // whoever was sent the messages.
            let given = Seq(settled_below.0.saturating_sub(1));
            if given > known.highest_seen {
                (known.highest_seen, known.seen) = (given, known.admitted);
            }
        }
        for range in covered.ranges() {
            known.received.remove_range(range);
        }
    }

    pub(super) fn unhandled(&self) -> usize {
        self.unhandled.len()
    }

    pub(super) fn poll_retirable(&mut self) -> Vec<SegmentId> {
        self.usage.poll_retirable(u64::MAX)
    }
}

impl From<Sender> for Cursor {
    fn from(sender: Sender) -> Self {
        Self {
            received: sender.received,
            highest_seen: sender.highest_seen,
            admitted: sender.admitted,
            seen: sender.seen,
            settled_below: sender.settled_below,
            forgotten: sender.forgotten,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct InboxClient {
    state: Mutex<State>,
}

impl InboxClient {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogClient for InboxClient {
    fn checkpoint(&self, first_position: Position, out: &mut Vec<u8>) {
        let state = self.lock();
        // A seq whose record is not in this log yet must not be summarised as received.
        let from = state.pending.partition_point(|pending| pending.position < first_position);
        let next_id = state.pending.get(from).map_or(state.next_id, |pending| pending.id);
        out.extend_from_slice(&next_id.to_le_bytes());
        out.extend_from_slice(
            &u32::try_from(state.senders.len()).unwrap_or(u32::MAX).to_le_bytes(),
        );
        for (id, sender) in &state.senders {
            let received = state.received_before(*id, sender, from);
            out.extend_from_slice(id.as_bytes());
            out.extend_from_slice(&sender.admitted.epoch.0.to_le_bytes());
            out.extend_from_slice(&sender.settled_below.0.to_le_bytes());
            out.extend_from_slice(&sender.highest_seen.0.to_le_bytes());
            record::put_seq_set(out, &received);
        }
        let unhandled = state.unhandled.range(..next_id).map(|(id, _)| Seq(*id)).collect();
        record::put_seq_set(out, &unhandled);
        for sender in state.senders.values() {
            for number in [sender.admitted.nonce.0, sender.seen.epoch.0, sender.seen.nonce.0] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        for Forgotten { opening, settled_count } in state.senders.values().map(|it| it.forgotten) {
            for number in [opening.epoch.0, opening.nonce.0, settled_count] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }

    fn next_key(&self) -> u64 {
        self.lock().next_id
    }

    fn placed(&self, placed: &[Placed]) {
        let mut state = self.lock();
        let state = &mut *state;
        for placed in placed {
            let live = (placed.kind == KIND_RECEIVED)
                .then(|| state.unhandled.get_mut(&placed.key))
                .flatten();
            state.usage.handle_placed(placed.location, live.is_some());
            if let Some(location) = live {
                *location = Some(placed.location);
            }
        }
        if let Some(last) = placed.last() {
            let durable =
                state.pending.partition_point(|pending| pending.position <= last.position);
            state.pending.drain(..durable);
        }
    }
}

/// Rebuilds the state from what the log holds. Pure: events in, state out.
#[derive(Debug, Default)]
pub(super) struct Rebuild {
    state: State,
    messages: BTreeMap<u64, Received>,
}

impl Rebuild {
    pub(super) fn handle_event(&mut self, event: Event<'_>) {
        match event {
            Event::Checkpoint { payload } => {
                if self.handle_checkpoint(payload).is_none() {
                    tracing::warn!("a summary of the inbox cannot be read");
                }
            }
            Event::Entry { kind: KIND_RECEIVED, key, location, payload, .. } => {
                let received = self.handle_received(key, payload);
                self.state.usage.handle_placed(location, received.is_some());
                if let Some(received) = received {
                    self.state.unhandled.insert(key, Some(location));
                    self.messages.insert(key, received);
                }
            }
            Event::Entry { kind, key, location, payload, .. } => {
                self.state.usage.handle_placed(location, false);
                let mut reader = ByteReader::new(payload);
                if kind == KIND_HANDLED {
                    for id in reader.seq_set().unwrap_or_default().iter() {
                        self.handle_handled(id.0);
                    }
                } else if kind == KIND_ADMITTED
                    && let Some(sender) = reader.array().map(LogId::new)
                {
                    let known = self.state.senders.entry(sender).or_default();
                    let nonce = EpochNonce(reader.u64().unwrap_or_default());
                    known.admitted = known.admitted.max(Opening { epoch: Epoch(key), nonce });
                }
            }
            // A record that is lost was acknowledged or will be sent again; the log reports it.
            Event::Damage(_) => {}
        }
    }

    fn handle_received(&mut self, id: u64, payload: &[u8]) -> Option<Received> {
        self.state.next_id = self.state.next_id.max(id + 1);
        let mut reader = ByteReader::new(payload);
        let sender = LogId::new(reader.array()?);
        let seq = Seq(reader.u64()?);
        let known = self.state.senders.entry(sender).or_default();
        known.received.insert(seq);
        known.highest_seen = known.highest_seen.max(seq);
        known.seen = known.admitted;
        let bytes = Bytes::copy_from_slice(payload.get(reader.offset()..)?);
        let message = record::decode(&bytes)?;
        Some(Received { id: InboxId(id), sender, seq, message })
    }

    fn handle_handled(&mut self, id: u64) {
        self.messages.remove(&id);
        if let Some(Some(location)) = self.state.unhandled.remove(&id) {
            self.state.usage.handle_released(location.segment);
        }
    }

    /// A checkpoint replaces what earlier entries said about senders: it knows what was forgotten.
    fn handle_checkpoint(&mut self, payload: &[u8]) -> Option<()> {
        let mut reader = ByteReader::new(payload);
        if payload.is_empty() {
            // The very first segment has nothing to summarise.
            return Some(());
        }
        let next_id = reader.u64()?;
        let mut senders = BTreeMap::new();
        for _ in 0..reader.u32()? {
            let id = LogId::new(reader.array()?);
            let admitted = Opening::from(Epoch(reader.u64()?));
            let settled_below = Seq(reader.u64()?);
            let highest_seen = Seq(reader.u64()?);
            let received = reader.seq_set()?;
            let sender =
                Sender { admitted, settled_below, received, highest_seen, ..Sender::default() };
            senders.insert(id, sender);
        }
        let unhandled = reader.seq_set()?;
        for sender in senders.values_mut() {
            // An older summary ends here.
            let Some(nonce) = reader.u64().map(EpochNonce) else { break };
            sender.admitted.nonce = nonce;
            let epoch = Epoch(reader.u64()?);
            sender.seen = Opening { epoch, nonce: EpochNonce(reader.u64()?) };
        }
        for sender in senders.values_mut() {
            // And one that is not so old, here.
            let Some(epoch) = reader.u64().map(Epoch) else { break };
            let opening = Opening { epoch, nonce: EpochNonce(reader.u64()?) };
            sender.forgotten = Forgotten { opening, settled_count: reader.u64()? };
        }
        self.state.next_id = self.state.next_id.max(next_id);
        self.state.senders = senders;
        let handled: Vec<u64> = self
            .state
            .unhandled
            .keys()
            .copied()
            .filter(|id| !unhandled.contains(Seq(*id)))
            .collect();
        for id in handled {
            self.handle_handled(id);
        }
        Some(())
    }

    /// Ids below `next_id` were given.
    pub(super) fn finish(mut self, client: &InboxClient, next_id: u64) -> Vec<Received> {
        self.state.next_id = self.state.next_id.max(next_id);
        for sender in self.state.senders.values_mut() {
            let settled_below = sender.settled_below;
            sender.received.remove_below(settled_below);
        }
        *client.lock() = self.state;
        self.messages.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A summary of each age, from the table of [`super::super`]: it says what it could say then.
    #[test]
    fn summaries_of_every_age_are_read() {
        let sender = LogId::new([0x44; 16]);
        let mut oldest = 9_u64.to_le_bytes().to_vec();
        oldest.extend_from_slice(&1_u32.to_le_bytes());
        oldest.extend_from_slice(sender.as_bytes());
        // Epoch, settled below, highest seen; one range of received seqs, none unhandled.
        for number in [4_u64, 2, 7] {
            oldest.extend_from_slice(&number.to_le_bytes());
        }
        oldest.extend_from_slice(&1_u32.to_le_bytes());
        for number in [5_u64, 7] {
            oldest.extend_from_slice(&number.to_le_bytes());
        }
        oldest.extend_from_slice(&0_u32.to_le_bytes());
        let more = |before: &[u8], numbers: [u64; 3]| {
            let added = numbers.iter().flat_map(|number| number.to_le_bytes());
            before.iter().copied().chain(added).collect::<Vec<u8>>()
        };
        let with_openings = more(&oldest, [0x44, 3, 0x33]);
        let with_forgotten = more(&with_openings, [2, 0x22, 6]);

        let opening = |epoch, nonce| Opening { epoch: Epoch(epoch), nonce: EpochNonce(nonce) };
        let forgotten = Forgotten { opening: opening(2, 0x22), settled_count: 6 };
        for (payload, admitted, seen, forgotten) in [
            (oldest, opening(4, 0), Opening::NONE, Forgotten::NONE),
            (with_openings, opening(4, 0x44), opening(3, 0x33), Forgotten::NONE),
            (with_forgotten, opening(4, 0x44), opening(3, 0x33), forgotten),
        ] {
            let mut rebuild = Rebuild::default();
            rebuild.handle_event(Event::Checkpoint { payload: &payload });
            assert_eq!(rebuild.state.next_id, 9);
            let known = &rebuild.state.senders[&sender];
            assert_eq!((known.admitted, known.seen, known.forgotten), (admitted, seen, forgotten));
            assert_eq!((known.settled_below, known.highest_seen), (Seq(2), Seq(7)));
            assert_eq!(known.received, (5..=7).map(Seq).collect());
        }
    }
}
