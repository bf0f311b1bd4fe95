//! Everything that a development federation needs before it can start: a certificate authority,
//! certificates, federation keys and configuration files.
//!
//! For development and for the demo. A real federation makes each secret on the machine that uses
//! it; here one process makes all of them.
//!
//! Invariants: what is there already is never overwritten (N1); secrets are readable by their owner
//! alone, from the moment the file exists (N2).

mod authority;
mod files;
mod ports;
mod render;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use alys_stream_protocol::federation::{Federation, Member, ScriptKind};
use alys_stream_protocol::limits;
use bitcoin::secp256k1::{Keypair, Secp256k1};

use self::authority::Authority;
use self::files::Files;
pub(crate) use self::ports::Ports;
pub(crate) use self::render::NETWORK;
use crate::failure::Failure;

/// The identity of the node in what is minted.
pub(crate) const NODE_ID: &str = "alys-1";

/// The longest path that every Unix accepts for a socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// What to mint.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// The folder for all of it; made when it is missing.
    pub(crate) dir: PathBuf,
    /// How many governance nodes. Each has one federation key; where there are more than members can
    /// be, several have that of the same member.
    pub(crate) governance: u16,
    /// How many signatures complete an input.
    pub(crate) threshold: u32,
    /// How the federation locks its outputs.
    pub(crate) script: ScriptKind,
    /// Where they listen.
    pub(crate) ports: Ports,
}

/// What was minted.
#[derive(Debug)]
pub(crate) struct Minted {
    /// The node's part.
    pub(crate) node: MintedNode,
    /// The governance nodes, in order.
    pub(crate) governance: Vec<MintedGovernance>,
    /// The federation that they make.
    pub(crate) federation: Federation,
    /// Every file, as it was written.
    pub(crate) files: Vec<PathBuf>,
}

/// The files and addresses of the node.
#[derive(Debug)]
pub(crate) struct MintedNode {
    /// `node --config` reads it.
    pub(crate) config: PathBuf,
    /// Where its HTTP is.
    pub(crate) admin: SocketAddr,
    /// Where its submission interface is, as `--node` takes it.
    pub(crate) submission: String,
}

/// The files and addresses of one governance node.
#[derive(Debug)]
pub(crate) struct MintedGovernance {
    /// Its name, and that of its federation member and of its endpoint.
    pub(crate) id: String,
    /// `governance --config` reads it.
    pub(crate) config: PathBuf,
    /// Where its gRPC is.
    pub(crate) listen: SocketAddr,
    /// Where its HTTP is.
    pub(crate) admin: SocketAddr,
    /// Where its inbox and ledger are.
    pub(crate) data_dir: PathBuf,
}

/// Writes all of it.
///
/// # Errors
///
/// When the folder is in use already, a file cannot be written, or the federation is impossible.
pub(crate) fn mint(plan: &Plan) -> Result<Minted, Failure> {
    let keys = federation_keys(plan.governance);
    let federation = federation(plan, &keys)?;
    let addresses = plan.ports.choose(plan.governance)?;
    let mut files = Files::create(&plan.dir)?;
    let authority = Authority::mint()?;
    files.public("ca/ca.pem", &authority.certificate_pem())?;
    files.secret("ca/ca-key.pem", &authority.key_pem())?;

    let mut governance = Vec::new();
    for ((index, keypair), at) in keys.iter().cycle().enumerate().zip(&addresses.governance) {
        let id = governance_id(index);
        governance.push(mint_governance(plan, &mut files, &authority, keypair, &id, *at, &keys)?);
    }
    let node = mint_node(plan, &mut files, &authority, &governance, addresses.node, &keys)?;
    Ok(Minted { node, governance, federation, files: files.written() })
}

fn mint_governance(
    plan: &Plan,
    files: &mut Files,
    authority: &Authority,
    keypair: &Keypair,
    id: &str,
    at: ports::GovernancePorts,
    keys: &[Keypair],
) -> Result<MintedGovernance, Failure> {
    let identity = authority.issue_server(id)?;
    files.public(&format!("{id}/tls.pem"), &identity.certificate_pem)?;
    files.secret(&format!("{id}/tls-key.pem"), &identity.key_pem)?;
    let secret = hex::encode(keypair.secret_bytes());
    files.secret(&format!("{id}/federation.key"), &format!("{secret}\n"))?;
    let text = render::governance(plan, id, at, &members(keys));
    let config = files.public(&format!("{id}/governance.yaml"), &text)?;
    Ok(MintedGovernance {
        id: id.to_owned(),
        config,
        listen: at.listen,
        admin: at.admin,
        data_dir: plan.dir.join(id).join("data"),
    })
}

fn mint_node(
    plan: &Plan,
    files: &mut Files,
    authority: &Authority,
    governance: &[MintedGovernance],
    at: ports::NodePorts,
    keys: &[Keypair],
) -> Result<MintedNode, Failure> {
    let identity = authority.issue_client(NODE_ID)?;
    files.public("node/tls.pem", &identity.certificate_pem)?;
    files.secret("node/tls-key.pem", &identity.key_pem)?;
    let socket = files.root().join("node/node.sock");
    // A path that is too long for a socket is replaced by a port rather than refused.
    let fits = socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
    let (listen, submission) = if fits {
        ("unix:node.sock".to_owned(), format!("unix:{}", socket.display()))
    } else {
        (at.submission.to_string(), at.submission.to_string())
    };
    let text = render::node(plan, governance, at.admin, &listen, &members(keys));
    let config = files.public("node/node.yaml", &text)?;
    Ok(MintedNode { config, admin: at.admin, submission })
}

fn federation_keys(nodes: u16) -> Vec<Keypair> {
    let count = usize::from(nodes).min(limits::FEDERATION_MEMBERS_MAX);
    let secp = Secp256k1::new();
    let mut rng = bitcoin::secp256k1::rand::thread_rng();
    (0..count).map(|_| Keypair::new(&secp, &mut rng)).collect()
}

fn governance_id(index: usize) -> String {
    format!("governance-{}", index + 1)
}

fn members(keys: &[Keypair]) -> Vec<Member> {
    let member = |(index, keypair): (usize, &Keypair)| Member {
        id: governance_id(index),
        public_key: keypair.public_key(),
        weight: 1,
    };
    keys.iter().enumerate().map(member).collect()
}

fn federation(plan: &Plan, keys: &[Keypair]) -> Result<Federation, Failure> {
    Federation::try_new(plan.threshold, members(keys), plan.script)
        .map_err(|error| Failure::usage(format_args!("--threshold {}: {error}", plan.threshold)))
}

/// The folder as an absolute path, so that printed commands work from anywhere.
fn absolute(dir: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(dir).map_err(|error| Failure::file("find", dir, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dir: &tempfile::TempDir, governance: u16, threshold: u32) -> Plan {
        Plan {
            dir: dir.path().join("federation"),
            governance,
            threshold,
            script: ScriptKind::P2wsh,
            ports: Ports::Free,
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(&dir, 3, 2);
        let minted = mint(&plan).unwrap();
        assert_eq!(minted.governance.len(), 3);
        let failure = mint(&plan).unwrap_err();
        assert!(failure.to_string().contains("is not empty"), "{failure}");
    }

    #[test]
    fn more_nodes_than_members_share_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(&dir, 22, 1);
        let minted = mint(&plan).unwrap();
        assert_eq!((minted.governance.len(), minted.federation.members().len()), (22, 20));
        let key = |n: usize| {
            let id = &minted.governance[n - 1].id;
            std::fs::read_to_string(plan.dir.join(id).join("federation.key")).unwrap()
        };
        assert_eq!(minted.governance[21].id, "governance-22");
        assert_eq!((key(21) == key(1), key(22) == key(2)), (true, true));
        assert_ne!(key(1), key(2));
    }

    #[test]
    fn a_threshold_above_the_members_is_wrong_usage() {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(&dir, 2, 3);
        let failure = mint(&plan).unwrap_err();
        assert_eq!(failure.exit(), crate::failure::Exit::Usage);
        assert!(!plan.dir.exists(), "nothing may be written");
    }
}
