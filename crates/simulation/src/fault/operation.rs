//! What operators do to a node while it works.

use std::time::Duration;

use fastrand::Rng;

use super::Kind;
use crate::net::Machine;
use crate::plan;

/// One act of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Operation {
    /// The node is started again with other settings.
    Reconfigure {
        settings: Settings,
        down: Duration,
        /// For how long; `None` is for good.
        time: Option<Duration>,
    },
    Balance {
        policy: &'static str,
    },
    Drain {
        limit: Duration,
    },
    /// Dead letters are removed, or sent again.
    Letters {
        are_removed: bool,
    },
}

/// What an operator may change of a node with a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Settings {
    /// An endpoint that is not in use, and whether it is still in the file.
    pub(crate) off: Option<(Machine, bool)>,
    /// The windows of the outbox, if not those of the plan.
    pub(crate) window_max: Option<usize>,
}

impl Operation {
    /// The kinds that are operations.
    pub(crate) const KINDS: [Kind; 5] =
        [Kind::Reconfigure, Kind::Balance, Kind::Drain, Kind::Replay, Kind::Purge];

    pub(super) fn draw(kind: Kind, govs: u8, rng: &mut Rng) -> Self {
        let time = Duration::from_millis(rng.u64(500..30_000));
        if kind == Kind::Reconfigure {
            // A quorum of two has to be possible.
            let off = (govs > 2).then(|| (Machine(rng.u8(1..=govs)), rng.bool()));
            let window_max = rng.choice([None, Some(4), Some(64)]).flatten();
            let down = Duration::from_millis(rng.u64(10..5_000));
            let is_for_good = rng.u32(0..4) == 0;
            let settings = Settings { off, window_max };
            return Self::Reconfigure { settings, down, time: (!is_for_good).then_some(time) };
        }
        if kind == Kind::Balance {
            return Self::Balance { policy: rng.choice(plan::BALANCE).unwrap_or("priority") };
        }
        if kind == Kind::Drain {
            return Self::Drain { limit: time / 4 };
        }
        Self::Letters { are_removed: kind == Kind::Purge }
    }

    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Reconfigure { .. } => Kind::Reconfigure,
            Self::Balance { .. } => Kind::Balance,
            Self::Drain { .. } => Kind::Drain,
            Self::Letters { are_removed: true } => Kind::Purge,
            Self::Letters { are_removed: false } => Kind::Replay,
        }
    }
}
