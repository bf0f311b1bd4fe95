//! The whole system on one machine, attacked on purpose, and counted.
//!
//! Reading order: [`timeline`] (what goes wrong when), [`pegout`] (real Bitcoin transactions, and
//! their check by consensus rules), [`accounts`] (what was promised and what came of it),
//! [`workload`], [`faults`], [`ledgers`] (what governance applied), [`report`].
//!
//! It uses what everyone can use: the files of `init`, processes of this program, the submission
//! interface and the admin port. It has no way into the node.

mod accounts;
mod faults;
mod ledgers;
mod pegout;
pub(crate) mod process;
mod report;
mod samples;
mod timeline;
mod view;
mod watch;
mod workload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::federation::ScriptKind;
use tokio::sync::{mpsc, watch as channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::process::Process;
use self::report::Findings;
pub(crate) use self::report::Report;
use self::view::{Moment, View};
use self::watch::Sight;
use self::workload::{Shared, Workload};
use crate::failure::Failure;
use crate::mint::{self, Minted, Plan, Ports};
use crate::output;
use crate::stop::Stop;
use crate::submission::Address;
use crate::submission::client::Client;

/// How many governance nodes there are, and how many signatures complete an input.
const GOVERNANCE: u16 = 3;
const THRESHOLD: u32 = 2;

/// Which one is killed. Not the first, so that nothing works only because of its order.
const VICTIM: usize = 1;

/// Longest time for all connections to come up at the start.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// Longest wait, after the load, for everything accepted to end.
const SETTLE_MAX: Duration = Duration::from_secs(60);

/// How often the view is drawn.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Room for events that nobody has read yet; a run has six.
const EVENTS_MAX: usize = 16;

/// What to run.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) run: Duration,
    pub(crate) rate: u32,
    pub(crate) seed: u64,
    pub(crate) script: ScriptKind,
    pub(crate) keep: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) hold: bool,
}

/// Runs it all, until `stop` at most. Whatever was started is gone when this returns.
///
/// # Errors
///
/// When a process cannot be started or dies by itself, or the run is interrupted. A run that breaks
/// promises is not an error here: the report says so.
pub(crate) async fn run(options: &Options, stop: &mut Stop) -> Result<Report, Failure> {
    let temporary = match &options.keep {
        Some(_) => None,
        None => Some(temporary_folder()?),
    };
    let dir = temporary.as_ref().map(tempfile::TempDir::path).or(options.keep.as_deref());
    let dir = dir.unwrap_or_else(|| Path::new(".")).to_owned();
    let mut view = View::new(options.json, usize::from(GOVERNANCE));
    let mut system = unless(stop, System::start(options, &dir, &view)).await?;
    let shared = unless(stop, system.attack(options, &mut view)).await?;
    view.finish();
    if options.hold {
        system.announce();
        stop.asked().await;
    }
    unless(stop, system.finish(options, &shared)).await
}

async fn unless<T>(
    stop: &mut Stop,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        result = work => result,
        _ = stop.asked() => Err(Failure::other("interrupted")),
    }
}

fn temporary_folder() -> Result<tempfile::TempDir, Failure> {
    // Short: the path of a socket in it must fit into 100 bytes.
    tempfile::Builder::new()
        .prefix("alys-demo-")
        .tempdir()
        .map_err(|error| Failure::file("make a folder in", &std::env::temp_dir(), &error))
}

/// All processes, and what is known about them.
struct System {
    minted: Minted,
    node: Process,
    governance: Vec<Process>,
    sight: channel::Receiver<Sight>,
    /// Owns the task that looks at the node.
    _watcher: JoinSet<()>,
}

impl System {
    async fn start(options: &Options, dir: &Path, view: &View) -> Result<Self, Failure> {
        let minted = mint::mint(&Plan {
            dir: dir.to_owned(),
            governance: GOVERNANCE,
            threshold: THRESHOLD,
            script: options.script,
            ports: Ports::Free,
        })?;
        view.say(&format!(
            "federation {THRESHOLD} of {GOVERNANCE}, {}",
            minted.federation.address(mint::NETWORK)
        ))?;
        let mut governance = Vec::new();
        for one in &minted.governance {
            let log = dir.join(&one.id).join("log.txt");
            let admin = one.admin.to_string();
            governance.push(Process::start(&one.id, "governance", &one.config, log, admin)?);
        }
        for one in &mut governance {
            one.ready().await?;
        }
        let log = dir.join("node").join("log.txt");
        let admin = minted.node.admin.to_string();
        let mut node =
            Process::start(mint::NODE_ID, "node", &minted.node.config, log, admin.clone())?;
        node.ready().await?;
        let (looks, mut sight) = channel::channel(Sight::default());
        let mut watcher = JoinSet::new();
        watcher.spawn(watch::run(admin, looks));
        let up = sight.wait_for(|sight| sight.all_up(usize::from(GOVERNANCE)));
        tokio::time::timeout(CONNECT_MAX, up)
            .await
            .map_err(|_| node.failed("does not reach all governance nodes"))?
            .map_err(|_| Failure::other("nobody looks at the node"))?;
        view.say(&format!(
            "connected; {} requests/s for {} s, seed {}",
            options.rate,
            options.run.as_secs(),
            options.seed
        ))?;
        Ok(Self { minted, node, governance, sight, _watcher: watcher })
    }

    /// Puts load on, breaks things, and waits for everything accepted to end.
    async fn attack(&mut self, options: &Options, view: &mut View) -> Result<Arc<Shared>, Failure> {
        let (events, mut heard) = mpsc::channel(EVENTS_MAX);
        let shared = Arc::new(Shared::new(Instant::now(), events));
        let mut load = JoinSet::new();
        load.spawn(workload::run(self.workload(options)?, Arc::clone(&shared)));
        let (sight, books) = (self.sight.clone(), Arc::clone(&shared));
        let (victim, node) = (&mut self.governance[VICTIM], &mut self.node);
        let faults = faults::run(victim, node, &books, sight.clone(), options.run);
        tokio::pin!(faults);
        let give_up = shared.started() + options.run + SETTLE_MAX;
        let mut draws = tokio::time::interval(SHOW_EVERY);
        let (mut attacking, mut loading) = (true, true);
        while attacking || loading {
            tokio::select! {
                Some(event) = heard.recv() => view.event(&event)?,
                result = &mut faults, if attacking => {
                    result?;
                    attacking = false;
                }
                Some(_) = load.join_next(), if loading => loading = false,
                _ = draws.tick() => show(view, options, &shared, &sight)?,
                () = sleep_until(give_up) => {
                    view.say("some messages have no end yet: no longer waited for")?;
                    break;
                }
            }
        }
        load.shutdown().await;
        while let Ok(event) = heard.try_recv() {
            view.event(&event)?;
        }
        show(view, options, &shared, &sight)?;
        Ok(shared)
    }

    fn workload(&self, options: &Options) -> Result<Workload, Failure> {
        let address: Address =
            self.minted.node.submission.parse().map_err(|error| Failure::other(&error))?;
        Ok(Workload {
            client: Client::connect_lazy(&address)?,
            federation: self.minted.federation.script_pubkey(),
            threshold: THRESHOLD,
            rate: options.rate,
            run: options.run,
            seed: options.seed,
        })
    }

    /// Says where everything is, as commands to copy. Not on standard output, which may belong to a
    /// program.
    fn announce(&self) {
        let (node, admin) = (&self.minted.node.submission, self.minted.node.admin);
        let config = self.minted.node.config.display();
        let first = self.minted.governance.first().map_or("governance-1", |one| one.id.as_str());
        output::note("holding until Ctrl-C; look at it with");
        for command in [
            format!("endpoints --node {node}"),
            format!("endpoints --node {node} --json"),
            format!("endpoints --node {node} reconnect {first} --wait"),
            format!("endpoints test {first} --config {config} --no-session"),
            format!("status --admin {admin}"),
            format!("dlq --node {node} list"),
            format!("tail --node {node}"),
            format!("send --node {node} --wait app --kind 1000 --text hello"),
        ] {
            output::note(format_args!("  alys-stream {command}"));
        }
        output::note(format_args!("  curl http://{admin}/metrics"));
        for one in &self.minted.governance {
            output::note(format_args!("  curl http://{}/status    # {}", one.admin, one.id));
        }
    }

    /// Stops all processes, and counts.
    async fn finish(self, options: &Options, shared: &Shared) -> Result<Report, Failure> {
        let sight = self.sight.borrow().clone();
        let mut stubborn = Vec::new();
        // The node first, so that the governance nodes do not see a connection break.
        for process in std::iter::once(self.node).chain(self.governance) {
            let name = process.name().to_owned();
            if !process.stop().await {
                stubborn.push(name);
            }
        }
        let ledgers = ledgers::read_all(&self.minted.governance)?;
        let threshold = usize::try_from(THRESHOLD).unwrap_or(usize::MAX);
        let accounts = shared.accounts();
        let verdict = accounts.verdict(&ledgers, threshold);
        Ok(Report::new(Findings {
            accounts: &accounts,
            verdict: &verdict,
            sight: &sight,
            run: options.run,
            seed: options.seed,
            stubborn,
        }))
    }
}

fn show(
    view: &mut View,
    options: &Options,
    shared: &Shared,
    sight: &channel::Receiver<Sight>,
) -> Result<(), Failure> {
    let (counts, in_flight) = {
        let accounts = shared.accounts();
        (accounts.counts(), accounts.in_flight())
    };
    let sight = sight.borrow().clone();
    view.show(&Moment { now: shared.now(), run: options.run, counts, in_flight, sight: &sight })
}
