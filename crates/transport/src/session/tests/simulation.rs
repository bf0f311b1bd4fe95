//! Both machines over a link in virtual time that delays, stalls one way or both, and breaks in
//! storms; one seed decides everything. No message is lost, none is applied twice, each key keeps its
//! order, no credit leaks.

use super::*;
use crate::session::rotation::StreamAge;
use crate::session::squeeze::{Inflate, Squeeze};

mod cycles;

const LIMITS: Limits =
    Limits { credits: Credits { messages: 24, bytes: 1024 * 1024 }, message_bytes_max: 400_000 };

/// Messages that each side accepts.
const MESSAGES: u64 = 400;

/// Steps in which the link does its worst.
const TROUBLE: u32 = 6000;

/// A frame on its way: when it arrives, and what of the credit it carries.
struct Flying {
    due: Instant,
    frame: Frame,
    cost: Credits,
    grant: Credits,
}

/// One direction of a stream: it keeps its order, whatever it delays.
#[derive(Default)]
struct Pipe {
    flying: VecDeque<Flying>,
    stalled_until: Option<Instant>,
}

struct World {
    seed: u64,
    rng: fastrand::Rng,
    now: Instant,
    sides: [Side; 2],
    sessions: Option<[Session; 2]>,
    pipes: [Pipe; 2],
    squeeze: [Squeeze; 2],
    inflate: [Inflate; 2],
    delay_max: Duration,
    reconnect_at: Instant,
    /// Streams become so old, and up to twice as old.
    age: Duration,
    /// The link breaks all the time until then.
    storm_until: Instant,
    breaks: u32,
    rotations: u32,
    deaths: u32,
    parts: u32,
    compressed: u32,
}

fn cost(frame: &Frame) -> Credits {
    match &frame.kind {
        Some(frame::Kind::Data(data)) => Credits {
            messages: u32::try_from(data.records.len()).unwrap(),
            bytes: data.records.iter().map(|r| u64::try_from(r.payload.len()).unwrap()).sum(),
        },
        Some(frame::Kind::Chunk(chunk)) if chunk.record.is_some() => {
            Credits { messages: 1, bytes: u64::from(chunk.payload_bytes) }
        }
        _ => Credits::default(),
    }
}

fn grant(frame: &Frame) -> Credits {
    match &frame.kind {
        Some(frame::Kind::Credit(credit)) => {
            Credits { messages: credit.messages, bytes: credit.bytes }
        }
        _ => Credits::default(),
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let now = start();
        Self {
            seed,
            rng: fastrand::Rng::with_seed(seed),
            now,
            sides: [Side::new(1, 2), Side::new(2, 1)],
            sessions: None,
            pipes: Default::default(),
            squeeze: Default::default(),
            inflate: Default::default(),
            delay_max: Duration::from_millis(20),
            reconnect_at: now,
            age: Duration::from_secs(2),
            storm_until: now,
            breaks: 0,
            rotations: 0,
            deaths: 0,
            parts: 0,
            compressed: 0,
        }
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }

    /// Something happens to the link.
    fn trouble(&mut self) {
        match self.rng.u32(0..400) {
            0..3 => {
                // A partition, often longer than heartbeats and acknowledgements may take.
                let until = self.now + self.millis(0..90_000);
                for pipe in &mut self.pipes {
                    pipe.stalled_until = Some(until);
                }
            }
            3..6 => {
                let until = self.now + self.millis(0..120_000);
                let one_way = self.rng.usize(0..2);
                self.pipes[one_way].stalled_until = Some(until);
            }
            6..10 => self.delay_max = self.millis(1..3000),
            10..14 => self.delay_max = Duration::from_millis(5),
            14..17 => self.cut(),
            17 => self.storm_until = self.now + self.millis(0..500),
            _ => {}
        }
        if self.now < self.storm_until && self.rng.u32(0..4) == 0 {
            self.cut();
        }
    }

    /// The stream is gone, with everything on it and everything not on a disk.
    fn cut(&mut self) {
        if self.sessions.take().is_none() {
            return;
        }
        self.breaks += 1;
        for side in &mut self.sides {
            side.storing.clear();
            side.settling.clear();
        }
        for pipe in &mut self.pipes {
            pipe.flying.clear();
            pipe.stalled_until = None;
        }
        let storm = self.now < self.storm_until;
        self.reconnect_at = self.now + self.millis(if storm { 0..3 } else { 0..2000 });
    }

    fn connect(&mut self) {
        if self.sessions.is_some() || self.now < self.reconnect_at {
            return;
        }
        let age_ms = u64::try_from(self.age.as_millis()).unwrap();
        let max = self.age + self.millis(0..age_ms);
        let drain = Duration::from_secs(30);
        let compression = Compression::Always;
        let node = SessionConfig {
            age: Some(StreamAge { max, drain }),
            compression,
            ..Default::default()
        };
        let peer = SessionConfig { compression, ..SessionConfig::default() };
        let link = connect_with(self.now, &mut self.sides, LIMITS, Features::ALL, [node, peer]);
        self.sessions = Some(link.sessions);
    }

    /// One side does one thing.
    fn act(&mut self, who: usize) {
        let Some(sessions) = &mut self.sessions else { return };
        let (session, side) = (&mut sessions[who], &mut self.sides[who]);
        if session.handle_timeout(self.now).is_err() {
            self.deaths += 1;
            return self.cut();
        }
        let view = side.view();
        let frame = match self.rng.u32(0..4) {
            0 => session.poll_frame(self.now, view),
            1 => side.poll_data(self.now, session),
            2 => session.poll_part(self.now, view),
            _ => return side.store(self.now, session),
        };
        let Some(mut frame) = frame else { return };
        let (cost, grant) = (cost(&frame), grant(&frame));
        if let Some(frame::Kind::Data(data)) = &mut frame.kind
            && self.squeeze[who].compress(data).is_some()
        {
            self.compressed += u32::from(!data.compressed.is_empty());
        }
        self.parts += u32::from(matches!(frame.kind, Some(frame::Kind::Chunk(_))));
        let delay = Duration::from_micros(
            self.rng.u64(0..=u64::try_from(self.delay_max.as_micros()).unwrap()),
        );
        let pipe = &mut self.pipes[who];
        let earliest = pipe.flying.back().map_or(self.now, |last| last.due);
        pipe.flying.push_back(Flying { due: earliest.max(self.now + delay), frame, cost, grant });
    }

    /// One frame arrives, when its time has come.
    fn deliver(&mut self, to: usize) {
        let Some(sessions) = &mut self.sessions else { return };
        let pipe = &mut self.pipes[1 - to];
        if pipe.stalled_until.is_some_and(|until| self.now < until)
            || pipe.flying.front().is_none_or(|flying| flying.due > self.now)
        {
            return;
        }
        let mut frame = pipe.flying.pop_front().unwrap().frame;
        let session = &mut sessions[to];
        self.inflate[to].inflate_frame(&mut frame, || session.inflated_bytes_max()).unwrap();
        if let Err(violation) = session.handle_frame(self.now, frame) {
            panic!("seed {}: {violation}", self.seed);
        }
        let side = &mut self.sides[to];
        // A polite close is part of the life of a stream here.
        let events: Vec<Event> = std::iter::from_fn(|| session.poll_event()).collect();
        for event in events {
            if !matches!(event, Event::Draining { .. }) {
                side.handle_event(event);
            }
        }
    }

    /// A stream that reached its age ends when both sides have nothing left to say.
    fn rotate(&mut self) {
        let Some([node, peer]) = &self.sessions else { return };
        let done = node.is_rotating() && node.is_finished(self.now) && peer.is_finished(self.now);
        if done && self.pipes.iter().all(|pipe| pipe.flying.is_empty()) {
            self.rotations += 1;
            self.cut();
        }
    }

    /// T6 and T7 over the whole link: whatever is where, the credit of a direction adds up.
    fn check_credit(&self) {
        let Some(sessions) = &self.sessions else { return };
        for from in 0..2 {
            let (sender, receiver) = (&sessions[from], &sessions[1 - from]);
            let sum = |pick: fn(&Flying) -> Credits, pipe: &Pipe| {
                let parts = pipe.flying.iter().map(pick);
                parts.fold(Credits::default(), Credits::saturating_add)
            };
            let sent = sum(|flying| flying.cost, &self.pipes[from]);
            let granted = sum(|flying| flying.grant, &self.pipes[1 - from]);
            let waiting = sender.slicing.waiting();
            let known =
                [sent, granted, waiting].into_iter().fold(sender.credit(), Credits::saturating_add);
            assert_eq!(known, receiver.receive.available(), "T7, seed {}", self.seed);
        }
    }

    fn step(&mut self, millis: u64) {
        let later = self.millis(0..millis);
        self.now += later;
        self.connect();
        for _ in 0..4 {
            let who = self.rng.usize(0..2);
            self.act(who);
            self.deliver(who);
        }
        self.rotate();
        self.check_credit();
    }

    fn run(&mut self) {
        for _ in 0..TROUBLE {
            let who = self.rng.usize(0..2);
            if self.sides[who].next_seq <= MESSAGES && self.rng.u32(0..4) == 0 {
                // Some are longer than a batch.
                let long = self.rng.u32(0..20) == 0;
                let bytes =
                    if long { self.rng.usize(70_000..400_000) } else { self.rng.usize(0..3000) };
                self.sides[who].accept(bytes);
            }
            self.trouble();
            // Time passes fast while nothing moves.
            let stalled =
                self.pipes.iter().any(|p| p.stalled_until.is_some_and(|at| self.now < at));
            self.step(if stalled { 800 } else { 8 });
        }
        for pipe in &mut self.pipes {
            pipe.stalled_until = None;
        }
        (self.delay_max, self.storm_until) = (Duration::from_millis(5), self.now);
        for _ in 0..400_000 {
            if self.sides.iter().all(|side| side.owed.is_empty()) {
                return;
            }
            self.step(8);
        }
        let owed: Vec<_> = self.sides.iter().map(|side| side.owed.len()).collect();
        panic!("seed {}: {owed:?} are never delivered", self.seed);
    }

    fn check(&self) {
        for who in 0..2 {
            let (owner, applied) = (&self.sides[who], &self.sides[1 - who].applied);
            let once: BTreeSet<u64> = applied.iter().copied().collect();
            assert_eq!(once.len(), applied.len(), "applied twice, seed {}", self.seed);
            let accepted: BTreeSet<u64> = (1..owner.next_seq).collect();
            assert_eq!(once, accepted, "lost, seed {}", self.seed);
            for key in 0..3 {
                let of_key = applied.iter().filter(|seq| *seq % 3 == key);
                assert!(of_key.is_sorted(), "D4, seed {}", self.seed);
            }
        }
    }
}

#[test]
fn whatever_the_link_does_each_message_is_applied_once_and_no_credit_leaks() {
    let (mut breaks, mut rotations, mut deaths, mut parts, mut compressed) = (0, 0, 0, 0, 0);
    for seed in 1..=30 {
        let mut world = World::new(seed);
        world.run();
        world.check();
        breaks += world.breaks;
        rotations += world.rotations;
        deaths += world.deaths;
        parts += world.parts;
        compressed += world.compressed;
    }
    // The trouble was real: every way that a stream can end was met.
    assert!(breaks > 300 && rotations > 30 && deaths > 30, "{breaks} {rotations} {deaths}");
    assert!(parts > 1000 && compressed > 1000, "{parts} {compressed}");
}
