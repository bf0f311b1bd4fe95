//! Ends that are not durable yet. A crash takes them back, so what is behind them in the order of
//! their key waits until it cannot (M14).
//!
//! A message that is over goes to nobody any more; were that forgotten, it would go to endpoints that
//! got later ones of its key meanwhile. An endpoint that has it, or was sent it on its present
//! connection, got it before those.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;

use super::EndpointId;
use super::keys::Name;
use super::lane::Hold;
use super::words::RefusalTicket;

/// Who got a message that is over, as bits.
#[derive(Debug, Clone, Copy)]
struct Over {
    acked: u64,
    /// On their present connections.
    sent: u64,
}

/// A refusal for good by one endpoint, of a message that others may still take.
#[derive(Debug)]
struct Refused {
    name: Name,
    id: EndpointId,
    seq: Seq,
}

/// What a crash would take back.
#[derive(Debug, Default)]
pub(super) struct Ends {
    over: BTreeMap<Name, BTreeMap<Seq, Over>>,
    names: BTreeMap<Seq, Name>,
    /// What is over and was not in memory: nobody knows of which key it was.
    unknown: SeqSet,
    refused: BTreeMap<Name, BTreeSet<(EndpointId, Seq)>>,
    tickets: BTreeMap<RefusalTicket, Refused>,
    last_ticket: RefusalTicket,
}

impl Ends {
    /// A message of a key is over.
    pub(super) fn handle_over(&mut self, seq: Seq, name: Name, acked: u64, sent: u64) {
        self.over.entry(name.clone()).or_default().insert(seq, Over { acked, sent });
        self.names.insert(seq, name);
    }

    /// Messages that were not in memory are over.
    pub(super) fn handle_over_unseen(&mut self, range: std::ops::RangeInclusive<Seq>) {
        self.unknown.insert_range(range);
    }

    /// Whether messages may wait until ends are durable.
    pub(super) fn is_awaited(&self) -> bool {
        !self.names.is_empty() || !self.unknown.is_empty()
    }

    /// Ends are durable. Adds the keys that this lets go; returns whether some were of unknown ones.
    pub(super) fn handle_durable(&mut self, ended: &SeqSet, freed: &mut BTreeSet<Name>) -> bool {
        let is_first_unknown = self.unknown.first();
        for range in ended.ranges() {
            while let Some((seq, _)) = self.names.range(range.clone()).next() {
                let seq = *seq;
                let Some(name) = self.names.remove(&seq) else {
                    break;
                };
                if let Some(over) = self.over.get_mut(&name) {
                    over.remove(&seq);
                    if over.is_empty() {
                        self.over.remove(&name);
                    }
                }
                freed.insert(name);
            }
            if is_first_unknown.is_some() {
                self.unknown.remove_range(range);
            }
        }
        self.unknown.first() != is_first_unknown
    }

    /// An endpoint will not be asked again for a message of a key.
    pub(super) fn handle_refused(&mut self, name: Name, id: EndpointId, seq: Seq) {
        self.refused.entry(name.clone()).or_default().insert((id, seq));
        self.last_ticket.0 += 1;
        self.tickets.insert(self.last_ticket, Refused { name, id, seq });
    }

    /// What is remembered now covers everything up to this.
    pub(super) const fn ticket(&self) -> RefusalTicket {
        self.last_ticket
    }

    /// Refusals are durable. Adds the keys that this lets go.
    pub(super) fn handle_remembered(&mut self, to: RefusalTicket, freed: &mut BTreeSet<Name>) {
        while let Some(first) = self.tickets.first_entry().filter(|first| *first.key() <= to) {
            let Refused { name, id, seq } = first.remove();
            if let Some(refused) = self.refused.get_mut(&name) {
                refused.remove(&(id, seq));
                if refused.is_empty() {
                    self.refused.remove(&name);
                }
            }
            freed.insert(name);
        }
    }

    /// What was sent on a connection that is lost may not have come.
    pub(super) fn handle_disconnected(&mut self, bit: u64) {
        for over in self.over.values_mut().flat_map(BTreeMap::values_mut) {
            over.sent &= !bit;
        }
    }

    /// An endpoint is gone, and its bit is another one's some day.
    pub(super) fn handle_removed(&mut self, bit: u64) {
        for over in self.over.values_mut().flat_map(BTreeMap::values_mut) {
            over.acked &= !bit;
        }
    }

    /// What holds a message of a key back at an endpoint.
    pub(super) fn hold(&self, name: &Name, seq: Seq, id: EndpointId, bit: u64) -> Option<Hold> {
        let mut over = self.over.get(name).into_iter().flat_map(|over| over.range(..seq));
        let is_over = over.any(|(_, over)| (over.acked | over.sent) & bit == 0);
        let mut refused =
            self.refused.get(name).into_iter().flat_map(|it| it.range((id, Seq(0))..(id, seq)));
        if is_over || refused.next().is_some() {
            return Some(Hold::Before);
        }
        self.unknown.first().is_some_and(|first| first < seq).then_some(Hold::Unknown)
    }
}
