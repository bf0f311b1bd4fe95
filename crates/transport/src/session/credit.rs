//! Credits: how much a sender may have on the way, counted in messages and in payload bytes.
//!
//! The receiver grants, the sender spends, and the receiver grants again what it has dealt with.
//!
//! Invariants:
//! - T6: credits are never negative: a sender that spends what it was not granted violates the
//!   session.
//! - T7: credits never leak: `available + processing + returned` is the window, at all times.
//! - T8: credits never deadlock: when the sender could not fit a message of the largest size and
//!   anything is returned, it is granted, however little.
//! - T36: what is set aside for critical messages never stops the others for good.

/// One of so many parts of the window is for critical messages alone, so that a flood of others
/// cannot use up the credit that an urgent one needs. Lower keeps more, and slows the others.
const RESERVED_SHARE: u32 = 8;

/// An amount of credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Credits {
    /// Messages.
    pub messages: u32,
    /// Payload bytes.
    pub bytes: u64,
}

impl Credits {
    fn checked_sub(self, other: Self) -> Option<Self> {
        Some(Self {
            messages: self.messages.checked_sub(other.messages)?,
            bytes: self.bytes.checked_sub(other.bytes)?,
        })
    }

    pub(super) const fn saturating_sub(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(other.messages),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    pub(super) const fn saturating_add(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    const fn is_zero(self) -> bool {
        self.messages == 0 && self.bytes == 0
    }
}

/// What we may still send.
#[derive(Debug)]
pub(super) struct SendCredit {
    available: Credits,
    reserve: Credits,
}

impl SendCredit {
    /// An eighth of the window is set aside for critical messages, as long as the largest message
    /// fits beside it.
    pub(super) fn new(granted: Credits, message_bytes_max: u64) -> Self {
        let spare = granted.bytes.saturating_sub(message_bytes_max);
        let reserve = Credits {
            messages: granted.messages / RESERVED_SHARE,
            bytes: (granted.bytes / u64::from(RESERVED_SHARE)).min(spare),
        };
        Self { available: granted, reserve }
    }

    /// What messages below critical must leave. Nothing when nothing is on its way: then no
    /// acknowledgement would come to make room, and a receiver grants no more (T8).
    pub(super) const fn reserve(&self, is_idle: bool) -> Credits {
        if is_idle { Credits { messages: 0, bytes: 0 } } else { self.reserve }
    }

    pub(super) const fn available(&self) -> Credits {
        self.available
    }

    /// Spends; `false` when there is not so much (nothing is spent then).
    pub(super) fn spend(&mut self, cost: Credits) -> bool {
        match self.available.checked_sub(cost) {
            Some(rest) => {
                self.available = rest;
                true
            }
            None => false,
        }
    }

    pub(super) const fn grant(&mut self, more: Credits) {
        self.available = self.available.saturating_add(more);
    }
}

/// What the peer may still send to us.
#[derive(Debug)]
pub(super) struct ReceiveCredit {
    window: Credits,
    /// What the peer has left.
    available: Credits,
    /// Received and not yet dealt with.
    processing: Credits,
    /// Dealt with and not yet granted again.
    returned: Credits,
    /// The largest message that the peer may want to fit.
    message_bytes_max: u64,
}

impl ReceiveCredit {
    pub(super) const fn new(window: Credits, message_bytes_max: u64) -> Self {
        let none = Credits { messages: 0, bytes: 0 };
        Self { window, available: window, processing: none, returned: none, message_bytes_max }
    }

    /// The peer sent something; `false` when it had not the credit for it (T6).
    pub(super) fn receive(&mut self, cost: Credits) -> bool {
        let Some(rest) = self.available.checked_sub(cost) else {
            return false;
        };
        self.available = rest;
        self.processing = self.processing.saturating_add(cost);
        self.check();
        true
    }

    /// What the peer has left.
    pub(super) const fn available(&self) -> Credits {
        self.available
    }

    /// Received and not yet dealt with.
    pub(super) const fn processing(&self) -> Credits {
        self.processing
    }

    /// Something received is stored or refused.
    pub(super) fn dealt_with(&mut self, cost: Credits) {
        let Some(rest) = self.processing.checked_sub(cost) else {
            debug_assert!(false, "T7: more was dealt with than received");
            return;
        };
        self.processing = rest;
        self.returned = self.returned.saturating_add(cost);
        self.check();
    }

    /// What to grant now: everything returned, once that is half the window, or when the peer
    /// could not fit a message of the largest size (T8).
    pub(super) fn poll_grant(&mut self) -> Option<Credits> {
        if self.returned.is_zero() {
            return None;
        }
        let half = self.returned.messages >= self.window.messages.div_ceil(2)
            || self.returned.bytes >= self.window.bytes.div_ceil(2);
        let tight = self.available.messages == 0 || self.available.bytes < self.message_bytes_max;
        if !(half || tight) {
            return None;
        }
        let grant = std::mem::take(&mut self.returned);
        self.available = self.available.saturating_add(grant);
        self.check();
        Some(grant)
    }

    fn check(&self) {
        debug_assert_eq!(
            self.available.saturating_add(self.processing).saturating_add(self.returned),
            self.window,
            "T7: credits leaked"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A sender and a receiver, with grants on their way: nothing is ever lost or invented,
        /// and a message of the largest size always fits in the end.
        #[test]
        fn credits_are_never_negative_and_never_leak(
            window_messages in 1..40u32,
            spare_bytes in 0..2000u64,
            steps in prop::collection::vec((0..3u8, 1..600u64), 0..300),
        ) {
            let largest = 600;
            let window = Credits { messages: window_messages, bytes: largest + spare_bytes };
            let mut sender = SendCredit::new(window, largest);
            let mut receiver = ReceiveCredit::new(window, largest);
            let mut wire: VecDeque<Credits> = VecDeque::new();
            let mut working: VecDeque<Credits> = VecDeque::new();
            let mut grants: VecDeque<Credits> = VecDeque::new();
            for (step, bytes) in steps {
                match step {
                    0 => {
                        let cost = Credits { messages: 1, bytes };
                        if sender.spend(cost) { wire.push_back(cost); }
                    }
                    1 => if let Some(cost) = wire.pop_front() {
                        prop_assert!(receiver.receive(cost), "T6");
                        working.push_back(cost);
                    },
                    _ => {
                        if let Some(cost) = working.pop_front() { receiver.dealt_with(cost); }
                        if let Some(grant) = receiver.poll_grant() { grants.push_back(grant); }
                        if let Some(grant) = grants.pop_front() { sender.grant(grant); }
                    }
                }
            }
            // Everything comes home.
            for cost in wire { prop_assert!(receiver.receive(cost)); working.push_back(cost); }
            for cost in working {
                receiver.dealt_with(cost);
                if let Some(grant) = receiver.poll_grant() { grants.push_back(grant); }
            }
            for grant in grants { sender.grant(grant); }
            prop_assert!(sender.spend(Credits { messages: 1, bytes: largest }), "T8");
        }

        #[test]
        fn what_was_not_granted_is_refused(bytes in 101..1000u64) {
            let window = Credits { messages: 2, bytes: 100 };
            let mut receiver = ReceiveCredit::new(window, 100);
            let mut take = |messages, bytes| receiver.receive(Credits { messages, bytes });
            prop_assert!(!take(1, bytes));
            prop_assert!(!take(3, 3));
            prop_assert!(take(2, 100));
            prop_assert!(!take(1, 0));
        }
    }
}
