//! What a caller was told about its messages, and what must therefore be true after any crash.

use std::collections::BTreeMap;

use alys_stream_messaging::{Buffer, RecordMeta, Recovered};
use alys_stream_protocol::message::{LogId, Message, Seq};

use super::*;

/// How far a message was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    No,
    /// It may come back after a crash.
    Asked,
    /// It may not.
    Durable,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    number: u64,
    payload_bytes: usize,
    /// The caller was told that it is durable.
    is_confirmed: bool,
    settled: Settled,
    /// A bit of it was flipped on disk.
    is_damaged: bool,
    /// It went in a crash before anyone was told that it is durable, or with damage.
    is_lost: bool,
}

impl Known {
    fn message(&self) -> Message {
        message(self.number, self.payload_bytes)
    }
}

/// Everything a caller knows of one buffer.
#[derive(Debug)]
pub(crate) struct Oracle {
    known: BTreeMap<u64, Known>,
    next_number: u64,
    identity: Option<(LogId, u64)>,
    /// Whether there was no space for a while: then segments go before ids are stored (M36).
    pub(crate) may_forget: bool,
    /// How to find the case again.
    pub(crate) case: String,
}

impl Oracle {
    pub(crate) fn new(case: String) -> Self {
        let (known, identity) = (BTreeMap::new(), None);
        Self { known, next_number: 1, identity, may_forget: false, case }
    }

    /// Messages that were never sent before.
    pub(crate) fn mint(&mut self, count: u64, payload_bytes: usize) -> Vec<Message> {
        let numbers = self.next_number..self.next_number + count;
        self.next_number = numbers.end;
        numbers.map(|n| message(n, payload_bytes)).collect()
    }

    /// The buffer gave these messages these places.
    pub(crate) fn accepted(&mut self, expected: Seq, messages: &[Message], seqs: &[Seq]) {
        let case = &self.case;
        assert_eq!(messages.len(), seqs.len(), "{case}");
        for ((message, seq), expected) in messages.iter().zip(seqs).zip(expected.0..) {
            assert_eq!(seq.0, expected, "M8: dense, in order; {case}");
            let known = Known {
                number: u64::from_be_bytes(message.id.as_bytes()[..8].try_into().unwrap()),
                payload_bytes: message.payload.len(),
                is_confirmed: false,
                settled: Settled::No,
                is_damaged: false,
                is_lost: false,
            };
            let earlier = self.known.insert(seq.0, known);
            assert!(earlier.is_none(), "seq {seq} is given twice; {case}");
        }
    }

    pub(crate) fn last_seq(&self) -> Option<Seq> {
        self.known.last_key_value().map(|(seq, _)| Seq(*seq))
    }

    /// The caller was told that everything accepted up to `seq` is durable.
    pub(crate) fn confirmed(&mut self, seq: Seq) {
        for known in self.known.range_mut(..=seq.0).map(|(_, known)| known) {
            known.is_confirmed = true;
        }
    }

    /// Seqs that the caller may settle: confirmed, and not settled.
    pub(crate) fn open_seqs(&self) -> Vec<u64> {
        let is_open = |known: &Known| known.is_confirmed && known.settled == Settled::No;
        self.known.iter().filter(|(_, known)| is_open(known)).map(|(seq, _)| *seq).collect()
    }

    pub(crate) fn settle_asked(&mut self, seqs: &[u64]) {
        for seq in seqs {
            self.known.get_mut(seq).unwrap().settled = Settled::Asked;
        }
    }

    /// Every settlement asked for so far is durable.
    pub(crate) fn settled(&mut self) {
        for known in self.known.values_mut() {
            if known.settled == Settled::Asked {
                known.settled = Settled::Durable;
            }
        }
    }

    /// A bit of the record was flipped on disk.
    pub(crate) fn damaged(&mut self, seq: u64) {
        if let Some(known) = self.known.get_mut(&seq) {
            known.is_damaged = true;
        }
    }

    /// Checks a buffer that was just opened, and takes what it says as what was told from now on.
    pub(crate) fn check_opened(&mut self, buffer: &Buffer, recovered: &Recovered) {
        self.check_identity(buffer);
        self.check_numbers(buffer);
        let live = buffer.unsettled();
        let case = &self.case;
        let is_whole = !self.may_forget && !self.known.values().any(|known| known.is_damaged);
        assert!(!is_whole || recovered.ids_lost == 0, "{case}");
        for (seq, known) in &mut self.known {
            let is_live = live.contains(Seq(*seq));
            let was_settled = known.is_confirmed && known.settled != Settled::No && !is_live;
            known.is_lost |= !is_live && known.settled == Settled::No;
            if is_whole && was_settled && !known.is_lost {
                let found = buffer.lookup(&known.message().id);
                assert_eq!(found, Some(Seq(*seq)), "M10: {seq} was settled; {case}");
            }
            if is_live {
                assert!(
                    known.settled != Settled::Durable,
                    "D2: {seq} was settled and comes back; {case}"
                );
                let found = buffer.read(Seq(*seq)).unwrap_or_else(|error| {
                    panic!("seq {seq} is unsettled and cannot be read: {error}; {case}")
                });
                assert_eq!(found.as_ref(), Some(&known.message()), "seq {seq}; {case}");
                known.is_confirmed = true;
                known.settled = Settled::No;
                continue;
            }
            let is_owed = known.is_confirmed && known.settled == Settled::No;
            if is_owed {
                let gap = recovered
                    .gaps
                    .iter()
                    .filter_map(|gap| gap.seqs.as_ref())
                    .any(|seqs| seqs.contains(&Seq(*seq)));
                assert!(known.is_damaged, "D1: seq {seq} was confirmed and is lost; {case}");
                assert!(gap, "D5: seq {seq} is lost and no gap says so; {case}");
            }
            known.settled = Settled::Durable;
        }
        let next = buffer.next_seq().0;
        self.known.retain(|seq, _| *seq < next);
    }

    /// D12: the same log, in a later epoch.
    fn check_identity(&mut self, buffer: &Buffer) {
        let case = &self.case;
        let epoch = buffer.epoch().0;
        if let Some((log_id, earlier)) = self.identity {
            assert!(epoch > earlier, "epoch {epoch} after {earlier}; {case}");
            // A log of which no caller was told anything may begin anew.
            if self.known.values().any(|known| known.is_confirmed) {
                assert_eq!(buffer.log_id(), log_id, "{case}");
            }
        }
        self.identity = Some((buffer.log_id(), epoch));
    }

    /// M8: nothing is given twice, nothing is there that was not given, every number is accounted
    /// for.
    fn check_numbers(&self, buffer: &Buffer) {
        let case = &self.case;
        let next = buffer.next_seq().0;
        let last = self.known.iter().rfind(|(_, known)| known.is_confirmed);
        if let Some((last, _)) = last {
            assert!(next > *last, "seq {last} was confirmed, next is {next}; {case}");
        }
        let live = buffer.unsettled();
        let paged: Vec<Seq> = buffer.backlog().flat_map(|page| seqs_of(&page)).collect();
        assert_eq!(live.iter().collect::<Vec<_>>(), paged, "{case}");
        for (meta, seq) in buffer.metas(&paged).into_iter().zip(paged) {
            let meta = meta.unwrap_or_else(|error| panic!("{error}: {:?}; {case}", error.source));
            let known = &self.known[&seq.0];
            assert_eq!(meta, RecordMeta::new(seq, NOW, &known.message()), "{case}");
            assert_eq!(buffer.accepted_at(seq), Some(NOW), "{case}");
        }
        for seq in live.iter() {
            assert!(self.known.contains_key(&seq.0), "seq {seq} was never given; {case}");
        }
        for seq in (1..next).map(Seq) {
            assert!(
                live.contains(seq) != buffer.is_settled(seq),
                "seq {seq} is neither live nor settled, or both; {case}"
            );
        }
    }

    /// M10: what is live is not stored twice.
    pub(crate) fn check_duplicate(&self, buffer: &Buffer) {
        let Some((seq, known)) = self.known.iter().find(|(_, known)| known.settled == Settled::No)
        else {
            return;
        };
        if let Ok(again) = buffer.append_one(NOW, known.message()) {
            assert_eq!((again.seq, again.is_duplicate), (Seq(*seq), true), "{}", self.case);
        }
    }
}
