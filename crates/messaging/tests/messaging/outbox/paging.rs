//! Backlogs that do not fit into memory, and what is remembered of refusals through a restart.

use alys_stream_messaging::outbox::{ASSIGNED_MAX, WINDOW_MAX};
use alys_stream_messaging::refusals::Standing;
use alys_stream_messaging::{BacklogPage, Balance, Candidate, Refusals};
use alys_stream_protocol::message::{LogId, Priority};

use super::*;

const MILLION: u64 = 1_000_000;

/// An outbox with a backlog of the same message, as after a restart.
struct Backlog {
    outbox: Outbox,
    route: Route,
    key: Option<u8>,
    deadline: Option<UnixMillis>,
    settled: SeqSet,
    died: Vec<(u64, Cause)>,
    loaded: usize,
    resident_max: usize,
}

impl Backlog {
    fn new(endpoints: usize, policy: Policy, last: u64) -> Self {
        let mut outbox = Outbox::new(OutboxConfig::default());
        for (id, name) in E.iter().zip(NAMES).take(endpoints) {
            outbox.handle_endpoint_added(*id, name).unwrap();
        }
        for number in 0..=last / BacklogPage::SEQS {
            let mut bits = if number == 0 { !1 } else { u128::MAX };
            if number == last / BacklogPage::SEQS {
                bits &= u128::MAX >> (127 - last % BacklogPage::SEQS);
            }
            let by_priority = [bits, 0, 0, 0];
            outbox.handle_backlog(&BacklogPage { number, by_priority, deadline_min: None });
        }
        Self {
            outbox,
            route: route(policy),
            key: None,
            deadline: None,
            settled: SeqSet::new(),
            died: Vec::new(),
            loaded: 0,
            resident_max: 0,
        }
    }

    fn meta(&self, seq: u64) -> RecordMeta {
        RecordMeta { priority: Priority::Low, ..meta(seq, self.key, self.deadline) }
    }

    fn pump(&mut self, now: UnixMillis) {
        while let Some(action) = self.outbox.poll_action() {
            match action {
                Action::Load { seqs } => {
                    self.loaded += seqs.len();
                    let loaded = seqs.iter().map(|seq| Loaded {
                        meta: self.meta(seq.0),
                        route: self.route,
                        history: History::default(),
                    });
                    let loaded = loaded.collect();
                    self.outbox.handle_loaded(now, loaded);
                }
                Action::Settle { seqs } => {
                    for range in seqs.ranges() {
                        self.settled.insert_range(range);
                    }
                    self.outbox.handle_ends_durable(&seqs);
                }
                Action::Dead { seq, cause, .. } => self.died.push((seq.0, cause)),
                Action::Ready(_) | Action::Remember { .. } => {}
                Action::Lost { seq } => panic!("{seq} was lost"),
            }
            self.resident_max = self.resident_max.max(self.outbox.resident());
        }
    }

    /// Sends and acknowledges until nothing is left; returns what was sent.
    fn drain(&mut self, id: EndpointId) -> u64 {
        let mut last = 0;
        let mut count = 0;
        loop {
            self.pump(NOW);
            let batch = self.outbox.poll_batch(NOW, id, BUDGET, 128, 64 * 1024);
            if batch.is_empty() {
                return count;
            }
            for seq in &batch {
                assert!(seq.0 > last, "in order");
                last = seq.0;
            }
            count += batch.len() as u64;
            self.outbox.handle_ack(id, &batch.into_iter().collect());
        }
    }
}

#[test]
fn a_critical_message_behind_a_million_low_ones_leaves_first() {
    for policy in [Policy::Any, Policy::All] {
        let mut backlog = Backlog::new(1, policy, MILLION);
        backlog.outbox.handle_connected(E[0], &SeqSet::new());
        backlog.pump(NOW);
        let urgent = RecordMeta { priority: Priority::Critical, ..meta(MILLION + 1, None, None) };
        backlog.outbox.handle_accepted(NOW, urgent, route(policy));
        let batch = backlog.outbox.poll_batch(NOW, E[0], BUDGET, 3, 1 << 20);
        assert_eq!(batch, [Seq(MILLION + 1), Seq(1), Seq(2)], "{policy:?}");
        assert!(backlog.loaded <= 2 * WINDOW_MAX, "{} were looked up", backlog.loaded);
    }
}

#[test]
fn a_backlog_is_drained_in_order_in_little_memory_and_looked_up_once() {
    let count = 100_000;
    for policy in [Policy::Any, Policy::All] {
        let mut backlog = Backlog::new(1, policy, count);
        assert!(backlog.outbox.bits_bytes() < 150_000, "{}", backlog.outbox.bits_bytes());
        backlog.outbox.handle_connected(E[0], &SeqSet::new());
        assert_eq!(backlog.drain(E[0]), count);
        assert_eq!((backlog.settled.count(), backlog.outbox.unsettled()), (count, [0; 4]));
        assert!(backlog.resident_max <= 3 * WINDOW_MAX, "{policy:?}: {}", backlog.resident_max);
        let loaded = backlog.loaded as u64;
        assert!((count..count + count / 100).contains(&loaded), "{policy:?}: {loaded}");
    }
}

#[test]
fn a_dead_endpoint_among_three_holds_nobody_back() {
    let count = 100_000;
    let mut backlog = Backlog::new(3, Policy::All, count);
    backlog.outbox.handle_connected(E[0], &SeqSet::new());
    backlog.outbox.handle_connected(E[1], &SeqSet::new());
    // The second takes one batch and says nothing more.
    backlog.pump(NOW);
    assert_eq!(backlog.outbox.poll_batch(NOW, E[1], BUDGET, 128, 1 << 20).len(), 128);
    assert_eq!(backlog.drain(E[0]), count);
    assert!(backlog.resident_max <= 3 * ASSIGNED_MAX + WINDOW_MAX, "{}", backlog.resident_max);
    assert_eq!(backlog.outbox.queued(E[2]), 100_000);
    for seq in count + 1..=count + 500 {
        backlog.outbox.handle_accepted(NOW, backlog.meta(seq), backlog.route);
    }
    assert_eq!(backlog.drain(E[0]), 500);
    // The others come back, each with what it has, and take the rest in order.
    backlog.outbox.handle_connected(E[1], &seqs(1..=100));
    assert_eq!(backlog.drain(E[1]), count + 400);
    assert!(backlog.settled.is_empty());
    backlog.outbox.handle_connected(E[2], &SeqSet::new());
    assert_eq!(backlog.drain(E[2]), count + 500);
    assert_eq!(backlog.settled.count(), count + 500);
}

#[test]
fn what_a_peer_has_of_a_million_costs_pages_not_messages() {
    let mut backlog = Backlog::new(2, Policy::All, 0);
    // Accepted in this process: their policy is known.
    for seq in 1..=MILLION {
        backlog.outbox.handle_accepted(NOW, backlog.meta(seq), backlog.route);
    }
    let mut first = SeqSet::new();
    first.insert_range(Seq(1)..=Seq(MILLION));
    backlog.outbox.handle_connected(E[0], &first);
    backlog.pump(NOW);
    let loaded = backlog.loaded;
    let mut received = SeqSet::new();
    received.insert_range(Seq(1)..=Seq(MILLION - 5));
    backlog.outbox.handle_connected(E[1], &received);
    let Some(Action::Settle { seqs }) =
        std::iter::from_fn(|| backlog.outbox.poll_action()).find(|a| !is_load_or_ready(a))
    else {
        panic!("nothing is settled")
    };
    assert_eq!((seqs.count(), seqs.interval_count()), (MILLION - 5, 1));
    assert!(backlog.loaded - loaded <= 5);
}

fn is_load_or_ready(action: &Action) -> bool {
    matches!(action, Action::Load { .. } | Action::Ready(_))
}

#[test]
fn what_peers_have_after_a_restart_is_settled_once_its_policy_is_known() {
    for policy in [Policy::Any, Policy::All, Policy::Quorum(1)] {
        let mut backlog = Backlog::new(1, policy, 10_000);
        backlog.outbox.handle_connected(E[0], &seqs(1..=9_000));
        backlog.pump(NOW);
        backlog.drain(E[0]);
        assert_eq!(backlog.settled.count(), 10_000, "{policy:?}");
    }
}

#[test]
fn what_is_not_in_memory_expires_too() {
    let mut backlog = Backlog::new(2, Policy::All, 0);
    let at = |seq: u64| UnixMillis(NOW.0 + 1_000 + seq / 10);
    for seq in 1..=1_000 {
        backlog.deadline = Some(at(seq));
        backlog.outbox.handle_accepted(NOW, backlog.meta(seq), backlog.route);
    }
    assert_eq!(backlog.outbox.resident(), 0, "nobody is connected");
    for seq in (10..=1_000).step_by(10) {
        assert_eq!(backlog.outbox.poll_timeout(), Some(at(seq - 1)));
        backlog.outbox.handle_timeout(at(seq - 1));
        // The answers, each with its own deadline.
        while let Some(action) = backlog.outbox.poll_action() {
            match action {
                Action::Load { seqs } => {
                    let loaded = seqs.iter().map(|seq| Loaded {
                        meta: meta(seq.0, None, Some(at(seq.0))),
                        route: route(Policy::All),
                        history: History::default(),
                    });
                    backlog.outbox.handle_loaded(at(seq - 1), loaded.collect());
                }
                Action::Dead { seq, cause, .. } => backlog.died.push((seq.0, cause)),
                other @ (Action::Settle { .. }
                | Action::Lost { .. }
                | Action::Ready(_)
                | Action::Remember { .. }) => panic!("{other:?}"),
            }
        }
        assert_eq!(backlog.died.len() as u64, seq - 1, "exactly those that are late");
    }
    assert!(backlog.died.iter().all(|(_, cause)| *cause == Cause::Expired));
}

#[test]
fn without_a_connection_nothing_is_in_memory() {
    let mut desk = outbox(2);
    for seq in 1..=100 {
        let policy = if seq % 2 == 0 { Policy::Any } else { Policy::All };
        desk.accept(meta(seq, None, None), route(policy));
    }
    poll(&mut desk, NOW, E[0]);
    desk.handle_disconnected(E[0]);
    desk.handle_disconnected(E[1]);
    assert_eq!(desk.resident(), 0);
    desk.handle_connected(E[0], &SeqSet::new());
    assert_eq!(poll(&mut desk, NOW, E[0]), (1..=100).collect::<Vec<_>>(), "M15");
}

#[test]
fn a_key_that_waits_holds_back_no_other_however_many_it_has() {
    let config = OutboxConfig { window_max: 8, assigned_max: 8, ..OutboxConfig::default() };
    let mut desk = Desk::new(config);
    desk.handle_endpoint_added(E[0], NAMES[0]).unwrap();
    desk.handle_connected(E[0], &SeqSet::new());
    for policy in [Policy::All, Policy::Any] {
        let first = desk.unsettled().iter().sum::<usize>() as u64 + desk.ended.len() as u64 + 1;
        desk.accept(meta(first, Some(1), None), route(policy));
        assert_eq!(poll(&mut desk, NOW, E[0]), [first]);
        let after = Some(Duration::from_secs(60));
        desk.handle_nack(NOW, E[0], Seq(first), Refusal::Retry { after }, 1, "");
        for seq in first + 1..=first + 100 {
            desk.accept(meta(seq, Some(1), None), route(policy));
        }
        desk.accept(meta(first + 101, Some(2), None), route(policy));
        desk.accept(meta(first + 102, None, None), route(policy));
        assert_eq!(poll(&mut desk, NOW, E[0]), [first + 101, first + 102], "{policy:?}");
        desk.handle_ack(E[0], &seqs([first + 101, first + 102]));
        let due = desk.poll_timeout().unwrap();
        desk.handle_timeout(due);
        let mut sent = Vec::new();
        loop {
            let batch = poll(&mut desk, due, E[0]);
            if batch.is_empty() {
                break;
            }
            desk.handle_ack(E[0], &seqs(batch.iter().copied()));
            sent.extend(batch);
        }
        assert_eq!(sent, (first..=first + 100).collect::<Vec<_>>(), "M14");
        desk.pump();
    }
}

/// Always the last one.
#[derive(Debug)]
struct Last;

impl Balance for Last {
    fn choose(&mut self, now: UnixMillis, candidates: &[Candidate]) -> Option<EndpointId> {
        assert_eq!(now, NOW);
        candidates.last().map(|candidate| candidate.id)
    }
}

#[test]
fn a_balancer_chooses_who_gets_messages_under_any_but_not_against_a_pin() {
    let mut desk = outbox(2);
    desk.accept(meta(1, Some(1), None), route(Policy::Any));
    desk.set_balance(Box::new(Last));
    desk.accept(meta(2, None, None), route(Policy::Any));
    desk.accept(meta(3, Some(1), None), route(Policy::Any));
    desk.accept(meta(4, None, None), route(Policy::All));
    assert_eq!(poll(&mut desk, NOW, E[0]), [1, 3, 4]);
    assert_eq!(poll(&mut desk, NOW, E[1]), [2, 4]);
}

fn open_refusals(dir: &Path, live: &SeqSet) -> Refusals {
    let log = LogId::new([3; 16]);
    let config = alys_stream_messaging::refusals::RefusalConfig {
        segment_bytes: 12 * 1024,
        ..Default::default()
    };
    let is_live = |seq| live.contains(seq);
    Refusals::open(dir, config, Arc::new(FileStorage), log, &is_live).unwrap().0
}

#[tokio::test]
async fn refusals_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = outbox(2);
    for seq in 1..=3 {
        desk.accept(meta(seq, None, None), route(Policy::All));
    }
    assert_eq!(poll(&mut desk, NOW, E[0]), [1, 2, 3]);
    let hour = Refusal::Retry { after: Some(Duration::from_secs(3600)) };
    desk.handle_nack(NOW, E[0], Seq(1), hour, 5, "later");
    desk.handle_nack(NOW, E[0], Seq(2), Refusal::Terminal, 6, "never");
    desk.pump();
    let due = desk.poll_timeout().unwrap();
    let refusals = open_refusals(dir.path(), &seqs(1..=3));
    let mut position = None;
    for (seq, history) in &desk.histories {
        position = Some(refusals.put(*seq, history));
    }
    assert_eq!(refusals.history(Seq(1)).unwrap(), desk.histories[&Seq(1)], "before it is durable");
    refusals.durable(position.unwrap()).await.unwrap();
    refusals.close().await;
    drop(refusals);

    let refusals = open_refusals(dir.path(), &seqs(1..=3));
    let mut again = Desk::new(OutboxConfig::default());
    again.records = desk.records.clone();
    for seq in (1..=3).map(Seq) {
        let history = refusals.history(seq).unwrap();
        assert_eq!(history, desk.histories.get(&seq).cloned().unwrap_or_default());
        again.histories.insert(seq, history);
    }
    assert_eq!(again.histories[&Seq(2)].endpoints[0].standing, Standing::Final);
    // The ids are other ones now.
    again.handle_endpoint_added(EndpointId(8), NAMES[1]).unwrap();
    again.handle_endpoint_added(EndpointId(9), NAMES[0]).unwrap();
    let by_priority = [0, 0b1110, 0, 0];
    again.handle_backlog(&BacklogPage { number: 0, by_priority, deadline_min: None });
    again.handle_connected(EndpointId(9), &SeqSet::new());
    assert_eq!(poll(&mut again, NOW, EndpointId(9)), [3], "1 waits, 2 was refused for good");
    assert_eq!((again.retrying(), again.poll_timeout()), (1, Some(due)));
    again.handle_timeout(due);
    assert_eq!(poll(&mut again, due, EndpointId(9)), [1]);
    again.handle_nack(due, EndpointId(9), Seq(1), hour, 5, "later");
    again.pump();
    assert_eq!(again.histories[&Seq(1)].endpoints[0].refusals, 2, "it goes on counting");
    again.handle_connected(EndpointId(8), &SeqSet::new());
    assert_eq!(poll(&mut again, due, EndpointId(8)), [1, 2, 3]);
    again.handle_ack(EndpointId(8), &seqs([2]));
    again.pump();
    let [Action::Dead { seq: Seq(2), cause, attempts, .. }] = &again.ended[..] else { panic!() };
    assert_eq!(*cause, Cause::Refused { code: 6, text: "never".into() });
    assert_eq!(attempts.len(), 1);
}

#[tokio::test]
async fn refusals_of_settled_messages_go_and_the_oldest_beyond_the_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogId::new([3; 16]);
    let config = alys_stream_messaging::refusals::RefusalConfig {
        segment_bytes: 12 * 1024,
        count_max: 50,
        ..Default::default()
    };
    let open = |log, live: &dyn Fn(Seq) -> bool| {
        Refusals::open(dir.path(), config, Arc::new(FileStorage), log, live).unwrap().0
    };
    let history = |n: u64| History {
        endpoints: Vec::new(),
        attempts: vec![Attempt {
            endpoint: "gov-1".into(),
            at: UnixMillis(n),
            code: 1,
            text: "x".repeat(500),
        }],
    };
    let refusals = open(log, &|_| true);
    let mut position = None;
    for round in 0..20 {
        for seq in 1..=60 {
            position = Some(refusals.put(Seq(seq), &history(round)));
        }
        refusals.durable(position.unwrap()).await.unwrap();
    }
    assert_eq!(refusals.stat().0, 50);
    assert!(refusals.history(Seq(10)).unwrap().is_empty(), "the oldest");
    assert_eq!(refusals.history(Seq(11)).unwrap(), history(19));
    refusals.forget(&seqs(11..=20));
    assert_eq!((refusals.stat().0, refusals.history(Seq(15)).unwrap().is_empty()), (40, true));
    // Without reuse they were 60.
    until(|| files(dir.path(), ".segment").len() <= 20).await;
    refusals.close().await;
    drop(refusals);
    let refusals = open(log, &|seq| seq > Seq(30));
    assert_eq!(refusals.stat().0, 30);
    assert_eq!(refusals.history(Seq(31)).unwrap(), history(19));
    assert!(refusals.history(Seq(25)).unwrap().is_empty());
    refusals.close().await;
    drop(refusals);
    assert_eq!(open(LogId::new([4; 16]), &|_| true).stat().0, 0, "of another log");
}
