//! A governance node within the example's own process, on loopback, so that the examples need
//! nothing else. Without TLS, which only loopback allows: `alys-stream init` writes certificates
//! for anything more.

use std::error::Error;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use alys_stream_governance::{GovernanceConfig, GovernanceNode, Running};
use alys_stream_protocol::federation::{Federation, Member, ScriptKind};
use bitcoin::secp256k1::{Keypair, Secp256k1, rand};

/// A governance node and the federation of one that it signs for.
pub(crate) struct Peer {
    pub(crate) running: Running,
    pub(crate) federation: Federation,
    member: String,
}

impl Peer {
    /// Starts one whose data is below `dir`.
    pub(crate) async fn start(dir: &Path) -> Result<Self, Box<dyn Error>> {
        let keypair = Keypair::new(&Secp256k1::new(), &mut rand::thread_rng());
        let member = keypair.public_key().to_string();
        let keys = dir.join("federation.key");
        std::fs::write(&keys, hex::encode(keypair.secret_bytes()))?;
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600))?;
        let text = format!(
            "id: governance-1\ndata_dir: {}\nkeys: {}\n{}insecure: plaintext_without_authentication\n",
            dir.join("governance-data").display(),
            keys.display(),
            section(&member),
        );
        let file = dir.join("governance.yaml");
        std::fs::write(&file, text)?;
        let running = GovernanceNode::start(GovernanceConfig::load(&file)?).await?;
        let public_key = keypair.public_key();
        let members = vec![Member { id: "governance-1".into(), public_key, weight: 1 }];
        let federation = Federation::try_new(1, members, ScriptKind::P2wsh)?;
        Ok(Self { running, federation, member })
    }

    /// The configuration of a node that talks to it, with its data below `dir`.
    pub(crate) fn node_yaml(&self, dir: &Path) -> String {
        format!(
            "node: {{id: alys-1}}\ndata_dir: {}\n\
             endpoints: [{{name: governance-1, url: 'http://{}', insecure: plaintext}}]\n{}",
            dir.join("node-data").display(),
            self.running.local_addr(),
            section(&self.member),
        )
    }
}

fn section(public_key: &str) -> String {
    format!(
        "federation:\n  network: regtest\n  threshold: 1\n  members:\n    - id: governance-1\n      public_key: {public_key}\n"
    )
}
