//! The wall clock of one machine: the time of the simulation, and how far this machine is off it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use alys_stream_protocol::time::{UnixMillis, WallClock};
use tokio::time::Instant;

use crate::fault::Kind;
use crate::strikes::Place;

/// The wall time at which every simulation starts.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;

/// A clock that may be wrong, and that may jump.
#[derive(Debug)]
pub(crate) struct SkewedClock {
    begun: Instant,
    offset_ms: AtomicI64,
    place: Place,
}

impl SkewedClock {
    pub(crate) fn new(place: Place) -> Self {
        Self { begun: Instant::now(), offset_ms: AtomicI64::new(0), place }
    }

    pub(crate) fn set_offset(&self, offset_ms: i64) {
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
    }
}

impl WallClock for SkewedClock {
    fn now(&self) -> UnixMillis {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(0);
        let right = EPOCH_MS.saturating_add(elapsed);
        let offset_ms = self.offset_ms.load(Ordering::Relaxed);
        if offset_ms != 0 {
            self.place.strike(Kind::Skew);
        }
        UnixMillis(right.saturating_add_signed(offset_ms))
    }
}

/// The bug `DeliverExpired`: a clock that stands an hour back.
#[derive(Debug)]
pub(crate) struct Behind(pub(crate) Arc<dyn WallClock>);

impl WallClock for Behind {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.now().0.saturating_sub(60 * 60 * 1000))
    }
}
