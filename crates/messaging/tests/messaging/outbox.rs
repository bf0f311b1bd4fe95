//! The outbox: who is offered what, in which order, and when a message ends.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use alys_stream_messaging::router::{Policy, Route};
use alys_stream_messaging::{
    Action, Attempt, Budget, Cause, EndpointId, History, Loaded, Outbox, OutboxConfig, RecordMeta,
    Refusal, RefusalTicket,
};
use alys_stream_protocol::message::OrderingKey;

use super::*;

mod attempts;
mod model;
mod paging;
mod sizes;
mod urgent;

const BUDGET: Budget = Budget::new(1000, 1 << 30);
const E: [EndpointId; 3] = [EndpointId(1), EndpointId(2), EndpointId(3)];
const NAMES: [&str; 3] = ["gov-1", "gov-2", "gov-3"];

fn meta(seq: u64, key: Option<u8>, deadline: Option<UnixMillis>) -> RecordMeta {
    RecordMeta {
        deadline,
        ordering_key: key.map(|key| OrderingKey::try_new(vec![key]).unwrap()),
        ..RecordMeta::new(Seq(seq), NOW, &message(seq, 100))
    }
}

const fn route(policy: Policy) -> Route {
    Route { policy, awaits_answer: false }
}

/// An outbox with a driver that answers at once.
struct Desk {
    outbox: Outbox,
    /// What the buffer knows.
    records: BTreeMap<Seq, (RecordMeta, Route)>,
    histories: BTreeMap<Seq, History>,
    ended: Vec<Action>,
    /// Records that were looked up.
    loaded: usize,
    now: UnixMillis,
}

impl Deref for Desk {
    type Target = Outbox;

    fn deref(&self) -> &Outbox {
        &self.outbox
    }
}

impl DerefMut for Desk {
    fn deref_mut(&mut self) -> &mut Outbox {
        &mut self.outbox
    }
}

impl Desk {
    fn new(config: OutboxConfig) -> Self {
        Self {
            outbox: Outbox::new(config),
            records: BTreeMap::new(),
            histories: BTreeMap::new(),
            ended: Vec::new(),
            loaded: 0,
            now: NOW,
        }
    }

    fn accept(&mut self, meta: RecordMeta, route: Route) {
        self.records.insert(meta.seq, (meta.clone(), route));
        self.outbox.handle_accepted(self.now, meta, route);
    }

    fn handle_timeout(&mut self, now: UnixMillis) {
        self.now = now;
        self.outbox.handle_timeout(now);
    }

    /// Does what the outbox says.
    fn pump(&mut self) {
        while let Some(action) = self.outbox.poll_action() {
            match action {
                Action::Ready(_) => {}
                Action::Load { seqs } => {
                    assert!(seqs.is_sorted() && seqs.len() <= 1024, "{seqs:?}");
                    self.loaded += seqs.len();
                    let loaded = seqs.iter().map(|seq| self.look_up(*seq)).collect();
                    self.outbox.handle_loaded(self.now, loaded);
                }
                Action::Remember { seq, history, ticket } => {
                    self.histories.insert(seq, history);
                    self.outbox.handle_remembered(ticket);
                }
                Action::Settle { seqs } => {
                    self.ended.extend(seqs.iter().map(|seq| settle(seq.0)));
                    self.outbox.handle_ends_durable(&seqs);
                }
                Action::Dead { seq, .. } | Action::Lost { seq } => {
                    self.ended.push(action);
                    self.outbox.handle_ends_durable(&[seq].into_iter().collect());
                }
            }
        }
    }

    fn look_up(&self, seq: Seq) -> Loaded {
        let (meta, route) = self.records[&seq].clone();
        let history = self.histories.get(&seq).cloned().unwrap_or_default();
        Loaded { meta, route, history }
    }
}

fn outbox(endpoints: usize) -> Desk {
    let mut desk = Desk::new(OutboxConfig::default());
    for (id, name) in E.iter().zip(NAMES).take(endpoints) {
        desk.handle_endpoint_added(*id, name).unwrap();
        desk.handle_connected(*id, &SeqSet::new());
    }
    desk
}

fn poll(desk: &mut Desk, now: UnixMillis, id: EndpointId) -> Vec<u64> {
    desk.now = now;
    desk.pump();
    desk.poll_batch(now, id, BUDGET, 128, 64 * 1024).into_iter().map(|seq| seq.0).collect()
}

fn actions(desk: &mut Desk) -> Vec<Action> {
    desk.pump();
    std::mem::take(&mut desk.ended)
}

fn settle(seq: u64) -> Action {
    Action::Settle { seqs: seqs([seq]) }
}

#[test]
fn any_goes_to_the_least_loaded_and_is_chosen_again_in_order_after_a_loss() {
    let mut outbox = outbox(2);
    for seq in 1..=6 {
        outbox.accept(meta(seq, None, None), route(Policy::Any));
    }
    assert_eq!(poll(&mut outbox, NOW, E[0]), [1, 3, 5]);
    outbox.handle_disconnected(E[0]);
    assert_eq!(poll(&mut outbox, NOW, E[1]), [1, 2, 3, 4, 5, 6]);
    outbox.handle_ack(E[1], &seqs(1..=6));
    assert_eq!(actions(&mut outbox), (1..=6).map(settle).collect::<Vec<_>>());
    assert_eq!(outbox.unsettled(), [0; 4]);
}

#[test]
fn all_waits_for_everyone_and_quorum_withdraws() {
    let mut outbox = outbox(3);
    outbox.handle_disconnected(E[2]);
    outbox.accept(meta(1, None, None), route(Policy::All));
    outbox.accept(meta(2, None, None), route(Policy::Quorum(2)));
    for id in [E[0], E[1]] {
        assert_eq!(poll(&mut outbox, NOW, id), [1, 2]);
        outbox.handle_ack(id, &seqs([1, 2]));
    }
    assert_eq!(actions(&mut outbox), [settle(2)]);
    outbox.handle_connected(E[2], &SeqSet::new());
    assert_eq!(poll(&mut outbox, NOW, E[2]), [1], "2 was withdrawn");
    outbox.handle_endpoint_removed(E[2]);
    assert_eq!(actions(&mut outbox), [settle(1)]);
}

#[test]
fn what_a_peer_has_already_counts_as_acknowledged() {
    let mut outbox = outbox(1);
    for seq in 1..=5 {
        outbox.accept(meta(seq, None, None), route(Policy::All));
    }
    assert_eq!(poll(&mut outbox, NOW, E[0]).len(), 5);
    outbox.handle_disconnected(E[0]);
    outbox.handle_ack(E[0], &seqs(1..=5));
    assert_eq!(actions(&mut outbox), [], "an acknowledgement of a stream that is over");
    outbox.handle_connected(E[0], &seqs([2, 4]));
    assert_eq!(actions(&mut outbox), [settle(2), settle(4)]);
    assert_eq!(poll(&mut outbox, NOW, E[0]), [1, 3, 5]);
}

#[test]
fn deadlines() {
    let later = UnixMillis(NOW.0 + 1000);
    let mut outbox = outbox(1);
    for seq in 1..=3 {
        outbox.accept(meta(seq, None, Some(later)), route(Policy::All));
    }
    let one = Budget { messages: 1, ..BUDGET };
    assert_eq!(outbox.poll_batch(NOW, E[0], one, 128, 1 << 16), [Seq(1)]);
    assert_eq!(outbox.poll_timeout(), Some(later));
    assert!(poll(&mut outbox, later, E[0]).is_empty());
    outbox.handle_timeout(later);
    let causes: BTreeMap<u64, Cause> = actions(&mut outbox)
        .into_iter()
        .map(|action| match action {
            Action::Dead { seq, cause, .. } => (seq.0, cause),
            other @ (Action::Settle { .. }
            | Action::Lost { .. }
            | Action::Ready(_)
            | Action::Load { .. }
            | Action::Remember { .. }) => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(causes[&1], Cause::TimedOut { may_have_been_seen: true });
    assert_eq!((&causes[&2], &causes[&3]), (&Cause::Expired, &Cause::Expired));
    assert_eq!(outbox.poll_timeout(), None);
}

#[test]
fn an_answer_is_awaited_beyond_acknowledgements() {
    let mut outbox = outbox(2);
    let awaiting = Route { policy: Policy::All, awaits_answer: true };
    let deadline = UnixMillis(NOW.0 + 9);
    for seq in 1..=2 {
        outbox.accept(meta(seq, None, Some(deadline)), awaiting);
    }
    for id in [E[0], E[1]] {
        poll(&mut outbox, NOW, id);
        outbox.handle_ack(id, &seqs([1, 2]));
    }
    assert_eq!(actions(&mut outbox), []);
    outbox.handle_concluded(Seq(1));
    outbox.handle_concluded(Seq(1));
    assert_eq!(actions(&mut outbox), [settle(1)]);
    outbox.handle_timeout(deadline);
    assert!(matches!(
        actions(&mut outbox)[..],
        [Action::Dead { seq: Seq(2), cause: Cause::TimedOut { .. }, .. }]
    ));
}

#[test]
fn conclusion_withdraws_what_was_not_sent() {
    let mut outbox = outbox(2);
    outbox.accept(meta(1, None, None), Route { policy: Policy::All, awaits_answer: true });
    assert_eq!(poll(&mut outbox, NOW, E[0]), [1]);
    outbox.handle_concluded(Seq(1));
    assert_eq!(actions(&mut outbox), [settle(1)]);
    assert!(poll(&mut outbox, NOW, E[1]).is_empty());
    assert_eq!((outbox.in_flight(E[0]), outbox.queued(E[1])), (0, 0));
}

#[test]
fn twenty_refusals_are_one_too_many_and_losses_do_not_count() {
    let mut outbox = outbox(1);
    outbox.accept(meta(1, None, None), route(Policy::Any));
    let mut now = NOW;
    for n in 1..=20 {
        for _ in 0..3 {
            assert_eq!(poll(&mut outbox, now, E[0]), [1]);
            outbox.handle_connected(E[0], &SeqSet::new());
        }
        assert_eq!(poll(&mut outbox, now, E[0]), [1]);
        outbox.handle_nack(now, E[0], Seq(1), Refusal::InProgress, 0, "");
        outbox.handle_nack(now, E[0], Seq(1), Refusal::Retry { after: None }, 5, "busy");
        assert!(poll(&mut outbox, now, E[0]).is_empty());
        if n < 20 {
            assert_eq!(actions(&mut outbox), [], "{n}");
            now = outbox.poll_timeout().unwrap();
            outbox.handle_timeout(now);
        }
    }
    let [Action::Dead { cause, attempts, .. }] = &actions(&mut outbox)[..] else { panic!() };
    assert_eq!(*cause, Cause::Refused { code: 5, text: "busy".into() });
    assert_eq!(attempts.len(), 20);
}

#[test]
fn a_terminal_refusal_kills_at_once_under_any_and_at_last_under_all() {
    let mut outbox = outbox(2);
    outbox.accept(meta(1, None, None), route(Policy::Any));
    outbox.accept(meta(2, None, None), route(Policy::All));
    poll(&mut outbox, NOW, E[0]);
    poll(&mut outbox, NOW, E[1]);
    outbox.handle_nack(NOW, E[0], Seq(1), Refusal::Terminal, 3, "no");
    assert!(matches!(actions(&mut outbox)[..], [Action::Dead { seq: Seq(1), .. }]));
    outbox.handle_nack(NOW, E[0], Seq(2), Refusal::Terminal, 3, "no");
    assert_eq!(actions(&mut outbox), [], "the other one still gets it");
    outbox.handle_ack(E[1], &seqs([2]));
    assert!(matches!(actions(&mut outbox)[..], [Action::Dead { seq: Seq(2), .. }]));
}

#[test]
fn a_retry_holds_back_its_key_and_no_other() {
    let mut outbox = outbox(2);
    outbox.accept(meta(1, Some(7), None), route(Policy::Any));
    assert_eq!(poll(&mut outbox, NOW, E[0]), [1]);
    let after = Some(Duration::from_secs(1));
    outbox.handle_nack(NOW, E[0], Seq(1), Refusal::Retry { after }, 1, "");
    for (seq, key) in [(2, 7), (3, 8), (4, 7)] {
        outbox.accept(meta(seq, Some(key), None), route(Policy::Any));
    }
    assert_eq!(poll(&mut outbox, NOW, E[0]), [0_u64; 0], "2 and 4 are pinned here, and wait");
    assert_eq!(poll(&mut outbox, NOW, E[1]), [3]);
    let due = outbox.poll_timeout().unwrap();
    assert!(due.0 >= NOW.0 + 1000);
    outbox.handle_timeout(due);
    assert_eq!(poll(&mut outbox, due, E[0]), [1, 2, 4]);
    outbox.handle_nack(due, E[0], Seq(1), Refusal::Retry { after }, 1, "");
    outbox.handle_disconnected(E[0]);
    assert_eq!(poll(&mut outbox, due, E[1]), [1, 2, 4], "chosen again, together");
}

#[test]
fn a_refused_message_without_a_key_is_offered_to_another() {
    let mut outbox = outbox(2);
    outbox.accept(meta(1, None, None), route(Policy::Any));
    poll(&mut outbox, NOW, E[0]);
    outbox.handle_nack(NOW, E[0], Seq(1), Refusal::Retry { after: None }, 1, "");
    let due = outbox.poll_timeout().unwrap();
    outbox.handle_timeout(due);
    assert_eq!(poll(&mut outbox, due, E[1]), [1]);
}

#[test]
fn a_retry_does_not_wait_for_a_clock_that_was_set_back() {
    const BACK: Duration = Duration::from_secs(3600);
    let mut outbox = outbox(1);
    outbox.accept(meta(1, None, None), route(Policy::Any));
    let late = NOW.saturating_add(BACK * 2);
    assert_eq!(poll(&mut outbox, late, E[0]), [1]);
    outbox.handle_nack(late, E[0], Seq(1), Refusal::Retry { after: None }, 1, "");
    let wait = outbox.poll_timeout().unwrap().saturating_since(late);
    let early = late.saturating_sub(BACK);
    outbox.handle_timeout(early);
    let due = early.saturating_add(wait);
    assert_eq!(outbox.poll_timeout(), Some(due), "M40");
    outbox.handle_timeout(due);
    assert_eq!(poll(&mut outbox, due, E[0]), [1]);
    // Its connection is lost as well: what is known is when it was refused.
    outbox.handle_nack(due, E[0], Seq(1), Refusal::Retry { after: Some(BACK) }, 1, "");
    outbox.handle_disconnected(E[0]);
    outbox.handle_timeout(due.saturating_sub(BACK));
    outbox.handle_connected(E[0], &SeqSet::new());
    assert_eq!(poll(&mut outbox, due.saturating_sub(BACK), E[0]), [1], "M40");
}

#[test]
fn batches_end_at_their_bounds_and_credits_are_kept() {
    let mut outbox = outbox(1);
    for seq in 1..=300 {
        outbox.accept(meta(seq, None, None), route(Policy::All));
    }
    assert_eq!(poll(&mut outbox, NOW, E[0]).len(), 128);
    let batch = outbox.poll_batch(NOW, E[0], BUDGET, 128, 350);
    assert_eq!(batch.len(), 4, "ends with the record that reaches the bound");
    let batch = outbox.poll_batch(NOW, E[0], Budget::new(2, 1 << 20), 128, 1 << 16);
    assert_eq!(batch.len(), 2);
    let batch = outbox.poll_batch(NOW, E[0], Budget::new(9, 350), 128, 1 << 16);
    assert_eq!(batch.len(), 3);
    assert_eq!(outbox.in_flight(E[0]), 137);
    assert_eq!(outbox.queued(E[0]), 163);
}

#[test]
fn ready_is_said_once_until_polled() {
    let mut outbox = outbox(1);
    for seq in 1..=3 {
        outbox.accept(meta(seq, None, None), route(Policy::All));
    }
    assert_eq!(outbox.poll_action(), Some(Action::Ready(E[0])));
    assert_eq!(outbox.poll_action(), None);
    poll(&mut outbox, NOW, E[0]);
    outbox.accept(meta(4, None, None), route(Policy::Any));
    assert_eq!(outbox.poll_action(), Some(Action::Ready(E[0])));
}
