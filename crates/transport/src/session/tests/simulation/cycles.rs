//! An endpoint that is killed and started again a thousand times under load: what is on a disk
//! survives, everything else is gone, at any moment of a session or of its handshake.

use super::*;

/// Decides everything.
const SEED: u64 = 0x00a1_1504;

/// Kills of the endpoint.
const CYCLES: u32 = 1000;

/// Messages that each side has accepted and not settled, while there is load.
const BACKLOG: usize = 40;

/// Most steps between two kills; with fewer than a dozen there is hardly a session.
const STEPS_MAX: u32 = 90;

/// Most that the endpoint is gone for.
const GONE_MS_MAX: u64 = 120;

/// Numbers that a receiver may have to remember: those that the other one still owes, those that
/// are settled and were not told so, one window each.
const REMEMBERED_MAX: u64 = BACKLOG as u64 + 2 * LIMITS.credits.messages as u64;

impl World {
    /// Both sides have so much to send that no session runs dry.
    fn load(&mut self) {
        for who in 0..2 {
            while self.sides[who].owed.len() < BACKLOG {
                let long = self.rng.u32(0..60) == 0;
                let bytes =
                    if long { self.rng.usize(70_000..400_000) } else { self.rng.usize(0..3000) };
                self.sides[who].accept(bytes);
            }
        }
    }

    /// The endpoint dies, wherever it was, and comes back with what its disk has.
    fn kill(&mut self) {
        self.cut();
        self.sides[1].epoch += 1;
        self.squeeze = Default::default();
        self.inflate = Default::default();
        self.reconnect_at = self.now + self.millis(0..GONE_MS_MAX);
        for who in 0..2 {
            let remembered = self.sides[who].received.count();
            assert!(remembered <= REMEMBERED_MAX, "seed {:#x}: {remembered}", self.seed);
        }
    }

    fn settle_all(&mut self) {
        for _ in 0..400_000 {
            if self.sides.iter().all(|side| side.owed.is_empty()) {
                return;
            }
            self.step(8);
        }
        let owed: Vec<_> = self.sides.iter().map(|side| side.owed.len()).collect();
        panic!("seed {:#x}: {owed:?} are never delivered", self.seed);
    }

    /// What both machines keep when nothing has been going on for a minute. Shown in full, every
    /// element of every collection has lines of its own.
    fn at_rest(&mut self) -> [usize; 2] {
        let until = self.now + Duration::from_secs(60);
        while self.now < until {
            self.step(100);
        }
        for side in &self.sides {
            assert!(side.received.is_empty(), "T10, seed {:#x}: {:?}", self.seed, side.received);
            let kept = side.owed.len() + side.queue.len() + side.storing.len();
            assert_eq!(kept + side.settling.len(), 0, "seed {:#x}", self.seed);
        }
        // The least of a while: now and then a heartbeat is on its way.
        let mut least = [usize::MAX; 2];
        for _ in 0..2000 {
            self.step(100);
            let sessions = self.sessions.as_ref().expect("the link is well");
            for (least, session) in least.iter_mut().zip(sessions) {
                *least = (*least).min(format!("{session:#?}").lines().count());
            }
        }
        least
    }
}

#[test]
fn a_thousand_kills_of_an_endpoint_lose_nothing_and_leave_nothing_behind() {
    println!("seed {SEED:#x}");
    let mut world = World::new(SEED);
    // The last stream is to live long enough to have carried something.
    world.age = Duration::from_secs(3600 * 24);
    let before = world.at_rest();
    let (mut in_session, mut most) = (0, 0);
    for _ in 0..CYCLES {
        for _ in 0..world.rng.u32(1..STEPS_MAX) {
            world.load();
            world.step(8);
        }
        in_session += u32::from(world.sessions.is_some());
        most = most.max(world.sides.iter().map(|side| side.received.count()).max().unwrap_or(0));
        world.kill();
    }
    assert_eq!(world.sides[1].epoch, u64::from(CYCLES) + 1);
    // The last one stays, under load too.
    for _ in 0..2000 {
        world.load();
        world.step(8);
    }
    world.settle_all();
    world.check();
    let after = world.at_rest();
    println!(
        "{in_session} of {CYCLES} kills in a session, {} and {} messages, {most} remembered at most \
         (bound {REMEMBERED_MAX}), lines at rest {before:?} before and {after:?} after",
        world.sides[0].next_seq - 1,
        world.sides[1].next_seq - 1,
    );
    assert_eq!(before, after, "seed {SEED:#x}: a machine has kept something");
    assert!(
        in_session > CYCLES / 2 && in_session < CYCLES,
        "kills in sessions and outside: {in_session}"
    );
}
