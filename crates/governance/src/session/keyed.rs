//! Keeps the order of keys when messages are refused for now (D4).
//!
//! A node sends later messages of a key before it can know that an earlier one was refused: those
//! have to be refused too, or they would overtake it. What comes after the refusals were read comes
//! in order, because the node holds back what is behind a message that waits for a retry.
//!
//! Pure.
//!
//! Invariants:
//! - G18: within one session, no message is taken that was sent before its sender could know that an
//!   earlier one of its key and priority was refused for now.

use std::collections::BTreeMap;

use alys_stream_protocol::message::{Message, OrderingKey, Priority, Seq};

/// Refused messages that are remembered. A node that has more of them is to begin again: a new
/// session comes in order. Higher takes more memory, about 100 bytes each.
const REFUSED_MAX: usize = 65_536;

type Key = (OrderingKey, Priority);

/// The messages of one session that were refused for now, and not taken since.
#[derive(Debug, Default)]
pub(super) struct Keyed {
    /// By key: which, and the number of the last refusal of each.
    refused: BTreeMap<Key, BTreeMap<Seq, u64>>,
    count: usize,
    refusals: u64,
}

fn key_of(message: &Message) -> Option<Key> {
    Some((message.ordering_key.clone()?, message.priority))
}

impl Keyed {
    /// Whether a message must not be taken yet. Its sender knew of every refusal before the last one
    /// of the message itself, for refusals are read in order.
    pub(super) fn must_wait(&self, seq: Seq, message: &Message) -> bool {
        let Some(refused) = key_of(message).and_then(|key| self.refused.get(&key)) else {
            return false;
        };
        let known = refused.get(&seq).copied();
        refused.range(..seq).any(|(_, refusal)| known.is_none_or(|known| *refusal > known))
    }

    /// A message is refused for now.
    pub(super) fn handle_refused(&mut self, seq: Seq, message: &Message) {
        let Some(key) = key_of(message) else { return };
        self.refusals += 1;
        let before = self.refused.entry(key).or_default().insert(seq, self.refusals);
        self.count += usize::from(before.is_none());
    }

    /// A message is taken, or refused for good. Whatever comes from now on was sent after it, and so
    /// with all that its sender knew then.
    pub(super) fn handle_over(&mut self, seq: Seq, message: &Message) {
        let Some(key) = key_of(message) else { return };
        let Some(refused) = self.refused.get_mut(&key) else { return };
        let before = refused.len();
        if refused.contains_key(&seq) {
            *refused = refused.split_off(&seq.next());
        }
        self.count -= before - refused.len();
        if refused.is_empty() {
            self.refused.remove(&key);
        }
    }

    /// Everything below is settled and does not come again.
    pub(super) fn handle_settled(&mut self, below: Seq) {
        let mut count = 0;
        self.refused.retain(|_, refused| {
            *refused = refused.split_off(&below);
            count += refused.len();
            !refused.is_empty()
        });
        self.count = count;
    }

    /// Whether more is refused than is remembered.
    pub(super) const fn is_full(&self) -> bool {
        self.count > REFUSED_MAX
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::message::{MessageId, MessageKind};

    use super::*;

    fn message(key: &[u8]) -> Message {
        Message {
            id: MessageId::new([1; 16]),
            kind: MessageKind(1000),
            priority: Priority::Normal,
            deadline: None,
            ordering_key: (!key.is_empty()).then(|| OrderingKey::try_new(key.to_vec()).unwrap()),
            traceparent: None,
            payload: bytes::Bytes::new(),
        }
    }

    /// Refuses (`-`), takes (`+`) and asks for (`?`) messages of one key; what must wait.
    #[track_caller]
    fn check(steps: &[(char, u64)], expected: &[u64]) {
        let (mut keyed, message) = (Keyed::default(), message(b"k"));
        let mut waiting = Vec::new();
        for (step, seq) in steps {
            let seq = Seq(*seq);
            match step {
                '-' => keyed.handle_refused(seq, &message),
                '+' => keyed.handle_over(seq, &message),
                _ if keyed.must_wait(seq, &message) => waiting.push(seq.0),
                _ => {}
            }
        }
        assert_eq!(waiting, expected, "{steps:?}");
    }

    #[test]
    fn what_was_sent_before_a_refusal_was_known_waits() {
        check(&[('-', 1), ('?', 2)], &[2]);
        // Earlier ones do not.
        check(&[('-', 2), ('?', 1), ('?', 2)], &[]);
        // Refused itself, it comes again by a sender that knows.
        check(&[('-', 1), ('-', 2), ('?', 2)], &[]);
        // But for what was refused again meanwhile.
        check(&[('-', 1), ('-', 2), ('-', 1), ('?', 2)], &[2]);
        check(&[('-', 1), ('-', 2), ('-', 1), ('-', 2), ('?', 2)], &[]);
    }

    #[test]
    fn what_is_taken_holds_back_nothing() {
        check(&[('-', 1), ('+', 1), ('?', 2)], &[]);
        // The first one died: what was sent after the second one knows it.
        check(&[('-', 1), ('-', 2), ('+', 2), ('?', 3)], &[]);
        check(&[('-', 1), ('-', 2), ('+', 1), ('?', 3)], &[3]);
    }

    #[test]
    fn other_keys_and_what_is_settled_do_not_matter() {
        let mut keyed = Keyed::default();
        keyed.handle_refused(Seq(1), &message(b"k"));
        keyed.handle_refused(Seq(1), &message(b""));
        assert!(!keyed.must_wait(Seq(2), &message(b"other")));
        assert!(!keyed.must_wait(Seq(2), &message(b"")));
        assert!(keyed.must_wait(Seq(2), &message(b"k")));
        keyed.handle_settled(Seq(2));
        assert!(!keyed.must_wait(Seq(2), &message(b"k")));
        assert_eq!(keyed.count, 0);
    }
}
