//! How far the log is settled on disk: what a peer may be told. Pure.
//!
//! Invariants:
//! - M42: a peer is told of settlements alone that are on disk. A log that was opened again has them
//!   all, so one that has fewer is a copy of before (D12).

use std::collections::VecDeque;

use alys_stream_protocol::message::Settled;

use crate::log::Position;

#[derive(Debug)]
pub(super) struct Settling {
    durable: Settled,
    /// What it will be once each of these is durable, in order.
    pending: VecDeque<(Position, Settled)>,
}

impl Settling {
    pub(super) const fn new(durable: Settled) -> Self {
        Self { durable, pending: VecDeque::new() }
    }

    pub(super) const fn durable(&self) -> Settled {
        self.durable
    }

    /// So much is settled once `position` is durable. Positions ascend.
    pub(super) fn push(&mut self, position: Position, settled: Settled) {
        self.pending.push_back((position, settled));
    }

    /// Everything up to `position` is durable.
    pub(super) fn handle_durable(&mut self, position: Position) {
        let durable = self.pending.partition_point(|(pending, _)| *pending <= position);
        if let Some((_, settled)) = self.pending.drain(..durable).next_back() {
            self.durable = settled;
        }
    }
}
