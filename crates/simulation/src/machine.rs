//! A machine: its disk, its clock, its place in the network, and how they start and go down.

use std::sync::Arc;

use alys_stream_testkit::disk::{Crash, Disk, Harm};

use crate::clock::SkewedClock;
use crate::disk::{DiskPace, Files, SimStorage, Witness};
use crate::fault::Kind;
use crate::journal::Journal;
use crate::logs::Logs;
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
    /// What the files on the disk are known to hold.
    pub(crate) files: Files,
    pub(crate) place: Place,
    surroundings: Surroundings,
    seed: u64,
}

/// What all machines of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) net: Net,
    pub(crate) journal: Journal,
    /// The logs of sessions.
    pub(crate) logs: Arc<Logs>,
    pub(crate) seed: u64,
    pub(crate) planted: Option<Planted>,
}

impl Hardware {
    pub(crate) fn new(machine: Machine, surroundings: &Surroundings) -> Self {
        let seed = surroundings.seed.wrapping_mul(31).wrapping_add(u64::from(machine.0));
        let place = surroundings.net.strikes().at(machine);
        let mut hardware = Self {
            machine,
            disk: Disk::new(seed),
            pace: Arc::new(DiskPace::new(seed.rotate_left(7), place.clone())),
            clock: Arc::new(SkewedClock::new(place.clone())),
            life: 0,
            files: Files::default(),
            place,
            surroundings: surroundings.clone(),
            seed,
        };
        hardware.set_disk(hardware.disk.clone(), Files::default());
        hardware
    }

    /// Another disk is in the machine from now on, of which so much is known.
    pub(crate) fn set_disk(&mut self, disk: Disk, files: Files) {
        let place = self.place.clone();
        disk.set_witness(Some(Arc::new(move |harm| {
            place.strike(match harm {
                Harm::SyncFailed => Kind::FailSync,
                Harm::DirSyncFailed => Kind::FailDirSync,
                Harm::NoRoom => Kind::FullDisk,
                Harm::Torn => Kind::TornWrite,
            });
        })));
        (self.disk, self.files) = (disk, files);
    }

    /// The next life begins: its disk and its network.
    pub(crate) fn boot(&mut self) -> (Arc<SimStorage>, Port) {
        self.life += 1;
        let Surroundings { net, journal, logs, planted, .. } = &self.surroundings;
        let witness = Witness {
            who: self.machine,
            journal: journal.clone(),
            logs: Arc::clone(logs),
            files: self.files.clone(),
        };
        witness.survey(&self.disk);
        let (pace, seed) = (Arc::clone(&self.pace), self.seed.rotate_left(23));
        let storage = SimStorage::new(&self.disk, witness, pace, (seed, self.life), *planted);
        (storage, net.boot(self.machine))
    }

    /// The process is killed, or the power fails.
    pub(crate) fn crash(&self, crash: Crash) {
        self.surroundings.net.crash(self.machine, crash != Crash::Kill);
        self.disk.crash(crash);
        self.files.crash(crash);
    }
}
