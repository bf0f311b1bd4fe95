//! Faults, drawn from a stream of random numbers.

use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::{Conduct, Fault, Kind, Operation, Rotation, Way};
use crate::journal::Actor;
use crate::net::Machine;
use crate::plan;

/// Actors that may panic.
const ACTORS: [&str; 4] = ["root/system/stream", "root/system", "root/network", "gov-"];

impl Fault {
    /// A fault of a node, of its links, or of a governance node.
    pub(crate) fn draw(kind: Kind, (node, govs): (Machine, u8), rng: &mut Rng) -> Self {
        let gov = Machine(rng.u8(1..=govs));
        let struck = rng.u8(0..=govs).min(rng.u8(0..=govs));
        let machine = if struck == 0 { node } else { Machine(struck) };
        let time = Duration::from_millis(rng.u64(500..30_000));
        match kind {
            Kind::Partition
            | Kind::OneWay
            | Kind::Isolate
            | Kind::Loss
            | Kind::Latency
            | Kind::Bandwidth => {
                let all = (1..=govs).map(Machine).collect();
                let govs = if kind == Kind::Isolate { all } else { vec![gov] };
                Self::link(kind, (node, govs, time), rng)
            }
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
            Kind::TornWrite | Kind::HalfOpen | Kind::Reorder | Kind::Decay | Kind::Neighbour => {
                Self::later(kind, (node, gov, machine), rng)
            }
            Kind::DropAcks
            | Kind::RefuseForNow
            | Kind::RefuseForGood
            | Kind::StopReading
            | Kind::Suspend
            | Kind::CutMidBatch
            | Kind::Leave
            | Kind::SlowSigner
            | Kind::WrongSigner => Self::misbehaviour(kind, (gov, time), rng),
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

    fn link(
        kind: Kind,
        (node, govs, time): (Machine, Vec<Machine>, Duration),
        rng: &mut Rng,
    ) -> Self {
        let to_gov = kind != Kind::OneWay || rng.bool();
        let to_node = kind != Kind::OneWay || !to_gov;
        let how = if kind == Kind::Loss {
            Way::Losing(rng.u32(10..400))
        } else if kind == Kind::Latency {
            Way::Slow(Duration::from_millis(rng.u64(50..3_000)))
        } else if kind == Kind::Bandwidth {
            Way::Narrow(rng.u64(500..20_000))
        } else {
            Way::Held
        };
        Self::Link { kind, node, govs, to_gov, to_node, how, time }
    }

    fn later(kind: Kind, (node, gov, machine): (Machine, Machine, Machine), rng: &mut Rng) -> Self {
        if kind == Kind::HalfOpen {
            return Self::HalfOpen { node, gov, is_lost_by_node: rng.bool() };
        }
        if kind == Kind::Reorder {
            let lag = Duration::from_millis(rng.u64(500..10_000));
            return Self::Reorder { node, gov, lag, wait: lag / 10 };
        }
        if kind == Kind::Neighbour {
            let actor = rng.choice(Actor::ALL).unwrap_or(Actor::Chain);
            let conducts = [Conduct::Defers, Conduct::Hangs, Conduct::Dies];
            let conduct = rng.choice(conducts).unwrap_or(Conduct::Defers);
            let time = Duration::from_millis(rng.u64(500..30_000));
            return Self::Neighbour { node, actor, conduct, time };
        }
        let down = Duration::from_millis(rng.u64(10..15_000));
        if kind == Kind::Decay {
            return Self::Decay { machine, crash: plan::crash(rng), down };
        }
        Self::Tear { machine, skip: rng.u64(0..12), down }
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
        if kind == Kind::SlowSigner {
            let wait = json!({"delay_ms": rng.u64(20..30_000)});
            return misbehave(wait, Some(json!({"delay_ms": null})));
        }
        if kind == Kind::WrongSigner {
            let wrong = json!({"wrong_signatures": true});
            return misbehave(wrong, Some(json!({"wrong_signatures": null})));
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
}
