//! A node and a governance node in this process, on loopback, without TLS.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_actor::letters::{LetterFilter, LettersPage, PageBounds};
use alys_stream_actor::supervision::restart::RestartLimits;
use alys_stream_actor::{Accepted, StreamConfig, StreamHandle, StreamSystem};
use alys_stream_config::NodeConfig;
use alys_stream_governance::{GovernanceConfig, GovernanceNode, Running};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority};
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::SystemClock;
use alys_stream_telemetry::metrics::Metrics;
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};

/// A kind of an application, which governance acknowledges.
const KIND: MessageKind = MessageKind(1000);

pub(crate) struct Rig {
    folder: tempfile::TempDir,
    governance: Option<Running>,
    url: String,
}

fn keypair() -> Keypair {
    Keypair::from_secret_key(&Secp256k1::new(), &SecretKey::from_slice(&[1; 32]).unwrap())
}

fn federation() -> String {
    let public_key = keypair().public_key();
    format!(
        "federation:\n  network: regtest\n  threshold: 1\n  members:\n    - {{id: m1, public_key: {public_key}}}\n"
    )
}

impl Rig {
    /// With a governance node.
    pub(crate) async fn start() -> Self {
        let mut rig = Self::alone();
        let keys = rig.folder.path().join("keys");
        std::fs::write(&keys, hex::encode(keypair().secret_bytes())).unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
        let text = format!(
            "id: gov\ndata_dir: {}\nkeys: {}\ninsecure: plaintext_without_authentication\n{}",
            rig.folder.path().join("governance").display(),
            keys.display(),
            federation(),
        );
        let file = rig.folder.path().join("governance.yaml");
        std::fs::write(&file, text).unwrap();
        let config = GovernanceConfig::load(&file).unwrap();
        let running = GovernanceNode::start(config).await.unwrap();
        rig.url = format!("http://{}", running.local_addr());
        rig.governance = Some(running);
        rig
    }

    /// Nobody is at the other end.
    pub(crate) fn alone() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Nobody listens at the port of discarding.
        Self { folder, governance: None, url: "http://127.0.0.1:9".to_owned() }
    }

    /// A node. It restarts whatever dies, for ever and at once.
    pub(crate) async fn node(&self) -> StreamSystem {
        let text = format!(
            "node: {{id: alys-1}}\ndata_dir: {}\nbuffer: {{segment_bytes: 8396800, reserve_bytes: 0}}\n\
             endpoints: [{{name: gov, url: '{}', insecure: plaintext}}]\n{}",
            self.folder.path().join("node").display(),
            self.url,
            federation(),
        );
        let parsed = NodeConfig::parse(Path::new("node.yaml"), &text).unwrap();
        let mut config = StreamConfig::from_loaded(parsed.complete().unwrap(), "test/1");
        config.restarts = RestartLimits {
            restarts_max: 1000,
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_millis(5),
            ..RestartLimits::default()
        };
        config.seed = 7;
        let (metrics, clock) = (Arc::new(Metrics::new()), Arc::new(SystemClock));
        StreamSystem::start(config, metrics, clock).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        if let Some(running) = self.governance {
            running.shutdown(Duration::ZERO).await;
        }
    }
}

pub(crate) fn message(bytes: usize) -> Message {
    Message {
        id: MessageId::mint(),
        kind: KIND,
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: vec![7; bytes].into(),
    }
}

/// The number that the next message will get. Waits for a StreamActor that is being started again:
/// one that was killed may end only now.
pub(crate) async fn next_seq(handle: &StreamHandle) -> u64 {
    loop {
        if let Some(log) = handle.status().log {
            return log.next_seq;
        }
        // Whatever is asked waits for it.
        handle.follow(MessageId::mint()).await.unwrap();
    }
}

/// It is accepted once, whatever became of an earlier try.
pub(crate) async fn assert_once(handle: &StreamHandle, message: &Message) -> Accepted {
    let first = handle.send(message.clone()).await.unwrap();
    let before = next_seq(handle).await;
    let again = handle.send(message.clone()).await.unwrap();
    assert_eq!((again.seq, again.duplicate), (first.seq, true));
    assert_eq!(next_seq(handle).await, before, "stored once");
    first
}

/// It reaches governance, which says so.
pub(crate) async fn delivered(handle: &StreamHandle, id: MessageId) {
    let mut follow = handle.follow(id).await.unwrap().unwrap();
    assert_eq!(follow.finished_outcome().await.unwrap().state(), OutcomeState::Complete);
}

/// The system still does what it is for.
pub(crate) async fn works(handle: &StreamHandle) {
    let accepted = handle.send(message(10)).await.unwrap();
    delivered(handle, accepted.id).await;
}

pub(crate) async fn letters(handle: &StreamHandle) -> LettersPage {
    let bounds = PageBounds { after: None, count_max: 1000, bytes_max: 1 << 20 };
    handle.dead_letters(LetterFilter::default(), bounds).await.unwrap()
}
