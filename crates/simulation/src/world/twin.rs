//! A second process with the identity of the node, on a copy of its disk (D12).
//!
//! It accepts nothing while the node runs: senders know one node.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_testkit::disk::{Crash, Disk, Image};

use super::{Later, World};
use crate::journal::Fact;
use crate::machine::Hardware;
use crate::net::Machine;
use crate::node::Node;

impl World {
    /// The disk of the node is copied, and the copy is to be started.
    pub(super) fn copy_node(&mut self, wait: Duration, time: Duration, goes_on: bool) {
        let (at, image) = (self.journal.elapsed(), self.node.hardware.disk.image());
        self.after(wait, Later::TwinStarts { at, image, time, goes_on });
    }

    pub(super) async fn start_twin(
        &mut self,
        at: Duration,
        image: &Image,
        time: Duration,
        goes_on: bool,
    ) {
        if self.twin.is_some() {
            return;
        }
        self.mend_peers().await;
        self.note(Machine::TWIN, Fact::Fault("a second process of the node starts".to_owned()));
        self.history.twins.push(self.journal.elapsed());
        let seed = self.plan.seed;
        let mut hardware = Hardware::new(Machine::TWIN, &self.net, seed, self.plan.planted);
        hardware.disk = Disk::from_image(self.rng.u64(..), image);
        hardware.clock = Arc::clone(&self.twin_clock);
        let mut twin = Node::new(hardware, &self.journal, &self.plan);
        twin.set_settings(self.node.settings());
        twin.certificates.clone_from(&self.certificates);
        if twin.start().await {
            self.twin = Some(twin);
            self.after(time, Later::TwinEnds { at, goes_on });
        }
    }

    /// One of the two ends, and the other one goes on.
    pub(super) async fn end_twin(&mut self, at: Duration, goes_on: bool) {
        let Some(mut twin) = self.twin.take() else { return };
        twin.crash(Crash::Kill);
        self.history.lives += twin.hardware.life;
        let what = if goes_on { "the second process goes on" } else { "the second process ends" };
        self.note(Machine::TWIN, Fact::Fault(what.to_owned()));
        if !goes_on {
            return;
        }
        self.mend_peers().await;
        self.crash(Machine::NODE, Crash::Kill);
        self.node.hardware.disk = twin.hardware.disk.clone();
        self.history.restored.push((self.journal.elapsed(), at));
        self.after(Duration::from_millis(10), Later::Start(Machine::NODE));
    }
}
