//! A second process with the identity of a node, on a copy of its disk (D12).
//!
//! It accepts nothing while the node runs: senders know one process of a node.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_testkit::disk::{Crash, Disk, Image};

use super::{Later, World};
use crate::disk::Files;
use crate::fault::Kind;
use crate::journal::Fact;
use crate::machine::Hardware;
use crate::net::Machine;
use crate::node::Node;

impl World {
    /// The disk of a node is copied, and the copy is to be started.
    pub(super) fn copy_node(
        &mut self,
        node: Machine,
        wait: Duration,
        time: Duration,
        goes_on: bool,
    ) {
        let (at, image) = (self.journal.elapsed(), self.hardware(node).disk.image());
        self.after(wait, Later::TwinStarts { node, at, image, time, goes_on });
    }

    pub(super) async fn start_twin(
        &mut self,
        node: Machine,
        (at, image): (Duration, &Image),
        time: Duration,
        goes_on: bool,
    ) {
        if self.site(node).twin.is_some() {
            return;
        }
        self.mend_peers().await;
        let (machine, now) = (node.twin(), self.journal.elapsed());
        self.note(machine, Fact::Fault("a second process of the node starts".to_owned()));
        let mut hardware = Hardware::new(machine, &self.surroundings);
        hardware.set_disk(Disk::from_image(self.rng.u64(..), image), Files::default());
        hardware.clock = Arc::clone(&self.site(node).twin_clock);
        let mut twin = Node::new(hardware, &self.journal, &self.plan);
        twin.certificates.clone_from(&self.certificates);
        let site = self.site_mut(node);
        site.history.twins.push(now);
        twin.set_settings(site.node.settings());
        if twin.start().await {
            site.twin = Some(twin);
            self.strikes.at(node).strike(Kind::Twin);
            self.after(time, Later::TwinEnds { node, at, goes_on });
        }
    }

    /// One of the two ends, and the other one goes on.
    pub(super) async fn end_twin(&mut self, node: Machine, at: Duration, goes_on: bool) {
        let Some(twin) = self.site_mut(node).take_twin() else { return };
        let what = if goes_on { "the second process goes on" } else { "the second process ends" };
        self.note(node.twin(), Fact::Fault(what.to_owned()));
        if !goes_on {
            return;
        }
        self.mend_peers().await;
        self.crash(node, Crash::Kill);
        let Hardware { disk, files, .. } = &twin.hardware;
        self.replace_disk(node, at, (disk.clone(), files.hand_over()));
        self.after(Duration::from_millis(10), Later::Start(node));
    }
}
