//! What the director does to machines and links, and how it is undone.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_stream_messaging::tools;
use alys_stream_testkit::disk::{Crash, Disk};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Later, World};
use crate::disk::Files;
use crate::fault::{Conduct, Fault, Kind, Way};
use crate::governance::Governance;
use crate::journal::{Actor, Fact};
use crate::net::{Link, Machine};
use crate::node::DATA;
use crate::sender;
use crate::strikes::Blow;

/// How long an order to stop may take before the machine is switched off.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a machine may go without as many syncs as were to pass before its power fails, and how
/// soon the director notices that it has.
const TEAR_WITHIN: Duration = Duration::from_secs(20);
const TEAR_LOOK_EVERY: Duration = Duration::from_millis(2);

impl World {
    pub(super) async fn fault(&mut self, fault: Fault) {
        let blow = self.strikes.plan(fault.machine(), fault.kind());
        match fault {
            Fault::Link { node, govs, to_gov, to_node, how, time, .. } => {
                self.bend(node, &govs, (to_gov, to_node), |link| bend(link, how, blow));
                self.after(time, Later::Link { node, govs });
            }
            Fault::Reset { node, gov } => self.struck(blow, self.net.reset(node, gov)),
            Fault::HalfOpen { node, gov, is_lost_by_node } => {
                let (one, other) = if is_lost_by_node { (node, gov) } else { (gov, node) };
                self.struck(blow, self.net.lose(one, other));
            }
            Fault::Reorder { node, gov, lag, wait } => self.lag((node, gov), lag, wait, blow),
            Fault::Crash { machine, crash, down, flips } => {
                let flip =
                    |this: &mut Self| (0..flips).fold(flips == 0, |is, _| this.flip(machine) || is);
                self.go_down(machine, (crash, down), blow, flip);
            }
            Fault::Decay { machine, crash, down } => {
                self.go_down(machine, (crash, down), blow, |this| this.decay(machine));
            }
            Fault::Tear { machine, skip, down } => self.tear(machine, skip, down),
            Fault::FailSync { machine, skip, count } => {
                self.hardware(machine).disk.fail_syncs(skip, count);
            }
            Fault::FailDirSync { machine, count } => {
                self.hardware(machine).disk.fail_dir_syncs(0, count);
            }
            Fault::FullDisk { machine, room, time } => self.fill(machine, room, time),
            Fault::SlowDisk { machine, most, time } => {
                self.hardware(machine).pace.set(Some(most));
                self.after(time, Later::Pace(machine));
            }
            Fault::Skew { machine, offset_ms, time } => {
                self.hardware(machine).clock.set_offset(offset_ms);
                self.after(time, Later::Clock(machine));
            }
            Fault::Misbehave { gov, patch, time, .. } => {
                self.misbehave(gov, &patch).await;
                time.into_iter()
                    .for_each(|(time, back)| self.after(time, Later::Behave(gov, back)));
            }
            Fault::Reconnect { node, gov } => {
                self.struck(blow, self.site(node).node.reconnect(gov));
            }
            Fault::Restart { machine, drain, down } => {
                let is_struck = self.restart(machine, drain, down).await;
                self.struck(blow, is_struck);
            }
            Fault::Panic { node, actor } => {
                let site = self.site_mut(node);
                site.history.lives += 1;
                site.node.panic(actor);
            }
            Fault::RestoreCopy { node, after, down } => {
                let image = self.hardware(node).disk.image();
                let at = self.journal.elapsed();
                self.after(after, Later::Restore { node, at, image, down });
            }
            Fault::Neighbour { node, actor, conduct, time } => {
                self.sour(node, (actor, conduct));
                self.after(time, Later::Mood(node));
            }
            Fault::Operate { node, operation } => self.operate(node, operation).await,
            Fault::Rotate(rotation) => self.rotate(rotation),
            Fault::Twin { node, wait, time, goes_on } => self.copy_node(node, wait, time, goes_on),
            Fault::Upgrade { gov, down, time } => self.upgrade(gov, down, time).await,
        }
    }

    /// Links of a node change, to governance nodes and from them.
    fn bend(
        &self,
        node: Machine,
        govs: &[Machine],
        (to_gov, to_node): (bool, bool),
        change: impl Fn(&mut Link),
    ) {
        for gov in govs {
            let ways = [(node, *gov, to_gov), (*gov, node, to_node)];
            for (from, to, _) in ways.into_iter().filter(|way| way.2) {
                self.net.set_link(from, to, &change);
            }
        }
    }

    /// What is said between two machines comes late, and after a while they use another connection.
    fn lag(&mut self, (node, gov): (Machine, Machine), lag: Duration, wait: Duration, blow: Blow) {
        // Of streams of the published protocol the newest does not end the others: see
        // `docs/testing.md`.
        if self.govs.get(&gov).is_some_and(|gov| !gov.is_plain()) {
            self.net.lag(node, gov, lag, blow);
            self.after(wait, Later::Reconnect { node, gov });
        }
    }

    /// A machine goes down for a while, and something happens to its files.
    fn go_down(
        &mut self,
        machine: Machine,
        (crash, down): (Crash, Duration),
        blow: Blow,
        happens: impl FnOnce(&mut Self) -> bool,
    ) {
        if self.is_running(machine) {
            self.crash(machine, crash);
            let is_struck = happens(self);
            self.struck(blow, is_struck);
            self.after(down, Later::Start(machine));
        }
    }

    /// The power of a machine fails at one of the next syncs.
    fn tear(&mut self, machine: Machine, skip: u64, down: Duration) {
        if self.is_running(machine) {
            self.hardware(machine).disk.crash_in_sync(skip);
            let until = Instant::now() + TEAR_WITHIN;
            self.after(TEAR_LOOK_EVERY, Later::Torn { machine, until, down });
        }
    }

    /// Whether it has failed, is looked at until it has.
    fn go_down_torn(&mut self, machine: Machine, until: Instant, down: Duration) {
        if !self.is_running(machine) {
            return;
        }
        if !self.hardware(machine).disk.is_down() && !self.is_mended && Instant::now() < until {
            self.after(TEAR_LOOK_EVERY, Later::Torn { machine, until, down });
            return;
        }
        self.crash(machine, Crash::Tear);
        self.after(down, Later::Start(machine));
    }

    /// The disk of a machine has no more room than so much.
    fn fill(&mut self, machine: Machine, room: u64, time: Duration) {
        if let Some(site) = self.nodes.get_mut(&machine) {
            site.history.was_full = true;
        }
        let disk = &self.hardware(machine).disk;
        disk.set_space(Some(disk.used_bytes() + room));
        self.after(time, Later::Space(machine));
    }

    /// A neighbour of a node does not deal with what it is told.
    fn sour(&mut self, node: Machine, how: (Actor, Conduct)) {
        let site = self.site_mut(node);
        site.history.was_moody = true;
        site.node.moods.set(Some(how));
    }

    async fn misbehave(&self, gov: Machine, patch: &Value) {
        if let Some(governance) = self.govs.get(&gov) {
            governance.misbehave(patch).await;
        }
    }

    /// Counts a fault that struck something, if it did.
    fn struck(&self, blow: Blow, is_struck: bool) {
        if is_struck {
            self.strikes.strike(blow);
        }
    }

    /// A governance node speaks another dialect: for good when it learns sessions.
    async fn upgrade(&mut self, gov: Machine, down: Duration, time: Duration) {
        let Some(is_plain) = self.govs.get(&gov).map(Governance::is_plain) else { return };
        self.speak(gov, !is_plain, down).await;
        // What a session owes to the node waits for the next session.
        if !is_plain {
            self.after(time, Later::Speak { gov, is_plain, down });
        }
    }

    /// Starts a governance node again, to speak another dialect.
    async fn speak(&mut self, gov: Machine, is_plain: bool, down: Duration) {
        if let Some(governance) = self.govs.get_mut(&gov) {
            governance.set_plain(is_plain);
        }
        if self.restart(gov, Duration::ZERO, down).await {
            self.strikes.at(gov).strike(Kind::Upgrade);
        }
    }

    /// Starts a machine again in order; says whether it was running.
    pub(super) async fn restart(
        &mut self,
        machine: Machine,
        drain: Duration,
        down: Duration,
    ) -> bool {
        if !self.is_running(machine) {
            return false;
        }
        let stopping = async {
            if let Some(gov) = self.govs.get_mut(&machine) {
                gov.stop(drain).await;
                return;
            }
            let status = self.site_mut(machine).node.stop(drain).await;
            let status = status.and_then(|status| serde_json::to_value(status).ok());
            self.coverage.status(machine, &status.unwrap_or_default());
        };
        if tokio::time::timeout(STOP_TIMEOUT, stopping).await.is_err() {
            self.note(machine, Fact::Fault("it does not stop in time".to_owned()));
        }
        self.crash(machine, Crash::Kill);
        self.after(down, Later::Start(machine));
        true
    }

    pub(super) async fn undo(&mut self, later: Later) {
        match later {
            Later::Start(machine) => {
                if !self.is_running(machine) {
                    self.start(machine).await;
                }
            }
            Later::Link { node, govs } => {
                for gov in govs {
                    self.net.set_link(node, gov, |link| *link = Link::default());
                    self.net.set_link(gov, node, |link| *link = Link::default());
                }
            }
            Later::Space(machine) => self.hardware(machine).disk.set_space(None),
            Later::Pace(machine) => self.hardware(machine).pace.set(None),
            Later::Clock(machine) => self.hardware(machine).clock.set_offset(0),
            Later::Behave(gov, patch) => self.misbehave(gov, &patch).await,
            Later::Torn { machine, until, down } => self.go_down_torn(machine, until, down),
            Later::Mood(node) => self.site(node).node.moods.set(None),
            Later::Reconnect { node, gov } => drop(self.site(node).node.reconnect(gov)),
            Later::Settings { node, settings, down } => {
                self.reconfigure(node, settings, down).await;
            }
            Later::Rotate(pending) => self.go_on(pending),
            Later::TwinStarts { node, at, image, time, goes_on } => {
                self.start_twin(node, (at, &image), time, goes_on).await;
            }
            Later::TwinEnds { node, at, goes_on } => {
                self.end_twin(node, at, goes_on).await;
            }
            Later::Speak { gov, is_plain, down } => self.speak(gov, is_plain, down).await,
            Later::Restore { node, at, image, down } => {
                self.crash(node, Crash::Lose);
                self.note(node, Fact::Fault("a former copy is restored".to_owned()));
                let disk = Disk::from_image(self.rng.u64(..), &image);
                self.replace_disk(node, at, (disk, Files::default()));
                self.strikes.at(node).strike(Kind::RestoreCopy);
                self.after(down, Later::Start(node));
            }
        }
    }

    /// A node goes on with a disk that was copied from its own at some moment.
    pub(super) fn replace_disk(
        &mut self,
        node: Machine,
        copied_at: Duration,
        (disk, files): (Disk, Files),
    ) {
        let now = self.journal.elapsed();
        let site = self.site_mut(node);
        site.node.hardware.set_disk(disk, files);
        site.history.restored.push((now, copied_at));
    }

    /// Every governance node is there, and can be reached, in editions in which that is so.
    pub(super) async fn mend_peers(&mut self) {
        if !self.plan.extras.are_peers_mended {
            return;
        }
        self.net.heal();
        let govs: Vec<Machine> = self.govs.keys().copied().collect();
        for machine in govs {
            if !self.is_running(machine) {
                self.start(machine).await;
            }
        }
        for gov in self.govs.values() {
            gov.misbehave(&honest()).await;
        }
    }

    /// An operator gives a node's log a new id, as the alert tells him to.
    pub(super) fn adopt(&mut self, node: Machine) {
        self.crash(node, Crash::Kill);
        let (storage, _) = self.site_mut(node).node.hardware.boot();
        let adopted = tools::adopt(&Path::new(DATA).join("buffer"), &*storage);
        let how = adopted.map_or_else(|error| error.to_string(), |_| "adopted".to_owned());
        self.note(node, Fact::Fault(format!("the operator adopts the log: {how}")));
        self.after(Duration::from_secs(1), Later::Start(node));
    }

    /// Flips a bit of the payload of a stored record of a node's buffer; says whether there was one.
    fn flip(&mut self, node: Machine) -> bool {
        let Some(site) = self.nodes.get_mut(&node) else { return false };
        let disk = &site.node.hardware.disk;
        let places = stored_payloads(disk);
        // Damage to the newest record cannot be told from a write that a crash cut off.
        if places.len() < 2 {
            return false;
        }
        let (path, payload_at) = &places[self.rng.usize(0..places.len() - 1)];
        // A header or a mark: anything up to there.
        let is_anywhere = self.plan.extras.flips_anywhere;
        let at = if is_anywhere { self.rng.usize(0..*payload_at) } else { *payload_at };
        if !disk.flip_bit(path, at, self.rng.u8(0..8)) {
            return false;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.journal.note(node, Fact::Fault(format!("a bit flips in {name} at {at}")));
        site.history.flips += 1;
        true
    }
}

/// Where the payloads of the readable records of a node's buffer lie, the newest last.
fn stored_payloads(disk: &Disk) -> Vec<(PathBuf, usize)> {
    let buffer = Path::new(DATA).join("buffer");
    let mut records: Vec<_> = Vec::new();
    let dumped = tools::dump(&buffer, &*disk.mount(), &mut |record| {
        records.push((record.segment, record.offset, record.stored_bytes));
        ControlFlow::Continue(())
    });
    if dumped.is_err() {
        return Vec::new();
    }
    records.sort_unstable();
    records
        .into_iter()
        .filter_map(|(segment, offset, stored_bytes)| {
            let path = buffer.join(format!("{segment}.segment"));
            let bytes = disk.cached_file(&path)?;
            let (start, end) =
                (usize::try_from(offset).ok()?, usize::try_from(offset + stored_bytes).ok()?);
            let in_record = *sender::payloads(bytes.get(start..end)?).first()?;
            Some((path, start + in_record))
        })
        .collect()
}

/// What takes every misbehaviour back.
pub(super) fn honest() -> Value {
    json!({
        "drop_acks": null, "refuse": null, "stop_reading": null, "suspended": null,
        "delay_ms": null, "disconnect_mid_batch": null, "wrong_signatures": null,
    })
}

fn bend(link: &mut Link, how: Way, blow: Blow) {
    match how {
        Way::Held => link.held = Some(blow),
        Way::Losing(permille) => link.lost_permille = Some((permille, blow)),
        Way::Slow(latency) => {
            link.latency = (latency, latency * 2);
            link.slowed = Some(blow);
        }
        Way::Narrow(per_second) => link.bytes_per_second = Some((per_second, blow)),
    }
}
