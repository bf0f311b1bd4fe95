//! A node and its governance nodes, minted by `alys-stream init` and run as processes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_stream_governance::read_ledger;
use alys_stream_protocol::message::MessageId;

use crate::clock::Clock;
use crate::network::Network;
use crate::process::{Around, Served, run};
use crate::submission::Client;

/// Processes in a folder of their own.
#[derive(Debug)]
pub struct Deployment {
    folder: tempfile::TempDir,
    /// The Alys node.
    pub node: Served,
    /// Its governance nodes.
    pub governance: Vec<Served>,
}

/// Files for `governance` governance nodes and one node, on free ports.
///
/// # Panics
///
/// When they cannot be made.
#[must_use]
pub fn mint(governance: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("d");
    let count = governance.to_string();
    let made = run([
        "init",
        "--dir",
        path.to_str().expect("a plain path"),
        "--governance",
        &count,
        "--free-ports",
    ]);
    assert!(made.status.success(), "init: {}", String::from_utf8_lossy(&made.stderr));
    folder
}

impl Deployment {
    /// Mints and starts everything; ready when this returns.
    ///
    /// # Panics
    ///
    /// When something does not start.
    pub async fn start(governance: usize) -> Self {
        Self::start_in(mint(governance), governance).await
    }

    /// Starts everything that was minted in a folder, and changed since; ready when this returns.
    ///
    /// # Panics
    ///
    /// When something does not start.
    pub async fn start_in(folder: tempfile::TempDir, governance: usize) -> Self {
        Self::start_with(folder, governance, |_| Around::default()).await
    }

    /// The same, over a network of the kernel's own.
    ///
    /// # Panics
    ///
    /// When something does not start.
    pub async fn start_over(
        network: &Network,
        folder: tempfile::TempDir,
        governance: usize,
    ) -> Self {
        network.configure(&folder.path().join("d"));
        Self::start_with(folder, governance, |place| network.around(place)).await
    }

    /// The same, with a clock for each process: that of the node first.
    ///
    /// # Errors
    ///
    /// Why clocks of processes cannot be set here.
    ///
    /// # Panics
    ///
    /// When something does not start.
    pub async fn start_with_clocks(
        folder: tempfile::TempDir,
        governance: usize,
    ) -> Result<(Self, Vec<Clock>), String> {
        let path = |place: usize| folder.path().join(format!("clock-{place}"));
        let clocks: Vec<Clock> =
            (0..=governance).map(|place| Clock::try_new(&path(place))).collect::<Result<_, _>>()?;
        let this = Self::start_with(folder, governance, |place| clocks[place].around());
        Ok((this.await, clocks))
    }

    /// Starts each process in what is around its place: the node is the first.
    async fn start_with(
        folder: tempfile::TempDir,
        governance: usize,
        around: impl Fn(usize) -> Around,
    ) -> Self {
        let root = folder.path().join("d");
        let start = |place, what: &str, config: &Path| {
            Served::start_in(around(place), what, config, &admin_of(config))
        };
        let mut nodes = Vec::new();
        for index in 1..=governance {
            let config = root.join(format!("governance-{index}/governance.yaml"));
            nodes.push(start(index, "governance", &config));
        }
        let mut node = start(0, "node", &root.join("node/node.yaml"));
        for governance in &mut nodes {
            governance.ready().await;
        }
        node.ready().await;
        Self { folder, node, governance: nodes }
    }

    /// Where the files are.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("d")
    }

    /// A client of the node's submission interface; connects when it is used.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.root().join("node/node.sock"))
    }

    /// How `--node` names the node.
    #[must_use]
    pub fn node_address(&self) -> String {
        format!("unix:{}", self.root().join("node/node.sock").display())
    }

    /// Stops everything politely and counts how often each governance node applied each message.
    ///
    /// # Panics
    ///
    /// When something does not stop, or a ledger cannot be read.
    pub async fn stop(self) -> Vec<BTreeMap<MessageId, u64>> {
        self.stop_and_read(ledger).await
    }

    /// Stops everything politely and reads the data directory of each governance node.
    ///
    /// # Panics
    ///
    /// When something does not stop.
    pub async fn stop_and_read<T>(self, read: impl Fn(&Path) -> T) -> Vec<T> {
        self.node.stop().await;
        let count = self.governance.len();
        for governance in self.governance {
            governance.stop().await;
        }
        let root = self.folder.path().join("d");
        (1..=count).map(|index| read(&root.join(format!("governance-{index}/data")))).collect()
    }
}

fn ledger(data: &Path) -> BTreeMap<MessageId, u64> {
    read_ledger(data).expect("the ledger is readable").into_iter().collect()
}

/// Has the node reach a governance node, by its number from 1, through another address.
///
/// # Panics
///
/// When the configurations cannot be changed.
pub fn reach_through(root: &Path, governance: usize, through: SocketAddr) {
    let listen = listen_of(&root.join(format!("governance-{governance}/governance.yaml")));
    edit(&root.join("node/node.yaml"), |text| text.replace(&listen, &through.to_string()));
}

/// Has a governance node, by its number from 1, ask for heartbeats so often.
///
/// # Panics
///
/// When its configuration cannot be changed.
pub fn heartbeat_every(root: &Path, governance: usize, interval: Duration) {
    let config = root.join(format!("governance-{governance}/governance.yaml"));
    let line = format!("heartbeat: {}ms\n", interval.as_millis());
    edit(&config, |text| format!("{line}{text}"));
}

/// Has the node dial again within a time whatever refused it.
///
/// # Panics
///
/// When its configuration cannot be changed.
pub fn dial_again_within(root: &Path, backoff_max: Duration) {
    let millis = backoff_max.as_millis();
    let line = format!("transport: {{backoff: {{backoff_max: {millis}ms}}}}\n");
    edit(&root.join("node/node.yaml"), |text| format!("{line}{text}"));
}

pub(crate) fn edit(config: &Path, change: impl FnOnce(&str) -> String) {
    let text = std::fs::read_to_string(config).expect("a configuration");
    std::fs::write(config, change(&text)).expect("a configuration can be written");
}

/// The address that a governance node of ours listens on.
///
/// # Panics
///
/// When its configuration names none.
#[must_use]
pub fn listen_of(config: &Path) -> String {
    let text = std::fs::read_to_string(config).expect("a configuration");
    let listen = text.lines().find_map(|line| line.strip_prefix("listen: "));
    listen.expect("an address").to_owned()
}

/// The admin address in a configuration file of ours.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn admin_of(config: &Path) -> String {
    let text = std::fs::read_to_string(config).expect("a configuration");
    let (_, admin) = text.split_once("admin:\n  listen: ").expect("an admin section");
    admin.lines().next().expect("an address").to_owned()
}
