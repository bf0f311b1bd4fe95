//! The configuration files, as text: with comments, since a person reads them first.
//!
//! Every name in them is ours (`governance-1`, hexadecimal keys, loopback addresses), so nothing
//! needs quoting.

use std::net::SocketAddr;

use alys_stream_protocol::federation::{Member, ScriptKind};

use super::ports::GovernancePorts;
use super::{MintedGovernance, NODE_ID, Plan};

/// The Bitcoin network of development federations.
pub(crate) const NETWORK: bitcoin::Network = bitcoin::Network::Regtest;

/// The word for a kind of script in configuration files.
pub(crate) const fn script_word(script: ScriptKind) -> &'static str {
    match script {
        ScriptKind::P2wsh => "p2wsh",
        ScriptKind::P2tr => "p2tr",
    }
}

pub(super) fn governance(plan: &Plan, id: &str, at: GovernancePorts, members: &[Member]) -> String {
    let GovernancePorts { listen, admin } = at;
    let federation = federation(plan, members);
    format!(
        "\
# A governance node for development: alys-stream governance --config THIS_FILE
id: {id}
listen: {listen}
admin:
  listen: {admin}
# What it received and applied, and what it still has to send.
data_dir: data
tls:
  certificate: tls.pem
  key: tls-key.pem
  # Clients must present a certificate that this authority issued.
  client_ca: ../ca/ca.pem
# The secret keys of the members that this node signs for.
keys: federation.key
{federation}"
    )
}

pub(super) fn node(
    plan: &Plan,
    governance: &[MintedGovernance],
    admin: SocketAddr,
    submission: &str,
    members: &[Member],
) -> String {
    let federation = federation(plan, members);
    let endpoints: String = governance.iter().map(endpoint).collect();
    format!(
        "\
# An Alys stream node for development: alys-stream node --config THIS_FILE
node:
  id: {NODE_ID}
# The buffer, the inbox, dead letters and outcomes.
data_dir: data
tls:
  # The authority that governance certificates must come from.
  ca: ../ca/ca.pem
  certificate: tls.pem
  key: tls-key.pem
endpoints:
{endpoints}{federation}# Where other processes hand over messages.
submission:
  listen: {submission}
admin:
  listen: {admin}
"
    )
}

fn endpoint(peer: &MintedGovernance) -> String {
    let MintedGovernance { id, listen, .. } = peer;
    format!("  - name: {id}\n    url: https://{listen}\n")
}

fn federation(plan: &Plan, members: &[Member]) -> String {
    let (threshold, script) = (plan.threshold, script_word(plan.script));
    let member = |Member { id, public_key, .. }: &Member| {
        format!("    - id: {id}\n      public_key: {public_key}\n")
    };
    let members: String = members.iter().map(member).collect();
    format!(
        "\
federation:
  network: {NETWORK}
  threshold: {threshold}
  script: {script}
  members:
{members}"
    )
}
