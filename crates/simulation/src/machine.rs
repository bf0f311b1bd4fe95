//! A machine: its disk, its clock, its place in the network, and how they start and go down.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use alys_stream_testkit::disk::{Crash, Disk};

use crate::clock::SkewedClock;
use crate::disk::{DiskPace, SimStorage};
use crate::net::{Machine, Net, Port};
use crate::planted::Planted;

/// What is under a process of the product.
#[derive(Debug)]
pub(crate) struct Hardware {
    pub(crate) machine: Machine,
    pub(crate) disk: Disk,
    pub(crate) pace: Arc<DiskPace>,
    pub(crate) clock: Arc<SkewedClock>,
    /// How often it was started.
    pub(crate) life: u64,
    /// Uses of files after a failed sync, in the lives before (D11).
    pub(crate) misused: Arc<AtomicU64>,
    net: Net,
    seed: u64,
    planted: Option<Planted>,
}

impl Hardware {
    pub(crate) fn new(machine: Machine, net: &Net, seed: u64, planted: Option<Planted>) -> Self {
        let seed = seed.wrapping_mul(31).wrapping_add(u64::from(machine.0));
        Self {
            machine,
            disk: Disk::new(seed),
            pace: Arc::new(DiskPace::new(seed.rotate_left(7))),
            clock: Arc::new(SkewedClock::new()),
            life: 0,
            misused: Arc::default(),
            net: net.clone(),
            seed,
            planted,
        }
    }

    /// The next life begins: its disk and its network.
    pub(crate) fn boot(&mut self) -> (Arc<SimStorage>, Port) {
        self.life += 1;
        let is_node = self.machine.identity().is_some();
        let (pace, seed) = (Arc::clone(&self.pace), self.seed.rotate_left(23));
        let storage = SimStorage::new(
            &self.disk,
            pace,
            (seed, self.life),
            (is_node, self.planted),
            &self.misused,
        );
        (storage, self.net.boot(self.machine))
    }

    /// The process is killed, or the power fails.
    pub(crate) fn crash(&self, crash: Crash) {
        self.net.crash(self.machine, crash != Crash::Kill);
        self.disk.crash(crash);
    }
}
