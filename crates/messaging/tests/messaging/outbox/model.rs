//! Random lives of messages in an outbox, against a plain model that keeps everything.
//!
//! The windows are tiny, so that nearly everything is paged; what is asked for is answered late, in
//! parts, or never because of a restart, which also takes back every end that was not made durable.
//! After every step: what ended did so for a reason of the model's own (M12, D2), what was sent was
//! not too late (M13, D6) nor out of order (M14, D4), and memory holds no more than configured (M24,
//! D7). In the end everything heals, and everything ends.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_messaging::BacklogPage;
use alys_stream_messaging::refusals::Standing;
use alys_stream_protocol::message::Priority;
use proptest::prelude::*;

use super::*;

mod rules;

const REFUSALS_MAX: u32 = 4;

/// Payload bytes of a message that everybody takes; a long one has one more.
const SHORT: u32 = 100;

const CONFIG: OutboxConfig =
    OutboxConfig { refusals_max: REFUSALS_MAX, assigned_max: 3, window_max: 4, seed: 1 };

/// Per priority: three endpoints with a window, a batch and what is assigned; and once more what
/// waits unassigned, with a batch. `Critical` may be assigned as much as a window.
const RESIDENT_MAX: usize = 2 * (3 * (4 + 4 + 4) + 4 + 4 + 4);

#[derive(Debug, Clone)]
enum Step {
    Accept {
        count: u8,
        key: Option<u8>,
        policy: u8,
        awaits: bool,
        urgent: bool,
        long: bool,
        deadline: Option<u64>,
    },
    /// Whether it takes only short messages.
    Connect(usize, bool),
    /// How many of those on their way come yet.
    Disconnect(usize, usize),
    Poll(usize, u32),
    Ack(usize, usize, usize),
    Nack(usize, usize, u8),
    Conclude(u64),
    Evict(u64),
    Damage(u64),
    Forget(u64),
    Remove(usize),
    Add(usize),
    Pass(u64),
    /// Answers some of what was asked for.
    Answer(usize, usize),
    AnswerAll,
    /// Every end and every refusal up to now is durable.
    Sync,
    /// How many on their way to each endpoint come yet.
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let e = 0..3_usize;
    let seq = 1..400_u64;
    let accept = (
        1..20_u8,
        prop::option::of(0..3_u8),
        0..3_u8,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
        prop::option::weighted(0.3, 1..20_000_u64),
    );
    prop_oneof![
        6 => accept.prop_map(|(count, key, policy, awaits, urgent, long, deadline)| {
            Step::Accept { count, key, policy, awaits, urgent, long, deadline }
        }),
        4 => (e.clone(), prop::bool::weighted(0.3)).prop_map(|(e, few)| Step::Connect(e, few)),
        2 => (e.clone(), 0..4_usize).prop_map(|(e, n)| Step::Disconnect(e, n)),
        12 => (e.clone(), 1..8_u32).prop_map(|(e, n)| Step::Poll(e, n)),
        10 => (e.clone(), 0..8_usize, 1..6_usize).prop_map(|(e, n, count)| Step::Ack(e, n, count)),
        4 => (e.clone(), 0..8_usize, 0..5_u8).prop_map(|(e, n, kind)| Step::Nack(e, n, kind)),
        1 => seq.clone().prop_map(Step::Conclude),
        1 => seq.clone().prop_map(Step::Evict),
        1 => seq.clone().prop_map(Step::Damage),
        1 => seq.prop_map(Step::Forget),
        1 => e.clone().prop_map(Step::Remove),
        2 => e.prop_map(Step::Add),
        3 => (1..4_000_u64).prop_map(Step::Pass),
        8 => (0..8_usize, 1..6_usize).prop_map(|(n, count)| Step::Answer(n, count)),
        6 => Just(Step::AnswerAll),
        4 => Just(Step::Sync),
        1 => (0..4_usize).prop_map(Step::Restart),
    ]
}

/// One message, as the model knows it.
#[derive(Debug, Clone)]
struct Known {
    meta: RecordMeta,
    route: Route,
    /// Whether this process sent it.
    is_sent: bool,
    /// Acknowledgements that the outbox was told of, by endpoint.
    acked: [bool; 3],
    refused: Refused,
    is_damaged: bool,
    is_forgotten: bool,
}

/// Who refused a message.
#[derive(Debug, Clone, Copy, Default)]
struct Refused {
    count: [u32; 3],
    is_final: [bool; 3],
    /// Because of its length.
    is_too_long: [bool; 3],
}

/// What the world outside the outbox remembers.
struct World {
    outbox: Outbox,
    now: UnixMillis,
    live: BTreeMap<u64, Known>,
    /// What ended, and would be live again after a crash.
    ending: BTreeMap<u64, Known>,
    accepted: u64,
    ended: u64,
    /// Keys and priorities of everything that has one.
    names: BTreeMap<u64, (u8, Priority)>,
    histories: BTreeMap<u64, (History, Refused)>,
    /// The same of what is durable.
    remembered: BTreeMap<u64, (History, Refused)>,
    ticket: Option<RefusalTicket>,
    /// What was asked for and not answered.
    asked: Vec<Seq>,
    enabled: [bool; 3],
    connected: [bool; 3],
    /// Whether each endpoint said last that it takes only short messages.
    takes_short: [bool; 3],
    /// Sent on the present stream of each endpoint and unanswered.
    sent: [BTreeSet<u64>; 3],
    /// Sent on the present stream of each endpoint and not refused, in order, even if it is over.
    on_way: [Vec<u64>; 3],
    /// What each peer has stored.
    stored: [BTreeSet<u64>; 3],
    /// What went to a peer before it refused an earlier one of its key.
    overtook: [BTreeMap<u64, BTreeSet<u64>>; 3],
    /// What may end in this step for another reason than its policy.
    excused: BTreeSet<u64>,
    /// Whether the outbox may not have noticed yet what ended.
    is_vague: bool,
    paged: usize,
}

impl World {
    fn new() -> Self {
        Self {
            outbox: Outbox::new(CONFIG),
            now: NOW,
            live: BTreeMap::new(),
            ending: BTreeMap::new(),
            accepted: 0,
            ended: 0,
            names: BTreeMap::new(),
            histories: BTreeMap::new(),
            remembered: BTreeMap::new(),
            ticket: None,
            asked: Vec::new(),
            enabled: [false; 3],
            connected: [false; 3],
            takes_short: [false; 3],
            sent: Default::default(),
            on_way: Default::default(),
            stored: Default::default(),
            overtook: Default::default(),
            excused: BTreeSet::new(),
            is_vague: false,
            paged: 0,
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Accept { .. } => self.accept(&step),
            Step::Connect(e, few) if self.enabled[e] => {
                self.takes_short[e] = few;
                let bytes_max = if few { SHORT } else { u32::MAX };
                self.outbox.handle_payload_max(self.now, E[e], bytes_max);
                self.connect(e);
            }
            Step::Disconnect(e, arriving) => {
                self.outbox.handle_disconnected(E[e]);
                self.connected[e] = false;
                self.lose(e, arriving);
            }
            Step::Poll(e, messages) => self.poll(e, messages),
            Step::Ack(e, n, count) => self.ack(e, n, count),
            Step::Nack(e, n, kind) => self.nack(e, n, kind),
            Step::Conclude(seq) => self.excuse(seq, |outbox| outbox.handle_concluded(Seq(seq))),
            Step::Evict(seq) => self.excuse(seq, |outbox| outbox.handle_evicted(Seq(seq))),
            Step::Damage(seq) => {
                self.live.entry(seq).and_modify(|known| known.is_damaged = true);
            }
            Step::Forget(seq) => {
                self.live.entry(seq).and_modify(|known| known.is_forgotten = true);
            }
            Step::Remove(e) => {
                self.outbox.handle_endpoint_removed(E[e]);
                (self.enabled[e], self.connected[e]) = (false, false);
                self.takes_short[e] = false;
                self.lose(e, 0);
                for known in self.live.values_mut() {
                    known.acked[e] = false;
                }
                self.is_vague = true;
            }
            Step::Add(e) => {
                self.outbox.handle_endpoint_added(E[e], NAMES[e]).unwrap();
                self.enabled[e] = true;
            }
            Step::Pass(millis) => {
                self.now = UnixMillis(self.now.0 + millis);
                self.outbox.handle_timeout(self.now);
            }
            Step::Answer(n, count) => {
                let from = n.min(self.asked.len());
                let to = (from + count).min(self.asked.len());
                let seqs: Vec<Seq> = self.asked.drain(from..to).collect();
                self.answer(&seqs);
            }
            Step::AnswerAll => self.answer_all(),
            Step::Sync => self.sync(),
            Step::Restart(arriving) => self.restart(arriving),
            Step::Connect(..) => {}
        }
        self.collect();
    }

    fn accept(&mut self, step: &Step) {
        let Step::Accept { count, key, policy, awaits, urgent, long, deadline } = step else {
            return;
        };
        for _ in 0..*count {
            self.accepted += 1;
            let seq = self.accepted;
            let policy = [Policy::Any, Policy::All, Policy::Quorum(2)][usize::from(*policy)];
            let deadline = deadline.map(|after| UnixMillis(self.now.0 + after));
            let priority = if *urgent { Priority::Critical } else { Priority::Normal };
            let payload_bytes = if *long { SHORT + 1 } else { SHORT };
            let meta = RecordMeta { priority, payload_bytes, ..meta(seq, *key, deadline) };
            let route = Route { policy, awaits_answer: *awaits };
            if let Some(key) = key {
                self.names.insert(seq, (*key, priority));
            }
            self.live.insert(
                seq,
                Known {
                    meta: meta.clone(),
                    route,
                    is_sent: false,
                    acked: [false; 3],
                    refused: Refused::default(),
                    is_damaged: false,
                    is_forgotten: false,
                },
            );
            self.outbox.handle_accepted(self.now, meta, route);
        }
    }

    /// A stream is lost; a peer may have stored what was on its way, in order.
    fn lose(&mut self, e: usize, arriving: usize) {
        self.stored[e].extend(self.on_way[e].iter().take(arriving));
        self.on_way[e].clear();
        self.sent[e].clear();
    }

    /// Everything that was told is durable.
    fn sync(&mut self) {
        let ended = std::mem::take(&mut self.ending);
        self.outbox.handle_ends_durable(&seqs(ended.into_keys()));
        self.remembered = self.histories.clone();
        if let Some(ticket) = self.ticket.take() {
            self.outbox.handle_remembered(ticket);
        }
    }

    fn connect(&mut self, e: usize) {
        self.lose(e, 0);
        for seq in &self.stored[e] {
            if let Some(known) = self.live.get_mut(seq) {
                known.acked[e] = true;
            }
        }
        self.outbox.handle_connected(E[e], &seqs(self.stored[e].iter().copied()));
        self.connected[e] = true;
    }

    fn poll(&mut self, e: usize, messages: u32) {
        // Some leave room for critical ones alone, or for none that is longer than others.
        let budget = match messages {
            1 => Budget { critical_messages: 2, critical_bytes: 250, ..Budget::new(1, 250) },
            2 => Budget { critical_messages: 2, critical_bytes: 1 << 20, ..Budget::new(0, 0) },
            3 => Budget { large_bytes_max: 99, ..Budget::new(3, 1 << 20) },
            _ => Budget::new(messages, 1 << 20),
        };
        let sent_before = self.sent[e].len();
        let mut last = BTreeMap::new();
        for seq in self.outbox.poll_batch(self.now, E[e], budget, 128, 64 * 1024) {
            let seq = seq.0;
            assert!(self.connected[e], "sent without a connection");
            let known = self.live.get_mut(&seq).expect("M12: nothing is sent after it ended");
            assert!(known.meta.deadline.is_none_or(|at| at > self.now), "M13: {seq} is too late");
            assert!(!self.sent[e].contains(&seq), "{seq} was sent twice on one stream");
            assert!(!self.stored[e].contains(&seq), "{seq} was sent to one who has it");
            assert!(!known.refused.is_final[e], "{seq} was sent to one who refused it for good");
            let is_long = known.meta.payload_bytes > SHORT;
            assert!(!(is_long && self.takes_short[e]), "{seq} was sent to one who cannot take it");
            known.is_sent = true;
            let is_urgent = known.meta.priority == Priority::Critical;
            if let Some(name) = self.names.get(&seq).copied() {
                let before = last.insert(name, seq);
                assert!(before.is_none_or(|before| before < seq), "M14: {seq} in one batch");
                self.check_order(e, seq, name);
            }
            self.sent[e].insert(seq);
            self.on_way[e].push(seq);
            let taken = u32::try_from(self.sent[e].len() - sent_before).unwrap();
            let messages_max =
                budget.messages + if is_urgent { budget.critical_messages } else { 0 };
            assert!(taken <= messages_max, "M26: {seq} is over the budget");
            assert!(is_urgent || budget.large_bytes_max >= 100, "M26: {seq} is too long");
        }
    }

    fn ack(&mut self, e: usize, n: usize, count: usize) {
        let acked: BTreeSet<u64> = self.sent[e].iter().copied().skip(n).take(count).collect();
        for seq in &acked {
            self.sent[e].remove(seq);
            // What was sent before it came before it, if it is of its key.
            let name = self.names.get(seq);
            let before = self.on_way[e].iter().take_while(|before| *before != seq);
            let before = before.filter(|it| name.is_some() && self.names.get(it) == name);
            self.stored[e].extend(before.chain([seq]));
            if let Some(known) = self.live.get_mut(seq) {
                known.acked[e] = true;
            }
        }
        self.outbox.handle_ack(E[e], &seqs(acked));
    }

    fn nack(&mut self, e: usize, n: usize, kind: u8) {
        let mut refusable = self.sent[e].difference(&self.stored[e]).copied();
        let Some(seq) = refusable.nth(n) else { return };
        self.sent[e].remove(&seq);
        self.on_way[e].retain(|other| *other != seq);
        let passed: BTreeSet<u64> = self.on_way[e].iter().chain(&self.stored[e]).copied().collect();
        self.overtook[e].entry(seq).or_default().extend(passed.range(seq..));
        let refused = &mut self.live.get_mut(&seq).expect("in flight").refused;
        refused.count[e] += 1;
        let refusal = if kind == 0 { Refusal::Terminal } else { Refusal::Retry { after: None } };
        refused.is_final[e] = kind == 0 || refused.count[e] >= REFUSALS_MAX;
        self.outbox.handle_nack(self.now, E[e], Seq(seq), refusal, 1, "no");
    }

    fn excuse(&mut self, seq: u64, event: impl FnOnce(&mut Outbox)) {
        self.excused.insert(seq);
        event(&mut self.outbox);
    }

    fn answer(&mut self, asked: &[Seq]) {
        let mut loaded = Vec::new();
        for seq in asked {
            // What ended meanwhile is not in the buffer any more.
            let Some(known) = self.live.get(&seq.0) else {
                self.outbox.handle_forgotten(*seq);
                continue;
            };
            if known.is_forgotten {
                self.live.remove(&seq.0);
                self.ended += 1;
                self.outbox.handle_forgotten(*seq);
                assert!(!self.outbox.contains(*seq));
            } else if known.is_damaged {
                self.excused.insert(seq.0);
                self.outbox.handle_unreadable(*seq);
            } else {
                let history = self.histories.get(&seq.0).map(|it| it.0.clone()).unwrap_or_default();
                loaded.push(Loaded { meta: known.meta.clone(), route: known.route, history });
            }
        }
        self.paged += loaded.len();
        self.outbox.handle_loaded(self.now, loaded);
    }

    fn answer_all(&mut self) {
        for round in 0.. {
            if self.asked.is_empty() {
                break;
            }
            assert!(round < 10_000, "M25: it asks again and again: {:?}", self.asked);
            let asked = std::mem::take(&mut self.asked);
            self.answer(&asked);
            self.collect();
        }
    }

    /// The process ends, and another one begins with what is on the disk.
    fn restart(&mut self, arriving: usize) {
        self.outbox = Outbox::new(CONFIG);
        self.asked.clear();
        (0..3).for_each(|e| self.lose(e, arriving));
        // What was not durable is as it was.
        self.ended -= u64::try_from(self.ending.len()).unwrap();
        self.live.append(&mut self.ending);
        self.histories = self.remembered.clone();
        self.ticket = None;
        for e in (0..3).filter(|e| self.enabled[*e]) {
            self.outbox.handle_endpoint_added(E[e], NAMES[e]).unwrap();
        }
        let mut pages: BTreeMap<u64, BacklogPage> = BTreeMap::new();
        for (seq, known) in &mut self.live {
            (known.is_sent, known.acked) = (false, [false; 3]);
            known.refused = self.histories.get(seq).map(|it| it.1).unwrap_or_default();
            let number = seq / BacklogPage::SEQS;
            let empty = BacklogPage { number, by_priority: [0; 4], deadline_min: None };
            let page = pages.entry(number).or_insert(empty);
            page.by_priority[known.meta.priority.index()] |= 1 << (seq % BacklogPage::SEQS);
            let deadlines = [page.deadline_min, known.meta.deadline];
            page.deadline_min = deadlines.into_iter().flatten().min();
        }
        for page in pages.values() {
            self.outbox.handle_backlog(page);
        }
        self.connected = [false; 3];
        self.takes_short = [false; 3];
        self.is_vague = true;
    }

    /// Every endpoint is there and takes everything, and every answer comes.
    fn heal(&mut self) {
        for e in 0..3 {
            self.apply(Step::Add(e));
            self.apply(Step::Connect(e, false));
        }
        for round in 0.. {
            assert!(round < 2_000, "stuck: {:?}", self.live);
            self.apply(Step::AnswerAll);
            for e in 0..3 {
                self.apply(Step::Poll(e, 100));
                self.apply(Step::Ack(e, 0, usize::MAX));
            }
            self.apply(Step::Sync);
            let is_answered = |known: &Known| known.route.awaits_answer && self.acks(known) > 0;
            let answered = self.live.iter().filter(|(_, known)| is_answered(known));
            for seq in answered.map(|(seq, _)| *seq).collect::<Vec<_>>() {
                self.apply(Step::Conclude(seq));
            }
            if self.live.is_empty() {
                break;
            }
            self.apply(Step::Pass(500));
        }
    }
}

/// Every endpoint is there and takes everything.
fn beginning() -> impl Iterator<Item = Step> {
    (0..3).map(Step::Add).chain((0..3).map(|e| Step::Connect(e, false)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_message_ends_once_in_order_in_time_and_in_little_memory(
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut world = World::new();
        for step in beginning().chain(steps) {
            world.apply(step);
        }
        world.heal();
        prop_assert!(world.live.is_empty());
        prop_assert_eq!(world.ended, world.accepted);
        prop_assert_eq!(world.outbox.resident(), 0);
        prop_assert_eq!(world.outbox.bits_bytes(), 0);
    }
}
