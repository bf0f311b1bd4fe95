//! A tree in this process, and governance nodes for it: real sockets, real files.
//!
//! Every governance node holds all keys of the federation, so that each can sign alone what it
//! pushes. Without TLS, which only loopback allows: what is tested here is above it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use alys_stream_actor::supervision::restart::RestartLimits;
use alys_stream_actor::{Status, StreamConfig, StreamHandle, StreamSystem};
use alys_stream_config::NodeConfig;
use alys_stream_governance::{GovernanceConfig, GovernanceNode, Running, read_ledger};
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::time::SystemClock;
use alys_stream_telemetry::metrics::Metrics;
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// What anything may take that takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Between two looks at something that comes by itself.
const LOOK: Duration = Duration::from_millis(2);

/// Members of the federation; two of them must sign.
const MEMBERS: u8 = 3;

/// Folders, governance nodes, and a configuration for a node.
pub(crate) struct Rig {
    folder: tempfile::TempDir,
    pub(crate) governance: Vec<Running>,
}

impl Rig {
    /// Starts so many governance nodes.
    pub(crate) async fn start(governance: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = folder.path().join("keys");
        let lines = (1..=MEMBERS).map(|member| hex::encode([member; 32]) + "\n");
        std::fs::write(&keys, lines.collect::<String>()).unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut rig = Self { folder, governance: Vec::new() };
        for number in 0..governance {
            let file = rig.path(&format!("governance-{number}.yaml"));
            let text = format!(
                "id: gov-{number}\ndata_dir: {}\nkeys: {}\nheartbeat: 500ms\n\
                 insecure: plaintext_without_authentication\n{}",
                rig.governance_dir(number).display(),
                keys.display(),
                federation(),
            );
            std::fs::write(&file, text).unwrap();
            let config = GovernanceConfig::load(&file).unwrap();
            rig.governance.push(GovernanceNode::start(config).await.unwrap());
        }
        rig
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn governance_dir(&self, number: usize) -> PathBuf {
        self.path(&format!("governance-{number}"))
    }

    /// The configuration of a node that dials them all. It restarts whatever dies, for ever and at
    /// once; tests of budgets set their own.
    pub(crate) fn config(&self) -> StreamConfig {
        let endpoints = self.governance.iter().enumerate().map(|(number, running)| {
            format!(
                "  - {{name: gov-{number}, url: 'http://{}', insecure: plaintext}}\n",
                running.local_addr()
            )
        });
        let text = format!(
            "node: {{id: alys-1}}\ndata_dir: {}\nbuffer: {{segment_bytes: 8396800, reserve_bytes: 0}}\n\
             transport: {{backoff: {{first: 20ms}}}}\nendpoints:\n{}{}",
            self.path("node").display(),
            endpoints.collect::<String>(),
            federation(),
        );
        let parsed = NodeConfig::parse(Path::new("node.yaml"), &text).unwrap();
        let mut config = StreamConfig::from_loaded(parsed.complete().unwrap(), "test/1");
        config.restarts = RestartLimits {
            restarts_max: 1000,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(20),
            ..RestartLimits::default()
        };
        config.seed = 7;
        config
    }

    /// A tree whose endpoints all carry data.
    pub(crate) async fn node(&self, config: StreamConfig) -> StreamSystem {
        let system = start(config).await;
        connected(&system.handle(), self.governance.len()).await;
        system
    }

    /// Has a governance node push something: `halt`, `federation_update` or `proposal`.
    pub(crate) async fn push(&self, governance: usize, what: &str, body: serde_json::Value) {
        let admin = self.governance[governance].admin_addr();
        let mut stream = TcpStream::connect(admin).await.unwrap();
        let body = body.to_string();
        let request = format!(
            "POST /push/{what} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Stops governance, and says how often each of them applied each message.
    pub(crate) async fn applied(self) -> Vec<BTreeMap<MessageId, u64>> {
        let count = self.governance.len();
        let dirs: Vec<_> = (0..count).map(|number| self.governance_dir(number)).collect();
        for running in self.governance {
            running.shutdown(Duration::ZERO).await;
        }
        let ledgers = dirs.iter().map(|dir| read_ledger(dir).unwrap().into_iter().collect());
        ledgers.collect()
    }
}

pub(crate) async fn start(config: StreamConfig) -> StreamSystem {
    StreamSystem::start(config, Arc::new(Metrics::new()), Arc::new(SystemClock)).await.unwrap()
}

/// Waits until so many endpoints carry data.
pub(crate) async fn connected(handle: &StreamHandle, endpoints: usize) {
    let live = |status: &Status| {
        status.endpoints.iter().filter(|endpoint| endpoint.connection.is_live()).count()
    };
    until("connected", || live(&handle.status()) == endpoints).await;
}

/// Waits for something that comes by itself.
pub(crate) async fn until(what: &str, mut is_there: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < give_up, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK).await;
    }
}

fn federation() -> String {
    let secp = Secp256k1::new();
    let members = (1..=MEMBERS).map(|member| {
        let secret = SecretKey::from_slice(&[member; 32]).unwrap();
        let public = Keypair::from_secret_key(&secp, &secret).public_key();
        format!("    - {{id: m{member}, public_key: {public}}}\n")
    });
    let members: String = members.collect();
    format!("federation:\n  network: regtest\n  threshold: 2\n  members:\n{members}")
}
