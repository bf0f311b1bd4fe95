//! Two machines back to back, with a stream that breaks at any moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use alys_stream_protocol::message::{
    Epoch, Forgotten, LogId, Message, MessageId, MessageKind, Opening, OrderingKey, Priority,
    Settled,
};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{Record, RefuseCode};
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;
use proptest::prelude::*;

use super::credit::Credits;
use super::handshake::{
    Acceptance, Offer, accepted_terms, check_rollback, hello, read_hello, read_welcome, welcome,
};
use super::*;
use crate::exchange::{LocalLog, OutboundRecord, PeerLog, ReceiveCursor};

mod bounds;
mod chunks;
mod handshakes;
mod simulation;
mod timeouts;

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn start() -> Instant {
    Instant::now()
}

pub(super) fn message(seq: u64, bytes: usize) -> Message {
    Message {
        id: MessageId::new(u128::from(seq).to_be_bytes()),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: Bytes::from(vec![7; bytes]),
    }
}

fn record(seq: u64, bytes: usize) -> OutboundRecord {
    OutboundRecord { seq: Seq(seq), message: message(seq, bytes) }
}

/// A record of one of three keys.
fn keyed(seq: u64, bytes: usize) -> OutboundRecord {
    let key = Bytes::copy_from_slice(&(seq % 3).to_be_bytes());
    let ordering_key = Some(OrderingKey::try_new(key).unwrap());
    let message = Message { ordering_key, ..message(seq, bytes) };
    OutboundRecord { seq: Seq(seq), message }
}

/// A model of one side: what it owes, and what it has been given.
struct Side {
    log_id: LogId,
    peer_log: LogId,
    /// How often it was started.
    epoch: u64,
    /// Accepted and not settled, with sizes.
    owed: BTreeMap<u64, usize>,
    next_seq: u64,
    /// Owed and not sent in this session.
    queue: VecDeque<u64>,
    received: SeqSet,
    highest_seen: u64,
    /// Every record handed to the application, in order.
    applied: Vec<u64>,
    /// Received and not yet stored.
    storing: VecDeque<(Seq, u64)>,
    acks_durable: u64,
    /// Settled by acks whose settlement is not on disk yet.
    settling: VecDeque<(u64, SeqSet)>,
}

impl Side {
    fn new(name: u8, peer: u8) -> Self {
        Self {
            log_id: LogId::new([name; 16]),
            peer_log: LogId::new([peer; 16]),
            epoch: 1,
            owed: BTreeMap::new(),
            next_seq: 1,
            queue: VecDeque::new(),
            received: SeqSet::new(),
            highest_seen: 0,
            applied: Vec::new(),
            storing: VecDeque::new(),
            acks_durable: 0,
            settling: VecDeque::new(),
        }
    }

    fn accept(&mut self, bytes: usize) {
        self.owed.insert(self.next_seq, bytes);
        self.queue.push_back(self.next_seq);
        self.next_seq += 1;
    }

    fn settled_below(&self) -> Seq {
        Seq(self.owed.keys().next().copied().unwrap_or(self.next_seq))
    }

    fn local(&self) -> LocalLog {
        LocalLog {
            log_id: self.log_id,
            opening: Epoch(self.epoch).into(),
            next_seq: Seq(self.next_seq),
            settled: Settled::known_below(self.settled_below()),
        }
    }

    fn cursor(&self) -> ReceiveCursor {
        let log_id = self.peer_log;
        ReceiveCursor {
            log_id,
            received: self.received.clone(),
            highest_seen: Seq(self.highest_seen),
            seen: Opening::NONE,
            forgotten: Forgotten::NONE,
        }
    }

    fn view(&self) -> LocalView {
        let acks_durable = self.acks_durable;
        LocalView {
            settled: Settled::known_below(self.settled_below()),
            acks_durable,
            wall: UnixMillis(1),
        }
    }

    fn settle(&mut self, ranges: &SeqSet) {
        for seq in ranges.iter() {
            self.owed.remove(&seq.0);
        }
    }

    /// Handshake rule 1.
    fn established(&mut self, peer: &PeerLog) {
        check_rollback(self.local(), peer).unwrap();
        self.settle(&peer.received);
        self.queue = self.owed.keys().copied().collect();
        self.acks_durable = 0;
        self.settling.clear();
        self.forget(peer.settled_below, &SeqSet::new());
    }

    fn forget(&mut self, below: Seq, covered: &SeqSet) {
        self.received.remove_below(below);
        for range in covered.ranges() {
            self.received.remove_range(range);
        }
    }

    fn poll_data(&mut self, now: Instant, session: &mut Session) -> Option<Frame> {
        let view = self.view();
        let budget = session.poll_budget()?;
        let (mut bytes, mut batch) = (0, Vec::new());
        while let Some(&seq) = self.queue.front() {
            let size = self.owed[&seq];
            bytes += u64::try_from(size).unwrap();
            if batch.len() >= 3
                || bytes > budget.bytes
                || batch.len() >= usize::try_from(budget.messages).unwrap()
            {
                break;
            }
            batch.push(keyed(seq, size));
            self.queue.pop_front();
        }
        session.handle_send(now, view, &batch).unwrap()
    }

    fn handle_events(&mut self, session: &mut Session) {
        while let Some(event) = session.poll_event() {
            self.handle_event(event);
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Received(records) => {
                for record in records {
                    let bytes = u64::try_from(record.message.payload.len()).unwrap();
                    self.storing.push_back((record.seq, bytes));
                }
            }
            Event::Acked { ack_id, ranges } => self.settling.push_back((ack_id, ranges)),
            Event::PeerSettled { settled, covered } => {
                self.forget(settled.below, &covered);
            }
            Event::Alive { .. } | Event::Quality(_) | Event::Load(_) => {}
            other @ (Event::Nacked(_)
            | Event::Suspended { .. }
            | Event::Resumed { .. }
            | Event::Draining { .. }
            | Event::Gap { .. }
            | Event::AuthRefreshed(_)
            | Event::RenewDue
            | Event::CredentialExpired
            | Event::Refused(_)) => panic!("{other:?}"),
        }
    }

    /// The disk makes progress.
    fn store(&mut self, now: Instant, session: &mut Session) {
        for (seq, bytes) in std::mem::take(&mut self.storing) {
            self.highest_seen = self.highest_seen.max(seq.0);
            if self.received.insert(seq) {
                self.applied.push(seq.0);
            }
            session.handle_stored(now, seq, bytes);
        }
        for (ack_id, ranges) in std::mem::take(&mut self.settling) {
            self.settle(&ranges);
            self.acks_durable = ack_id;
        }
    }
}

struct Link {
    sessions: [Session; 2],
    wires: [VecDeque<Frame>; 2],
}

fn small() -> Limits {
    Limits { credits: Credits { messages: 5, bytes: 400 }, message_bytes_max: 300 }
}

fn connect(now: Instant, sides: &mut [Side; 2]) -> Link {
    let config = SessionConfig::default();
    connect_with(now, sides, small(), Features::default(), [config, config])
}

fn connect_with(
    now: Instant,
    sides: &mut [Side; 2],
    limits: Limits,
    able: Features,
    configs: [SessionConfig; 2],
) -> Link {
    let offer = Offer {
        node_id: "node".into(),
        local: sides[0].local(),
        cursors: vec![sides[0].cursor()],
        features: able.names(),
        software: "test".into(),
        auth: None,
        limits,
    };
    let peer_hello = read_hello(hello(&offer)).unwrap();
    let acceptance = Acceptance {
        session_id: "s".into(),
        peer_id: "gov".into(),
        local: sides[1].local(),
        cursor: sides[1].cursor(),
        limits,
        heartbeat_interval: Duration::from_secs(15),
        features: features::chosen(&peer_hello.features, able),
        server_time: UnixMillis(1),
        software: "test".into(),
    };
    let node = peer_hello.peer_log(sides[1].log_id);
    let accepted = accepted_terms(&peer_hello, &acceptance);
    let (peer, terms) = read_welcome(welcome(&acceptance), &offer).unwrap();
    sides[0].established(&peer);
    sides[1].established(&node);
    Link {
        sessions: [Session::new(now, terms, configs[0]), Session::new(now, accepted, configs[1])],
        wires: [VecDeque::new(), VecDeque::new()],
    }
}

impl Link {
    fn step(&mut self, now: Instant, sides: &mut [Side; 2], who: usize, what: u8) {
        let (session, side) = (&mut self.sessions[who], &mut sides[who]);
        match what {
            0 => {
                session.handle_timeout(now).unwrap();
                if let Some(frame) = session.poll_frame(now, side.view()) {
                    self.wires[who].push_back(frame);
                }
            }
            1 => {
                if let Some(frame) = side.poll_data(now, session) {
                    self.wires[who].push_back(frame);
                }
            }
            2 => {
                if let Some(frame) = self.wires[1 - who].pop_front() {
                    session.handle_frame(now, frame).unwrap();
                    side.handle_events(session);
                }
            }
            _ => side.store(now, session),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// D3 on the wire: whatever is lost with the stream, each record is applied exactly once.
    #[test]
    fn every_record_is_applied_exactly_once(
        steps in prop::collection::vec((0..2usize, 0..14u8, 1..300usize, 0..8u64), 1..600)
    ) {
        let mut now = start();
        let mut sides = [Side::new(1, 2), Side::new(2, 1)];
        let mut link = connect(now, &mut sides);
        for (who, what, bytes, millis) in steps {
            now += Duration::from_millis(millis);
            match what {
                12 => sides[who].accept(bytes),
                13 if bytes < 40 => {
                    // The stream is gone, with everything on it and everything not stored.
                    for side in &mut sides { side.storing.clear(); side.settling.clear(); }
                    link = connect(now, &mut sides);
                }
                what => link.step(now, &mut sides, who, what % 4),
            }
        }
        // Nothing breaks any more: all is delivered.
        for _ in 0..4000 {
            now += Duration::from_millis(5);
            for who in 0..2 {
                for what in 0..4 { link.step(now, &mut sides, who, what); }
            }
            if sides.iter().all(|side| side.owed.is_empty()) { break; }
        }
        for who in 0..2 {
            prop_assert!(sides[who].owed.is_empty(), "not delivered: {:?}", sides[who].owed);
            let applied: BTreeSet<u64> = sides[1 - who].applied.iter().copied().collect();
            prop_assert_eq!(applied.len(), sides[1 - who].applied.len(), "applied twice");
            prop_assert_eq!(applied.len(), usize::try_from(sides[who].next_seq - 1).unwrap());
        }
        // T10: once echoed, nothing is remembered.
        for _ in 0..100 {
            now += Duration::from_secs(1);
            for who in 0..2 {
                for what in [0, 0, 0, 2, 2, 2, 3] { link.step(now, &mut sides, who, what); }
            }
        }
        for side in &sides { prop_assert!(side.received.is_empty(), "{:?}", side.received); }
    }
}

/// A session of our own, and frames that a peer may send to it.
fn session(now: Instant) -> Session {
    let mut sides = [Side::new(1, 2), Side::new(2, 1)];
    let link = connect(now, &mut sides);
    let [session, _] = link.sessions;
    session
}

fn violation(frames: Vec<frame::Kind>) -> String {
    let now = start();
    let mut session = session(now);
    let sent = [record(1, 10), record(2, 10)];
    let view = LocalView { settled: Settled::NONE, acks_durable: 0, wall: UnixMillis(1) };
    session.handle_send(now, view, &sent).unwrap().unwrap();
    for kind in frames {
        if let Err(violation) = session.handle_frame(now, kind.into()) {
            return violation.to_string();
        }
    }
    "none".to_owned()
}

fn data(records: Vec<Record>) -> session::Data {
    session::Data { settled_below: 1, records, ..session::Data::default() }
}

/// What a peer must not send, one case after another.
fn offences() -> Vec<Vec<frame::Kind>> {
    use frame::Kind;
    let wire = |seq: u64, bytes: usize| Record::from_message(Seq(seq), &message(seq, bytes));
    let range = |first, last| vec![session::SeqRange { first, last }];
    let ack = |ack_id, first, last| Kind::Ack(session::Ack { ack_id, ranges: range(first, last) });
    vec![
        vec![Kind::Hello(session::Hello::default())],
        vec![Kind::Data(data(vec![wire(1, 301)]))],
        vec![Kind::Data(data(vec![wire(1, 150), wire(2, 150), wire(3, 150)]))],
        vec![Kind::Data(data((1..=6).map(|seq| wire(seq, 1)).collect()))],
        vec![Kind::Data(data((1..=129).map(|seq| wire(seq, 0)).collect()))],
        vec![Kind::Nack(session::Nack { seq: 0, kind: 1, ..Default::default() })],
        vec![Kind::Data(session::Data { compressed: vec![1].into(), ..data(vec![]) })],
        vec![Kind::Data(session::Data { settled_below: 9, ..data(vec![wire(8, 1)]) })],
        vec![
            Kind::Heartbeat(session::Heartbeat { settled_below: 9, ..Default::default() }),
            Kind::Heartbeat(session::Heartbeat { settled_below: 8, ..Default::default() }),
        ],
        vec![Kind::Heartbeat(session::Heartbeat { acks_durable: 1, ..Default::default() })],
        vec![ack(1, 1, 3)],
        vec![ack(1, 2, 1)],
        vec![ack(2, 1, 1)],
        vec![Kind::Nack(session::Nack { seq: 1, ..Default::default() })],
        vec![Kind::Nack(session::Nack { seq: 7, kind: 1, ..Default::default() })],
        vec![Kind::AuthRefresh(session::AuthRefresh::default())],
        vec![ack(1, 1, 1), ack(2, 1, 2)],
    ]
}

#[test]
fn what_was_not_agreed_closes_the_session_with_its_reason() {
    let shown: Vec<String> = offences().into_iter().map(violation).collect();
    expect_test::expect![[r#"
        hello belongs to the handshake, which is over
        record 1 has 301 payload bytes, agreed are at most 300
        a batch of 3 messages and 450 bytes exceeds the credit granted
        a batch of 6 messages and 6 bytes exceeds the credit granted
        a batch of 129 records, allowed are 128
        nack.seq holds 0, which means nothing
        a compressed batch was not agreed in the handshake
        record 8 is below settled_below 9
        settled_below 8 after 9: it never goes back
        acks_durable 1 echoes an acknowledgement that was never sent (the last one is 0)
        ack of 3, which was never sent (the last one is 2)
        ack.ranges: 2..=1 is not a range of sequence numbers (they start at 1 and ascend)
        ack id 2 after 0: they ascend by one
        nack.kind holds 0, which means nothing
        nack of 7, which was never sent (the last one is 2)
        auth_refresh.auth holds 0, which means nothing
        none"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn suspend_and_drain_stop_data_but_not_acknowledgements() {
    let now = start();
    let mut session = session(now);
    let view = LocalView { settled: Settled::NONE, acks_durable: 0, wall: UnixMillis(1) };
    assert!(session.poll_budget().is_some());
    let suspend = session::Suspend { reason: "upgrade".into() };
    session.handle_frame(now, frame::Kind::Suspend(suspend).into()).unwrap();
    assert_eq!(session.poll_event(), Some(Event::Suspended { reason: "upgrade".into() }));
    assert_eq!(session.poll_budget(), None, "T14");
    session.handle_timeout(now).unwrap();
    let sent = session.poll_frame(now, view).and_then(|frame| frame.kind);
    assert!(matches!(sent, Some(frame::Kind::Heartbeat(_))), "T14");
    session.handle_frame(now, frame::Kind::Resume(session::Resume::default()).into()).unwrap();
    assert!(session.poll_budget().is_some());
    session.handle_send(now, view, &[record(1, 1)]).unwrap();
    let deadline = Duration::from_secs(9);
    while session.poll_event().is_some() {}
    session.handle_drain(now, deadline, "done".into());
    let draining = Event::Draining { deadline, reason: "done".into(), by_peer: false };
    assert_eq!(session.poll_event(), Some(draining), "nothing more is to be chosen for it");
    assert_eq!(session.poll_budget(), None, "T14");
    while session.poll_frame(now, view).is_some() {}
    assert!(!session.is_finished(now), "one record is in flight");
    assert!(session.is_finished(now + Duration::from_secs(9)));
    let ack = session::Ack { ack_id: 1, ranges: vec![session::SeqRange { first: 1, last: 1 }] };
    session.handle_frame(now, frame::Kind::Ack(ack).into()).unwrap();
    assert!(session.is_finished(now));
}

#[test]
fn a_volatile_record_takes_credit_and_nothing_else() {
    let now = start();
    let mut near = session(now);
    let mut far = session(now);
    let view =
        LocalView { settled: Settled::known_below(Seq(9)), acks_durable: 0, wall: UnixMillis(1) };
    let sent = near.handle_send(now, view, &[record(0, 100)]).unwrap().unwrap();
    assert_eq!(near.credit(), Credits { messages: 4, bytes: 300 });
    assert_eq!(near.in_flight(), 0, "T31");
    far.handle_frame(now, sent).unwrap();
    let received: Vec<Event> = std::iter::from_fn(|| far.poll_event())
        .filter(|event| matches!(event, Event::Received(_)))
        .collect();
    assert_eq!(received.len(), 1);
    far.handle_stored(now, Seq::VOLATILE, 100);
    let later = now + Duration::from_secs(1);
    let frames: Vec<_> = std::iter::from_fn(|| far.poll_frame(later, view)).collect();
    let acked = frames.iter().any(|frame| matches!(frame.kind, Some(frame::Kind::Ack(_))));
    assert!(!acked, "T31");
    assert_eq!(far.processing(), Credits::default(), "T7");
}

#[test]
fn a_record_too_large_for_the_peer_is_reported_instead_of_sent() {
    let now = start();
    let mut session = session(now);
    let view = LocalView { settled: Settled::NONE, acks_durable: 0, wall: UnixMillis(1) };
    assert_eq!(session.handle_send(now, view, &[record(1, 301)]).unwrap(), None);
    let Some(Event::Nacked(nack)) = session.poll_event() else { panic!("no nack") };
    assert_eq!((nack.seq, nack.kind), (Seq(1), NackKind::Terminal));
    assert_eq!(session.in_flight(), 0);
}
