//! The faults that a run may have.

use std::time::Duration;

use alys_stream_testkit::disk::Crash;
use fastrand::Rng;
use serde_json::{Value, json};

use crate::net::Machine;
use crate::plan;

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

    /// Those that came later.
    const LATER: [Self; 14] = [
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
        Self::FIRST.into_iter().chain(Self::LATER)
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

/// Actors that may panic.
const ACTORS: [&str; 4] = ["root/system/stream", "root/system", "root/network", "gov-"];

/// How a link is while a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Held,
    Losing(u32),
    Slow(Duration),
    Narrow(u64),
}

impl Fault {
    /// A fault of a node, of its links, or of a governance node.
    pub(crate) fn draw(kind: Kind, (node, govs): (Machine, u8), rng: &mut Rng) -> Self {
        let gov = Machine(rng.u8(1..=govs));
        let struck = rng.u8(0..=govs).min(rng.u8(0..=govs));
        let machine = if struck == 0 { node } else { Machine(struck) };
        let time = Duration::from_millis(rng.u64(500..30_000));
        let link = |govs: Vec<Machine>, to_gov, to_node, how| Self::Link {
            kind,
            node,
            govs,
            to_gov,
            to_node,
            how,
            time,
        };
        match kind {
            Kind::Partition => link(vec![gov], true, true, Way::Held),
            Kind::OneWay => {
                let to_gov = rng.bool();
                link(vec![gov], to_gov, !to_gov, Way::Held)
            }
            Kind::Isolate => link((1..=govs).map(Machine).collect(), true, true, Way::Held),
            Kind::Loss => link(vec![gov], true, true, Way::Losing(rng.u32(10..400))),
            Kind::Latency => {
                let slow = Way::Slow(Duration::from_millis(rng.u64(50..3_000)));
                link(vec![gov], true, true, slow)
            }
            Kind::Bandwidth => link(vec![gov], true, true, Way::Narrow(rng.u64(500..20_000))),
            Kind::Reset => Self::Reset { node, gov },
            Kind::Crash => Self::crash(machine, rng, 0),
            Kind::FlipBit => Self::crash(node, rng, 1),
            Kind::FailSync => Self::FailSync { machine, skip: rng.u64(0..6), count: rng.u64(1..3) },
            Kind::FailDirSync => Self::FailDirSync { machine, count: rng.u64(1..3) },
            Kind::FullDisk => Self::FullDisk { machine, room: rng.u64(0..40_000), time },
            Kind::SlowDisk => {
                let most = Duration::from_millis(rng.u64(50..3_000));
                Self::SlowDisk { machine, most, time }
            }
            Kind::Skew => Self::Skew { machine, offset_ms: rng.i64(-60_000..60_000), time },
            Kind::DropAcks
            | Kind::RefuseForNow
            | Kind::RefuseForGood
            | Kind::StopReading
            | Kind::Suspend
            | Kind::CutMidBatch
            | Kind::Leave => Self::misbehaviour(kind, (gov, time), rng),
            Kind::Reconnect => Self::Reconnect { node, gov },
            Kind::Restart => Self::Restart {
                machine,
                drain: Duration::from_millis(rng.u64(0..3_000)),
                down: Duration::from_millis(rng.u64(10..10_000)),
            },
            Kind::Panic => {
                Self::Panic { node, actor: rng.choice(ACTORS).unwrap_or("root/system/stream") }
            }
            Kind::RestoreCopy | Kind::Twin => Self::copy(kind, (node, time), rng),
            Kind::Upgrade => {
                Self::Upgrade { gov, down: Duration::from_millis(rng.u64(10..5_000)), time }
            }
            Kind::Reconfigure | Kind::Balance | Kind::Drain | Kind::Replay | Kind::Purge => {
                Self::Operate { node, operation: Operation::draw(kind, govs, rng) }
            }
            Kind::RenewNode
            | Kind::RenewGovernance
            | Kind::RotateAuthority
            | Kind::BadCertificate
            | Kind::OutOfDate
            | Kind::BadTrust
            | Kind::Revoke => Self::Rotate(Rotation::draw(kind, (node, govs), rng)),
        }
    }

    /// What happens with a copy of a node's disk.
    fn copy(kind: Kind, (node, time): (Machine, Duration), rng: &mut Rng) -> Self {
        if kind == Kind::Twin {
            let wait = Duration::from_millis(rng.u64(10..10_000));
            return Self::Twin { node, wait, time, goes_on: rng.bool() };
        }
        Self::RestoreCopy {
            node,
            after: Duration::from_millis(rng.u64(500..20_000)),
            down: Duration::from_millis(rng.u64(10..5_000)),
        }
    }

    /// What a governance node does wrong, and how it does right again.
    pub(crate) fn misbehaviour(
        kind: Kind,
        (gov, time): (Machine, Duration),
        rng: &mut Rng,
    ) -> Self {
        let misbehave = |patch, back: Option<Value>| Self::Misbehave {
            kind,
            gov,
            patch,
            time: back.map(|back| (time, back)),
        };
        if kind == Kind::DropAcks {
            return misbehave(json!({"drop_acks": true}), Some(json!({"drop_acks": false})));
        }
        if kind == Kind::RefuseForNow {
            return misbehave(
                json!({"refuse": {"retryable": {"after_ms": rng.u32(0..3000)}}}),
                Some(json!({"refuse": null})),
            );
        }
        if kind == Kind::RefuseForGood {
            return misbehave(json!({"refuse": "terminal"}), Some(json!({"refuse": null})));
        }
        if kind == Kind::StopReading {
            return misbehave(json!({"stop_reading": true}), Some(json!({"stop_reading": false})));
        }
        if kind == Kind::Suspend {
            return misbehave(json!({"suspend": true}), Some(json!({"resume": true})));
        }
        if kind == Kind::CutMidBatch {
            let after = rng.u64(0..20);
            return misbehave(json!({"disconnect_mid_batch": {"after_records": after}}), None);
        }
        match rng.u32(0..3) {
            0 => misbehave(json!({"close": true}), None),
            1 => misbehave(json!({"goaway": true}), None),
            _ => misbehave(json!({"drain": {"deadline_ms": rng.u32(0..5000)}}), None),
        }
    }

    fn crash(machine: Machine, rng: &mut Rng, flips: u32) -> Self {
        let down = Duration::from_millis(rng.u64(10..15_000));
        Self::Crash { machine, crash: plan::crash(rng), down, flips }
    }

    /// Where it strikes.
    pub(crate) const fn machine(&self) -> Machine {
        match self {
            Self::Link { node, .. }
            | Self::Reset { node, .. }
            | Self::Reconnect { node, .. }
            | Self::Panic { node, .. }
            | Self::RestoreCopy { node, .. }
            | Self::Operate { node, .. }
            | Self::Twin { node, .. } => *node,
            Self::Crash { machine, .. }
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
            Self::FailSync { .. } => Kind::FailSync,
            Self::FailDirSync { .. } => Kind::FailDirSync,
            Self::FullDisk { .. } => Kind::FullDisk,
            Self::SlowDisk { .. } => Kind::SlowDisk,
            Self::Skew { .. } => Kind::Skew,
            Self::Reconnect { .. } => Kind::Reconnect,
            Self::Restart { .. } => Kind::Restart,
            Self::Panic { .. } => Kind::Panic,
            Self::RestoreCopy { .. } => Kind::RestoreCopy,
            Self::Upgrade { .. } => Kind::Upgrade,
            Self::Operate { operation, .. } => operation.kind(),
            Self::Rotate(rotation) => rotation.kind(),
            Self::Twin { .. } => Kind::Twin,
        }
    }
}
