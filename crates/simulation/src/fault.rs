//! The faults that a run may have.

use std::time::Duration;

use alys_stream_testkit::disk::Crash;
use serde_json::Value;

use crate::journal::Actor;
use crate::net::Machine;

mod draw;
mod operation;
mod rotation;

pub(crate) use operation::{Operation, Settings};
pub(crate) use rotation::Rotation;

/// A kind of fault, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing passes between a node and one governance node.
    Partition,
    /// Nothing passes in one direction.
    OneWay,
    /// Nothing passes between a node and anybody.
    Isolate,
    /// Some of what is sent comes late.
    Loss,
    /// Everything takes long.
    Latency,
    /// Little fits through.
    Bandwidth,
    /// Connections are reset.
    Reset,
    /// A process is killed, or a machine loses power, and comes back.
    Crash,
    /// Syncs of files fail.
    FailSync,
    /// Syncs of directories fail.
    FailDirSync,
    /// The disk is full for a while.
    FullDisk,
    /// The disk is slow for a while.
    SlowDisk,
    /// A bit of a stored record of a node flips while it is down.
    FlipBit,
    /// A clock is wrong, and jumps.
    Skew,
    /// A governance node swallows its acknowledgements.
    DropAcks,
    /// A governance node refuses everything for now.
    RefuseForNow,
    /// A governance node refuses everything for good.
    RefuseForGood,
    /// A governance node does not read.
    StopReading,
    /// A governance node asks for silence.
    Suspend,
    /// A governance node cuts a stream in the middle of a batch.
    CutMidBatch,
    /// A governance node ends its streams, renews its connections, or asks peers to leave.
    Leave,
    /// An operator forces a connection to be made anew.
    Reconnect,
    /// An operator stops a machine in order, and starts it again.
    Restart,
    /// An actor panics.
    Panic,
    /// A node's disk is replaced by a former copy of itself.
    RestoreCopy,
    /// A governance node is started again with another dialect.
    Upgrade,
    /// An operator starts a node again with other endpoints and limits.
    Reconfigure,
    /// An operator has endpoints chosen in another way, while a node runs.
    Balance,
    /// An operator waits until everything is acknowledged.
    Drain,
    /// An operator sends dead letters again.
    Replay,
    /// An operator removes dead letters.
    Purge,
    /// A second process runs with a copy of a node's disk, beside the node.
    Twin,
    /// The node gets a new certificate.
    RenewNode,
    /// A governance node gets a new certificate.
    RenewGovernance,
    /// A new authority takes the place of the old one, after a time in which both are trusted.
    RotateAuthority,
    /// A machine has a certificate that is of no use, for a while.
    BadCertificate,
    /// A machine has a certificate that expires, or is not valid yet, for a while.
    OutOfDate,
    /// A machine trusts the wrong authority or keys, or has old revocation lists, for a while.
    BadTrust,
    /// A certificate is revoked.
    Revoke,
    /// A connection is gone for one of its ends, and the other one hears nothing of it.
    HalfOpen,
    /// What was said on a connection arrives after what is said on the next one.
    Reorder,
    /// The power fails, and of a write a part is stored.
    TornWrite,
    /// A governance node takes long to sign.
    SlowSigner,
    /// A governance node makes signatures that do not verify.
    WrongSigner,
    /// A bit flips in another file, of a node or of a governance node, while it is down.
    Decay,
    /// A neighbour of the node defers what it is told, does not answer, or dies.
    Neighbour,
}

impl Kind {
    /// Those of the first shape of the world: the others are drawn by `extras`.
    pub(crate) const FIRST: [Self; 25] = [
        Self::Partition,
        Self::OneWay,
        Self::Isolate,
        Self::Loss,
        Self::Latency,
        Self::Bandwidth,
        Self::Reset,
        Self::Crash,
        Self::FailSync,
        Self::FailDirSync,
        Self::FullDisk,
        Self::SlowDisk,
        Self::FlipBit,
        Self::Skew,
        Self::DropAcks,
        Self::RefuseForNow,
        Self::RefuseForGood,
        Self::StopReading,
        Self::Suspend,
        Self::CutMidBatch,
        Self::Leave,
        Self::Reconnect,
        Self::Restart,
        Self::Panic,
        Self::RestoreCopy,
    ];

    /// Those that came with the third edition.
    const THIRD: [Self; 3] = [Self::HalfOpen, Self::Reorder, Self::TornWrite];

    /// Those that came with the fourth.
    const FOURTH: [Self; 4] = [Self::SlowSigner, Self::WrongSigner, Self::Decay, Self::Neighbour];

    /// Those that came with the second edition.
    const SECOND: [Self; 14] = [
        Self::Upgrade,
        Self::Reconfigure,
        Self::Balance,
        Self::Drain,
        Self::Replay,
        Self::Purge,
        Self::Twin,
        Self::RenewNode,
        Self::RenewGovernance,
        Self::RotateAuthority,
        Self::BadCertificate,
        Self::OutOfDate,
        Self::BadTrust,
        Self::Revoke,
    ];

    /// Every one.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::FIRST.into_iter().chain(Self::SECOND).chain(Self::THIRD).chain(Self::FOURTH)
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Links between a node and these machines, in these directions, change for a while.
    Link {
        kind: Kind,
        node: Machine,
        govs: Vec<Machine>,
        to_gov: bool,
        to_node: bool,
        how: Way,
        time: Duration,
    },
    Reset {
        node: Machine,
        gov: Machine,
    },
    Crash {
        machine: Machine,
        crash: Crash,
        down: Duration,
        flips: u32,
    },
    /// A machine goes down, and a bit of its files flips.
    Decay {
        machine: Machine,
        crash: Crash,
        down: Duration,
    },
    /// The power fails in the middle of a sync, after so many more of them.
    Tear {
        machine: Machine,
        skip: u64,
        down: Duration,
    },
    FailSync {
        machine: Machine,
        skip: u64,
        count: u64,
    },
    FailDirSync {
        machine: Machine,
        count: u64,
    },
    FullDisk {
        machine: Machine,
        room: u64,
        time: Duration,
    },
    SlowDisk {
        machine: Machine,
        most: Duration,
        time: Duration,
    },
    Skew {
        machine: Machine,
        offset_ms: i64,
        time: Duration,
    },
    Misbehave {
        kind: Kind,
        gov: Machine,
        patch: Value,
        time: Option<(Duration, Value)>,
    },
    Reconnect {
        node: Machine,
        gov: Machine,
    },
    HalfOpen {
        node: Machine,
        gov: Machine,
        /// Whether it is the node for whom the connection is gone.
        is_lost_by_node: bool,
    },
    /// What the node says comes late, and after a while it says the rest on another connection.
    Reorder {
        node: Machine,
        gov: Machine,
        lag: Duration,
        wait: Duration,
    },
    Restart {
        machine: Machine,
        drain: Duration,
        down: Duration,
    },
    Panic {
        node: Machine,
        actor: &'static str,
    },
    RestoreCopy {
        node: Machine,
        after: Duration,
        down: Duration,
    },
    Upgrade {
        gov: Machine,
        down: Duration,
        time: Duration,
    },
    Neighbour {
        node: Machine,
        actor: Actor,
        conduct: Conduct,
        time: Duration,
    },
    Operate {
        node: Machine,
        operation: Operation,
    },
    Rotate(Rotation),
    Twin {
        node: Machine,
        /// Between the copy and the start of the second process.
        wait: Duration,
        time: Duration,
        /// Whether the node goes on with the disk of the second process.
        goes_on: bool,
    },
}

/// What a neighbour does instead of dealing with what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// It says: not now.
    Defers,
    /// It does not answer.
    Hangs,
    /// It dies, once.
    Dies,
}

/// How a link is while a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Held,
    Losing(u32),
    Slow(Duration),
    Narrow(u64),
}

impl Fault {
    /// Where it strikes.
    pub(crate) const fn machine(&self) -> Machine {
        match self {
            Self::Link { node, .. }
            | Self::Reset { node, .. }
            | Self::Reconnect { node, .. }
            | Self::HalfOpen { node, .. }
            | Self::Reorder { node, .. }
            | Self::Panic { node, .. }
            | Self::RestoreCopy { node, .. }
            | Self::Operate { node, .. }
            | Self::Neighbour { node, .. }
            | Self::Twin { node, .. } => *node,
            Self::Crash { machine, .. }
            | Self::Decay { machine, .. }
            | Self::Tear { machine, .. }
            | Self::FailSync { machine, .. }
            | Self::FailDirSync { machine, .. }
            | Self::FullDisk { machine, .. }
            | Self::SlowDisk { machine, .. }
            | Self::Skew { machine, .. }
            | Self::Restart { machine, .. } => *machine,
            Self::Misbehave { gov, .. } | Self::Upgrade { gov, .. } => *gov,
            Self::Rotate(rotation) => rotation.machine(),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Link { kind, .. } | Self::Misbehave { kind, .. } => *kind,
            Self::Reset { .. } => Kind::Reset,
            Self::Crash { flips: 0, .. } => Kind::Crash,
            Self::Crash { .. } => Kind::FlipBit,
            Self::Decay { .. } => Kind::Decay,
            Self::Tear { .. } => Kind::TornWrite,
            Self::FailSync { .. } => Kind::FailSync,
            Self::FailDirSync { .. } => Kind::FailDirSync,
            Self::FullDisk { .. } => Kind::FullDisk,
            Self::SlowDisk { .. } => Kind::SlowDisk,
            Self::Skew { .. } => Kind::Skew,
            Self::Reconnect { .. } => Kind::Reconnect,
            Self::HalfOpen { .. } => Kind::HalfOpen,
            Self::Reorder { .. } => Kind::Reorder,
            Self::Restart { .. } => Kind::Restart,
            Self::Panic { .. } => Kind::Panic,
            Self::RestoreCopy { .. } => Kind::RestoreCopy,
            Self::Upgrade { .. } => Kind::Upgrade,
            Self::Neighbour { .. } => Kind::Neighbour,
            Self::Operate { operation, .. } => operation.kind(),
            Self::Rotate(rotation) => rotation.kind(),
            Self::Twin { .. } => Kind::Twin,
        }
    }
}
