//! Keeps the order of a key when a record of it is refused for now (D4).
//!
//! Records of one key follow each other on the wire without waiting for acknowledgements. Their
//! sender holds later ones back once it hears of a refusal; those that had left by then are refused
//! here. They have all arrived when one of the refused comes again: it was sent after the refusal
//! was heard, and the sender answers for the order from then on.
//!
//! Invariants:
//! - G18: a record is not taken while an earlier one of its key and priority was refused for now,
//!   and its sender may not have known that when it sent the record.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_messaging::inbox::InboxRecord;
use alys_stream_protocol::message::{OrderingKey, Priority, Seq};

/// The refused records of one session. Its credit bounds how many there are.
#[derive(Debug, Default)]
pub(crate) struct KeyOrder {
    refused: BTreeMap<(OrderingKey, Priority), BTreeSet<Seq>>,
}

impl KeyOrder {
    /// Whether a record that arrives may be taken as far as its key goes.
    pub(crate) fn handle_arrived(&mut self, record: &InboxRecord) -> bool {
        let Some(line) = line(record) else { return true };
        match self.refused.get(&line) {
            None => true,
            Some(refused) if refused.contains(&record.seq) => {
                self.refused.remove(&line);
                true
            }
            Some(_) => false,
        }
    }

    /// A record was refused for now.
    pub(crate) fn handle_refused(&mut self, record: &InboxRecord) {
        if let Some(line) = line(record) {
            self.refused.entry(line).or_default().insert(record.seq);
        }
    }
}

fn line(record: &InboxRecord) -> Option<(OrderingKey, Priority)> {
    let key = record.message.ordering_key.clone().filter(|_| !record.seq.is_volatile())?;
    Some((key, record.message.priority))
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::message::{Message, MessageId, MessageKind};

    use super::*;

    fn record(seq: u64, key: &'static str, priority: Priority) -> InboxRecord {
        let message = Message {
            id: MessageId::new([1; 16]),
            kind: MessageKind(1000),
            priority,
            deadline: None,
            ordering_key: OrderingKey::try_new(key.as_bytes().to_vec()).ok(),
            traceparent: None,
            payload: Vec::new().into(),
        };
        InboxRecord { seq: Seq(seq), message }
    }

    /// Whether records that arrive in this order are taken, when those in `busy` find no room.
    fn taken(order: &mut KeyOrder, seqs: &[u64], busy: &[u64]) -> Vec<u64> {
        let mut taken = Vec::new();
        for seq in seqs {
            let record = record(*seq, "k", Priority::High);
            if order.handle_arrived(&record) && !busy.contains(seq) {
                taken.push(*seq);
            } else {
                order.handle_refused(&record);
            }
        }
        taken
    }

    #[test]
    fn what_follows_a_refused_record_waits_for_it() {
        let mut order = KeyOrder::default();
        assert_eq!(taken(&mut order, &[1, 2, 3, 4], &[2]), [1]);
        assert_eq!(taken(&mut order, &[2, 3, 4, 5], &[]), [2, 3, 4, 5]);
    }

    #[test]
    fn one_that_is_refused_again_holds_the_rest_back_again() {
        let mut order = KeyOrder::default();
        assert_eq!(taken(&mut order, &[1, 2, 3], &[1]), [0; 0]);
        assert_eq!(taken(&mut order, &[1, 2, 3], &[2]), [1]);
        assert_eq!(taken(&mut order, &[2, 3], &[]), [2, 3]);
    }

    #[test]
    fn one_that_is_withdrawn_holds_nothing_back_for_ever() {
        let mut order = KeyOrder::default();
        assert_eq!(taken(&mut order, &[1, 2], &[1]), [0; 0]);
        assert_eq!(taken(&mut order, &[2, 3], &[]), [2, 3]);
        assert_eq!(taken(&mut order, &[4], &[4]), [0; 0]);
        assert_eq!(taken(&mut order, &[5], &[]), [0; 0], "it may have left before that was heard");
        assert_eq!(taken(&mut order, &[5, 6], &[]), [5, 6]);
    }

    #[test]
    fn other_keys_and_priorities_and_records_without_a_key_go_on() {
        let mut order = KeyOrder::default();
        order.handle_refused(&record(1, "k", Priority::High));
        assert!(!order.handle_arrived(&record(2, "k", Priority::High)));
        assert!(order.handle_arrived(&record(3, "other", Priority::High)));
        assert!(order.handle_arrived(&record(4, "k", Priority::Low)));
        let mut bare = record(5, "k", Priority::High);
        bare.message.ordering_key = None;
        assert!(order.handle_arrived(&bare));
    }
}
