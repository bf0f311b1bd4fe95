//! A whole node and a whole governance node in one process, over loopback.
//!
//! Without encryption: what it costs is measured by `alys-stream bench`, with every end a process of
//! its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_actor::{StreamConfig, StreamHandle, StreamSystem};
use alys_stream_config::NodeConfig;
use alys_stream_governance::{GovernanceConfig, GovernanceNode, Running};
use alys_stream_protocol::time::SystemClock;
use alys_stream_telemetry::metrics::Metrics;
use tokio::task::JoinSet;

use crate::message;

/// How often it is looked whether everything is acknowledged.
const LOOK: Duration = Duration::from_micros(200);

/// Both ends.
#[derive(Debug)]
pub struct Link {
    system: StreamSystem,
    governance: Option<Running>,
}

impl Link {
    /// Starts a node in a folder, and a governance node for it when it is to have one.
    ///
    /// # Panics
    ///
    /// When one does not start.
    pub async fn start(dir: &Path, is_served: bool) -> Self {
        let governance = if is_served { Some(governance(dir).await) } else { None };
        // Nobody listens on port 1 of loopback.
        let address = governance
            .as_ref()
            .map_or_else(|| "127.0.0.1:1".to_owned(), |it| it.local_addr().to_string());
        let text = format!(
            "node: {{id: bench}}\ndata_dir: node\n\
             endpoints: [{{name: gov, url: 'http://{address}', insecure: plaintext}}]\n"
        );
        let mut config = NodeConfig::parse(Path::new("bench.yaml"), &text).expect("it is valid");
        config.data_dir = dir.join("node");
        let loaded = config.complete().expect("it is complete");
        let config = StreamConfig { seed: 7, ..StreamConfig::from_loaded(loaded, "bench") };
        let metrics = Arc::new(Metrics::new());
        let system = StreamSystem::start(config, metrics, Arc::new(SystemClock)).await;
        Self { system: system.expect("the node starts"), governance }
    }

    /// The way in.
    #[must_use]
    pub fn handle(&self) -> StreamHandle {
        self.system.handle()
    }

    /// Has so many callers send `count` messages together, each waiting until its own is durable.
    ///
    /// # Panics
    ///
    /// When one is not accepted.
    pub async fn accept(&self, first: u64, count: u64, producers: u64) {
        let mut tasks = JoinSet::new();
        for producer in 0..producers {
            let handle = self.handle();
            tasks.spawn(async move {
                let mut number = producer;
                while number < count {
                    handle.send(message(first + number)).await.expect("there is room");
                    number += producers;
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.expect("no producer panics");
        }
    }

    /// Waits until nothing is unsettled.
    pub async fn settled(&self) {
        while self.handle().unsettled() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops both.
    pub async fn stop(self) {
        self.system.shutdown(Duration::ZERO).await;
        if let Some(governance) = self.governance {
            governance.shutdown(Duration::ZERO).await;
        }
    }
}

async fn governance(dir: &Path) -> Running {
    let text = "id: gov\ndata_dir: governance\nkeys: keys\ngenerate_keys: true\n\
                insecure: plaintext_without_authentication\n";
    let mut config = GovernanceConfig::parse(text).expect("it is valid");
    config.data_dir = dir.join("governance");
    config.keys = Some(dir.join("keys"));
    GovernanceNode::start(config).await.expect("the governance node starts")
}
