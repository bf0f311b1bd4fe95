//! Which of the faults that were planned really struck something: a link is held while nothing is said,
//! a disk that is full while nothing is written, and neither tests anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fault::Kind;
use crate::net::Machine;

/// A fault of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Blow {
    kind: Kind,
    number: u64,
}

/// How many faults of a kind there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Those that were planned.
    pub planned: u64,
    /// Those that struck something.
    pub struck: u64,
}

#[derive(Debug, Default)]
struct State {
    planned: u64,
    counts: BTreeMap<Kind, Count>,
    /// The last one of each kind at each machine.
    standing: BTreeMap<(Machine, Kind), Blow>,
    struck: BTreeSet<Blow>,
}

/// The faults of one run. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strikes(Arc<Mutex<State>>);

impl Strikes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault begins at a machine.
    pub(crate) fn plan(&self, machine: Machine, kind: Kind) -> Blow {
        let mut state = self.lock();
        state.planned += 1;
        let blow = Blow { kind, number: state.planned };
        state.counts.entry(kind).or_default().planned += 1;
        state.standing.insert((machine, kind), blow);
        blow
    }

    /// It struck something; that counts once.
    pub(crate) fn strike(&self, blow: Blow) {
        let mut state = self.lock();
        if state.struck.insert(blow) {
            state.counts.entry(blow.kind).or_default().struck += 1;
        }
    }

    /// The faults of one machine.
    pub(crate) fn at(&self, machine: Machine) -> Place {
        Place { strikes: self.clone(), machine }
    }

    /// How many there were of each kind.
    pub(crate) fn counts(&self) -> BTreeMap<Kind, Count> {
        self.lock().counts.clone()
    }
}

/// A machine, for those who notice that a fault of it strikes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    strikes: Strikes,
    machine: Machine,
}

impl Place {
    /// The fault of this kind that was the last one here struck something.
    pub(crate) fn strike(&self, kind: Kind) {
        let standing = self.strikes.lock().standing.get(&(self.machine, kind)).copied();
        if let Some(blow) = standing {
            self.strikes.strike(blow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_counts_once_and_only_when_it_strikes() {
        let strikes = Strikes::default();
        let (here, there) = (strikes.at(Machine(1)), strikes.at(Machine(2)));
        strikes.plan(Machine(1), Kind::Skew);
        there.strike(Kind::Skew);
        here.strike(Kind::Crash);
        assert_eq!(strikes.counts()[&Kind::Skew], Count { planned: 1, struck: 0 });
        here.strike(Kind::Skew);
        here.strike(Kind::Skew);
        strikes.plan(Machine(1), Kind::Skew);
        assert_eq!(strikes.counts()[&Kind::Skew], Count { planned: 2, struck: 1 });
        here.strike(Kind::Skew);
        assert_eq!(strikes.counts()[&Kind::Skew], Count { planned: 2, struck: 2 });
    }
}
