//! An Alys node: the whole actor tree of the product, on simulated ground.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_actor::fault::FaultPoints;
use alys_stream_actor::status::Status;
use alys_stream_actor::{Ground, StreamConfig, StreamHandle, StreamSystem};
use alys_stream_config::NodeConfig;
use alys_stream_protocol::time::WallClock;
use alys_stream_telemetry::metrics::Metrics;
use tokio::sync::watch;

use crate::certificates::Certificates;
use crate::clock::{Behind, SkewedClock};
use crate::fault::{Kind, Settings};
use crate::federation;
use crate::journal::{Fact, Journal};
use crate::machine::Hardware;
use crate::neighbours::{self, Moods};
use crate::net::{Machine, PORT};
use crate::plan::{For, Plan};
use crate::planted::Planted;
use crate::strikes::Place;

/// The folder of the node on its disk.
pub(crate) const DATA: &str = "/node";

/// What a panic that was wanted says.
pub(crate) const WANTED_PANIC: &str = "wanted by the simulation";

/// What an endpoint without TLS says.
const INSECURE: &str = "insecure: plaintext, \
    insecure_plaintext_to_other_machines_anyone_can_read_and_forge: true, ";

/// The life of the node that runs, and its handle.
pub(crate) type Life = Option<(u64, StreamHandle)>;

/// The actor that is to panic at its next message.
#[derive(Debug, Clone, Default)]
struct Trap(Arc<Mutex<Option<&'static str>>>);

impl Trap {
    fn points(&self, place: Place) -> FaultPoints {
        let trap = self.clone();
        FaultPoints::new(move |actor, _message| {
            let mut armed = trap.0.lock().unwrap_or_else(PoisonError::into_inner);
            if armed.is_some_and(|wanted| actor.contains(wanted)) {
                *armed = None;
                drop(armed);
                place.strike(Kind::Panic);
                std::panic::panic_any(WANTED_PANIC);
            }
        })
    }

    fn set(&self, actor: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = actor;
    }
}

/// A node and its machine.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) hardware: Hardware,
    /// Which node it is, wherever it runs.
    identity: Machine,
    journal: Journal,
    plan: Plan,
    /// What an operator wants from the next start on.
    settings: Settings,
    /// Where its links have TLS.
    pub(crate) certificates: Option<Certificates>,
    system: Option<StreamSystem>,
    life: watch::Sender<Life>,
    trap: Trap,
    pub(crate) moods: Moods,
}

impl Node {
    pub(crate) fn new(hardware: Hardware, journal: &Journal, plan: &Plan) -> Self {
        let machine = hardware.machine;
        Self {
            hardware,
            identity: machine.identity().expect("a machine of a node"),
            journal: journal.clone(),
            plan: plan.clone(),
            settings: Settings::default(),
            certificates: None,
            system: None,
            life: watch::Sender::new(None),
            trap: Trap::default(),
            moods: Moods::default(),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    pub(crate) const fn system(&self) -> Option<&StreamSystem> {
        self.system.as_ref()
    }

    /// Starts it; `false` when it does not start.
    pub(crate) async fn start(&mut self) -> bool {
        let (storage, port) = self.hardware.boot();
        let life = self.hardware.life;
        let mut config = self.config();
        config.ground = Ground { storage, network: Arc::new(port) };
        let apart = u64::from(self.identity.0) << 32;
        config.seed = self.plan.seed.wrapping_add(life).wrapping_add(apart);
        config.faults = self.trap.points(self.hardware.place.clone());
        let mut clock: Arc<dyn WallClock> = Arc::<SkewedClock>::clone(&self.hardware.clock);
        if self.plan.planted == Some(Planted::DeliverExpired) {
            clock = Arc::new(Behind(clock));
        }
        let started = StreamSystem::start(config, Arc::new(Metrics::new()), clock).await;
        match started {
            Ok(system) => {
                self.note(Fact::Started { life });
                self.life.send_replace(Some((life, system.handle())));
                self.system = Some(system);
                true
            }
            Err(error) => {
                self.note(Fact::NotStarted { why: error.to_string() });
                false
            }
        }
    }

    /// The process is gone, whatever it was at.
    pub(crate) fn crash(&mut self, crash: alys_stream_testkit::disk::Crash) {
        self.hardware.crash(crash);
        self.life.send_replace(None);
        self.trap.set(None);
        self.system = None;
    }

    /// Stops it in order; its status then.
    pub(crate) async fn stop(&mut self, drain: Duration) -> Option<Status> {
        let system = self.system.take()?;
        let handle = system.handle();
        system.shutdown(drain).await;
        self.life.send_replace(None);
        Some(handle.status())
    }

    /// An operator wants a connection to be made anew; says whether there is an endpoint for it.
    pub(crate) fn reconnect(&self, gov: Machine) -> bool {
        let Some(system) = &self.system else { return false };
        let is_known = system.handle().reconnect(&gov.name());
        let is_off = self.settings.off.is_some_and(|(off, _)| off == gov);
        debug_assert!(is_known || is_off, "every governance node is an endpoint");
        is_known
    }

    pub(crate) const fn settings(&self) -> Settings {
        self.settings
    }

    /// What is in force from its next start on.
    pub(crate) const fn set_settings(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Lets an actor panic at its next message.
    pub(crate) fn panic(&self, actor: &'static str) {
        self.trap.set(Some(actor));
        // Supervisors hear little: they are killed, which their parent takes for the same.
        if let Some(system) = self.system.as_ref().filter(|_| actor != "root/system/stream") {
            let found = system.actors().into_iter().find(|(path, _)| path.contains(actor));
            if let Some((_, cell)) = found {
                self.hardware.place.strike(Kind::Panic);
                cell.kill();
            }
        }
    }

    fn note(&self, fact: Fact) {
        self.journal.note(self.hardware.machine, fact);
    }

    fn config(&self) -> StreamConfig {
        let yaml = self.yaml();
        let config = NodeConfig::parse(Path::new("/node.yaml"), &yaml).expect("a good file");
        let loaded = config.complete().expect("no file is missing");
        let mut config = StreamConfig::from_loaded(loaded, "simulation/1");
        let shape = self.plan.shape(self.identity);
        if self.plan.planted != Some(Planted::KeepEverything) {
            let window_max = self.settings.window_max.unwrap_or(shape.window_max);
            config.bounds.outbox.window_max = window_max;
            config.bounds.outbox.assigned_max = window_max;
        }
        // Smaller than a file may say, so that many segments come and go.
        config.buffer.segment_bytes = shape.segment_bytes;
        config.buffer.reserve_bytes = shape.segment_bytes;
        if let Some(certificates) = &self.certificates {
            config.tls_files = Some(certificates.of_node(self.hardware.machine));
        }
        let here = (self.hardware.machine, &self.hardware.place);
        config.neighbours = neighbours::plugs(here, &self.journal, &self.plan, &self.moods);
        config
    }

    fn yaml(&self) -> String {
        let shape = self.plan.shape(self.identity);
        let plain = self.plan.extras.plain.as_ref();
        let pegin = plain.map_or(For::All, |(policy, _)| *policy);
        let dialect = if plain.is_some() { "auto" } else { "session" };
        let (scheme, insecure) =
            if self.certificates.is_some() { ("https", "") } else { ("http", INSECURE) };
        let off = |n| self.settings.off.filter(|(off, _)| *off == Machine(n));
        let endpoints: String = (1..=self.plan.govs)
            .filter(|n| off(*n).is_none_or(|(_, is_kept)| is_kept))
            .map(|n| {
                let enabled = off(n).is_none();
                format!(
                    "  - {{name: gov-{n}, enabled: {enabled}, url: '{scheme}://gov-{n}:{PORT}', {insecure}\
                     dialect: {dialect}, priority: {n}}}\n"
                )
            })
            .collect();
        let threshold = if self.plan.planted == Some(Planted::ActOnUnsigned) { 1 } else { 2 };
        format!(
            "node: {{id: {id}}}\n\
             data_dir: {DATA}\n\
             endpoints:\n{endpoints}\
             transport: {{compression: '{compression}'}}\n\
             balance: {{policy: {balance}}}\n\
             federation:\n{federation}\
             router:\n  kinds:\n    1001: {{policy: {{quorum: 2}}}}\n    1002: {{policy: all}}\n    \
             pegin_notification: {{policy: {pegin}}}\n",
            id = self.identity.name(),
            pegin = pegin.policy(),
            compression = if shape.is_compressing { "always" } else { "off" },
            balance = shape.balance,
            federation = federation::yaml(threshold, "  "),
        )
    }
}
