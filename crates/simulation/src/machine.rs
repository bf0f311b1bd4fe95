//! A machine: its disk, its clock, its place in the network, and how they start and go down.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use alys_stream_testkit::disk::{Crash, Disk, Harm};

use crate::clock::SkewedClock;
use crate::disk::{DiskPace, SimStorage};
use crate::fault::Kind;
use crate::net::{Machine, Net, Port};
use crate::planted::Planted;
use crate::strikes::Place;

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
    pub(crate) place: Place,
    net: Net,
    seed: u64,
    planted: Option<Planted>,
}

impl Hardware {
    pub(crate) fn new(machine: Machine, net: &Net, seed: u64, planted: Option<Planted>) -> Self {
        let seed = seed.wrapping_mul(31).wrapping_add(u64::from(machine.0));
        let place = net.strikes().at(machine);
        let mut hardware = Self {
            machine,
            disk: Disk::new(seed),
            pace: Arc::new(DiskPace::new(seed.rotate_left(7), place.clone())),
            clock: Arc::new(SkewedClock::new(place.clone())),
            life: 0,
            misused: Arc::default(),
            place,
            net: net.clone(),
            seed,
            planted,
        };
        hardware.set_disk(hardware.disk.clone());
        hardware
    }

    /// Another disk is in the machine from now on.
    pub(crate) fn set_disk(&mut self, disk: Disk) {
        let place = self.place.clone();
        disk.set_witness(Some(Arc::new(move |harm| {
            place.strike(match harm {
                Harm::SyncFailed => Kind::FailSync,
                Harm::DirSyncFailed => Kind::FailDirSync,
                Harm::NoRoom => Kind::FullDisk,
                Harm::Torn => Kind::TornWrite,
            });
        })));
        self.disk = disk;
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
