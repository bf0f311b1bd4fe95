//! What a measurement of a link needs: a folder on the disk in question, certificates, governance
//! nodes and the ends of the link, each a process of its own.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_stream_governance::read_ledger;
use alys_stream_messaging::router::Policy;
use alys_stream_protocol::federation::ScriptKind;
use indicatif::{ProgressBar, ProgressStyle};

use super::end::{Digest, End, Order, Stat};
use super::node_end::metric;
use super::policy;
use super::usage::Usage;
use crate::demo::process::Process;
use crate::failure::Failure;
use crate::mint::{self, Minted, Plan, Ports};
use crate::{http, output};

/// What all measurements of a link are told.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Common {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// How long to measure, in all
    #[arg(long, value_name = "S", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) seconds: u64,
    /// Bytes of a payload
    #[arg(long, value_name = "BYTES", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(super) payload: u32,
    /// Governance nodes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(super) endpoints: u16,
    /// When a message is settled: any, all or quorum:N
    #[arg(long, value_name = "POLICY", default_value = "any", value_parser = policy::parse)]
    pub(super) policy: Policy,
    /// Make a temporary folder here, on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) dir: PathBuf,
}

impl Common {
    /// Bytes of a payload.
    pub(super) fn payload_bytes(&self) -> usize {
        usize::try_from(self.payload).unwrap_or(usize::MAX)
    }

    /// A bar for so many steps; none where nobody watches.
    pub(super) fn bar(&self, steps: u64, what: &'static str) -> ProgressBar {
        if self.json && !output::is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {elapsed}");
        let bar = ProgressBar::new(steps).with_message(what);
        style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
    }
}

/// What the processes of the node side are told beside the common things.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Special {
    /// Take times of halts.
    pub(super) halts: bool,
    /// Priorities in turn.
    pub(super) mixed: bool,
}

/// A folder with everything in it, and the governance nodes.
#[derive(Debug)]
pub(super) struct Stage {
    dir: tempfile::TempDir,
    pub(super) minted: Minted,
    pub(super) governance: Vec<Process>,
}

impl Stage {
    /// Makes the folder and the files; nothing runs yet.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub(super) fn prepare(common: &Common) -> Result<Self, Failure> {
        if cfg!(debug_assertions) {
            output::note("warning: this is a debug build: it measures the build, not the machine");
        }
        let parent = std::path::absolute(&common.dir)
            .map_err(|error| Failure::file("find", &common.dir, &error))?;
        let dir = tempfile::Builder::new().prefix("alys-bench-").tempdir_in(&parent);
        let dir = dir.map_err(|error| Failure::file("make a directory in", &parent, &error))?;
        let minted = mint::mint(&Plan {
            dir: dir.path().join("minted"),
            governance: common.endpoints,
            // One is enough for a halt, so that each of them can be pushed by one node.
            threshold: 1,
            script: ScriptKind::P2wsh,
            ports: Ports::Free,
        })?;
        Ok(Self { dir, minted, governance: Vec::new() })
    }

    /// Starts the governance nodes.
    ///
    /// # Errors
    ///
    /// When one does not start.
    pub(super) async fn start_governance(&mut self) -> Result<(), Failure> {
        for one in &self.minted.governance {
            let (log, admin) = (self.log(&one.id), one.admin.to_string());
            let process = Process::start(&one.id, "governance", &one.config, log, admin)?;
            self.governance.push(process);
        }
        for one in &mut self.governance {
            one.ready().await?;
        }
        Ok(())
    }

    /// Starts the node; its endpoints are dialled, and not up yet.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub(super) async fn start_node(
        &self,
        common: &Common,
        special: Special,
    ) -> Result<End, Failure> {
        let mut args: Vec<OsString> = vec![
            "end-node".into(),
            "--config".into(),
            self.minted.node.config.clone().into(),
            "--policy".into(),
            policy::word(common.policy).into(),
        ];
        args.extend(special.halts.then(|| "--halts".into()));
        args.extend(special.mixed.then(|| "--mixed".into()));
        End::start("node", args, &self.log("node")).await
    }

    /// Starts the governance nodes and the node, and waits until they are connected.
    ///
    /// # Errors
    ///
    /// When a process does not start, or they do not reach one another.
    pub(super) async fn start(
        &mut self,
        common: &Common,
        special: Special,
    ) -> Result<End, Failure> {
        self.start_governance().await?;
        let mut node = self.start_node(common, special).await?;
        let endpoints = usize::from(common.endpoints);
        node.ask::<f64>(&Order::AwaitUp { endpoints }).await?;
        Ok(node)
    }

    /// Starts the two ends of the limit; with logs when `stored`.
    ///
    /// # Errors
    ///
    /// When one does not start.
    pub(super) async fn start_limit(&self, stored: bool) -> Result<Limit, Failure> {
        let address = free_address()?;
        let args = |end: &str, log: &str| {
            let mut args: Vec<OsString> = vec![
                end.into(),
                "--address".into(),
                address.to_string().into(),
                "--minted".into(),
                self.dir.path().join("minted").into(),
            ];
            if stored {
                args.extend(["--log".into(), self.dir.path().join(log).into()]);
            }
            args
        };
        let far = End::start("far end", args("end-far", "far.log"), &self.log("far")).await?;
        let near = End::start("near end", args("end-near", "near.log"), &self.log("near")).await?;
        Ok(Limit { near, far })
    }

    /// Where a process logs.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.txt"))
    }

    /// What all governance nodes use together.
    pub(super) fn governance_usage(&self) -> Usage {
        self.governance.iter().map(|one| Usage::of(one.pid())).fold(Usage::default(), |all, one| {
            Usage {
                cpu_us: all.cpu_us + one.cpu_us,
                rss_kib: all.rss_kib.max(one.rss_kib),
                peak_kib: all.peak_kib.max(one.peak_kib),
            }
        })
    }

    /// The sum of a metric over all governance nodes.
    pub(super) async fn governance_metric(&self, name: &str) -> f64 {
        let mut sum = 0.0;
        for one in &self.minted.governance {
            let text = http::get(&one.admin.to_string(), "/metrics").await.unwrap_or_default();
            sum += metric(&text, name);
        }
        sum
    }

    /// Stops everything, and counts what governance applied.
    ///
    /// # Errors
    ///
    /// When a ledger cannot be read.
    pub(super) async fn finish(self, node: End) -> Result<Applied, Failure> {
        node.stop().await;
        for process in self.governance {
            process.stop().await;
        }
        let folders: Vec<&Path> =
            self.minted.governance.iter().map(|one| one.data_dir.as_path()).collect();
        Applied::read(&folders)
    }
}

/// The two ends of the limit.
#[derive(Debug)]
pub(super) struct Limit {
    pub(super) near: End,
    pub(super) far: End,
}

impl Limit {
    /// Microseconds of both ends together, so far.
    pub(super) fn cpu_us(&self) -> u64 {
        self.near.usage().cpu_us + self.far.usage().cpu_us
    }

    /// Stops both.
    pub(super) async fn stop(self) {
        self.near.stop().await;
        self.far.stop().await;
    }
}

/// What governance applied, all nodes together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Applied {
    /// Different messages.
    pub(super) messages: u64,
    /// Copies, at different nodes.
    pub(super) copies: u64,
    /// Messages that one node applied more than once.
    pub(super) twice: u64,
    /// The identifiers of the different messages.
    pub(super) ids: Digest,
}

impl Applied {
    fn read(folders: &[&Path]) -> Result<Self, Failure> {
        let mut applied = Self::default();
        let mut ids = Vec::new();
        for folder in folders {
            let ledger = read_ledger(folder).map_err(|error| Failure::other(&error))?;
            applied.copies += u64::try_from(ledger.len()).unwrap_or(u64::MAX);
            for (id, count) in ledger {
                applied.twice += u64::from(count > 1);
                ids.push(id);
            }
        }
        ids.sort_unstable();
        ids.dedup();
        applied.messages = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        for id in &ids {
            applied.ids.add(id.as_bytes());
        }
        Ok(applied)
    }

    /// Accepted messages that nobody applied.
    pub(super) fn lost(&self, accepted: &Stat) -> u64 {
        let missing = accepted.accepted.saturating_sub(self.messages);
        // As many as there should be, and not the same ones: at least one is missing.
        missing.max(u64::from(accepted.ids != self.ids))
    }
}

fn free_address() -> Result<SocketAddr, Failure> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bound = TcpListener::bind(any).and_then(|listener| listener.local_addr());
    bound.map_err(|error| Failure::listen("a free port", any, &error))
}

/// A part of the time that there is, in milliseconds, for one of so many equal parts.
pub(super) fn part_millis(seconds: u64, parts: u64) -> u64 {
    (seconds * 1000 / parts).max(200)
}

/// So long, as a span.
pub(super) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
