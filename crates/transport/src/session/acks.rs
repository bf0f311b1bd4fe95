//! Acknowledgements on their way out: gathered, numbered, remembered until they are echoed.
//!
//! Invariants:
//! - T9: an acknowledgement waits for at most `delay`, and never for more than `messages` or
//!   `bytes` (delivery, handshake rule 4).
//! - T10: only an echoed ack id releases its ranges: what the peer's disk does not hold, it may
//!   send again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::Ack;
use serde::{Deserialize, Serialize};

/// When acknowledgements go out: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AckConfig {
    /// So many messages are stored; default 64.
    pub messages: u32,
    /// So many payload bytes are stored; default 256 KiB.
    pub bytes: u64,
    /// The oldest waits so long; default 20 ms.
    #[serde(with = "humantime_serde")]
    pub delay: Duration,
    /// How long a record of ours may stay unacknowledged before the session is given up and begun
    /// again; default 30 s. Higher bears slower peers, lower finds lost acknowledgements sooner.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for AckConfig {
    fn default() -> Self {
        Self {
            messages: 64,
            bytes: 256 * 1024,
            delay: Duration::from_millis(20),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Acknowledgements that the peer has not echoed; older ones are merged beyond it, which only
/// makes us remember a little longer.
const UNECHOED_MAX: usize = 4096;

/// The acknowledgements of one session.
#[derive(Debug)]
pub(super) struct Acks {
    config: AckConfig,
    waiting: SeqSet,
    waiting_messages: u32,
    waiting_bytes: u64,
    due_at: Option<Instant>,
    /// The timer has fired; the acknowledgement waits for room.
    ripe: bool,
    last_id: u64,
    unechoed: VecDeque<(u64, SeqSet)>,
    echoed: u64,
}

impl Acks {
    pub(super) const fn new(config: AckConfig) -> Self {
        Self {
            config,
            waiting: SeqSet::new(),
            waiting_messages: 0,
            waiting_bytes: 0,
            due_at: None,
            ripe: false,
            last_id: 0,
            unechoed: VecDeque::new(),
            echoed: 0,
        }
    }

    /// One record is durably stored.
    pub(super) fn handle_stored(&mut self, now: Instant, seq: Seq, bytes: u64) {
        self.waiting.insert(seq);
        self.waiting_messages = self.waiting_messages.saturating_add(1);
        self.waiting_bytes = self.waiting_bytes.saturating_add(bytes);
        if self.due_at.is_none() {
            self.due_at = Some(now + self.config.delay);
        }
        if self.waiting_messages >= self.config.messages || self.waiting_bytes >= self.config.bytes
        {
            self.due_at = Some(now);
        }
    }

    /// Everything stored is acknowledged at the next poll, however little it is.
    pub(super) fn flush(&mut self, now: Instant) {
        if self.due_at.is_some() {
            self.due_at = Some(now);
        }
    }

    /// When [`Acks::handle_timeout`] has something to do. An acknowledgement that waits for room
    /// asks for no more timers.
    pub(super) const fn poll_timeout(&self) -> Option<Instant> {
        if self.ripe { None } else { self.due_at }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.ripe = self.due_at.is_some_and(|due| now >= due);
    }

    /// Whether everything stored is acknowledged.
    pub(super) const fn is_idle(&self) -> bool {
        self.due_at.is_none()
    }

    /// The acknowledgement that is due.
    pub(super) fn poll_ack(&mut self, now: Instant) -> Option<Ack> {
        if self.due_at.is_none_or(|due| now < due) {
            return None;
        }
        self.due_at = None;
        self.ripe = false;
        self.waiting_messages = 0;
        self.waiting_bytes = 0;
        let ranges = std::mem::take(&mut self.waiting);
        self.last_id += 1;
        let ack = Ack { ack_id: self.last_id, ranges: ranges.to_wire() };
        if self.unechoed.len() >= UNECHOED_MAX
            && let (Some((_, first)), Some((_, second))) =
                (self.unechoed.pop_front(), self.unechoed.front_mut())
        {
            for range in first.ranges() {
                second.insert_range(range);
            }
        }
        self.unechoed.push_back((self.last_id, ranges));
        Some(ack)
    }

    /// The peer echoed `acks_durable`. Returns what that newly covers; `Err` with the last id when
    /// it echoes what was never sent.
    pub(super) fn handle_echo(&mut self, acks_durable: u64) -> Result<SeqSet, u64> {
        if acks_durable > self.last_id {
            return Err(self.last_id);
        }
        let mut covered = SeqSet::new();
        if acks_durable <= self.echoed {
            return Ok(covered);
        }
        self.echoed = acks_durable;
        while let Some((id, _)) = self.unechoed.front()
            && *id <= acks_durable
            && let Some((_, ranges)) = self.unechoed.pop_front()
        {
            for range in ranges.ranges() {
                covered.insert_range(range);
            }
        }
        Ok(covered)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_acknowledgement_leaves_at_64_messages_256_kib_or_20_ms() {
        let t0 = start();
        let mut acks = Acks::new(AckConfig::default());
        for seq in 1..=63 {
            acks.handle_stored(t0, Seq(seq), 100);
        }
        assert_eq!(acks.poll_ack(t0), None);
        assert_eq!(acks.poll_timeout(), Some(t0 + Duration::from_millis(20)));
        acks.handle_stored(t0, Seq(64), 100);
        assert_eq!(acks.poll_ack(t0).unwrap().ranges.len(), 1);
        acks.handle_stored(t0, Seq(65), 256 * 1024);
        assert_eq!(acks.poll_ack(t0).unwrap().ack_id, 2);
        acks.handle_stored(t0, Seq(66), 1);
        assert_eq!(acks.poll_ack(t0 + Duration::from_millis(19)), None);
        assert_eq!(acks.poll_ack(t0 + Duration::from_millis(20)).unwrap().ack_id, 3);
        assert_eq!(acks.poll_timeout(), None);
    }

    #[test]
    fn only_an_echo_releases() {
        let t0 = start();
        let mut acks = Acks::new(AckConfig { messages: 1, ..AckConfig::default() });
        for seq in [1, 2, 5] {
            acks.handle_stored(t0, Seq(seq), 1);
            acks.poll_ack(t0).unwrap();
        }
        assert_eq!(acks.handle_echo(0).unwrap(), SeqSet::new());
        assert_eq!(acks.handle_echo(2).unwrap().to_wire().len(), 1);
        assert_eq!(acks.handle_echo(2).unwrap(), SeqSet::new(), "once");
        assert_eq!(acks.handle_echo(3).unwrap().first(), Some(Seq(5)));
        assert_eq!(acks.handle_echo(4), Err(3));
    }

    proptest! {
        #[test]
        fn everything_stored_is_acknowledged_once_and_in_time(
            steps in prop::collection::vec((0..30u64, 1..100_000u64), 1..300)
        ) {
            let mut now = start();
            let config = AckConfig::default();
            let mut acks = Acks::new(config);
            let mut acked = SeqSet::new();
            let (mut waiting, mut waiting_bytes, mut oldest) = (0u32, 0u64, None);
            for (index, (millis, bytes)) in steps.iter().enumerate() {
                now += Duration::from_millis(*millis);
                let seq = Seq(u64::try_from(index).unwrap() + 1);
                acks.handle_stored(now, seq, *bytes);
                oldest.get_or_insert(now);
                waiting += 1;
                waiting_bytes += bytes;
                if let Some(ack) = acks.poll_ack(now) {
                    for range in SeqSet::try_from_wire(&ack.ranges).unwrap().ranges() {
                        let length = range.end().0 - range.start().0 + 1;
                        prop_assert_eq!(acked.insert_range(range), length, "acknowledged twice");
                    }
                    (waiting, waiting_bytes, oldest) = (0, 0, None);
                }
                prop_assert!(waiting < config.messages && waiting_bytes < config.bytes, "T9");
                prop_assert!(oldest.is_none_or(|at| now < at + config.delay), "T9");
            }
            acks.flush(now);
            if let Some(ack) = acks.poll_ack(now) {
                for range in SeqSet::try_from_wire(&ack.ranges).unwrap().ranges() { acked.insert_range(range); }
            }
            prop_assert_eq!(acked.count(), u64::try_from(steps.len()).unwrap());
            prop_assert_eq!(acks.handle_echo(acks.last_id).unwrap(), acked, "T10");
        }
    }
}
