//! A running node reads its configuration file again.

use serde_json::Value;

use crate::program::{Federation, Running, alys};

const FILE: &str = "node/node.yaml";

struct Node {
    federation: Federation,
    running: Running,
    admin: String,
}

impl Node {
    fn start() -> Self {
        let federation = Federation::init();
        let admin = federation.value(FILE, "admin:\n  listen: ");
        let running = Running::node(&federation);
        Self { federation, running, admin }
    }

    /// Puts `section` before everything else in the file.
    fn prepend(&self, section: &str) {
        let path = self.federation.path(FILE);
        let text = std::fs::read_to_string(&path).expect("the file is there");
        std::fs::write(&path, format!("{section}{text}")).expect("it can be written");
    }

    fn status(&self) -> Value {
        let run = alys(["status", "--admin", &self.admin, "--json"]);
        run.succeeded();
        serde_json::from_str(&run.stdout).expect("the status is JSON")
    }

    /// The policy, the generation, failures, and what needs a restart.
    #[track_caller]
    fn check(&self, policy: &str, generation: u64, failures: u64, needs_restart: &[&str]) {
        let status = self.status();
        assert_eq!(status["balance"], policy, "{status:#}");
        let config = &status["config"];
        assert_eq!(config["generation"], generation, "{config}");
        assert_eq!(config["failures"], failures, "{config}");
        assert_eq!(config["needs_restart"], serde_json::json!(needs_restart), "{config}");
    }
}

#[test]
fn another_policy_comes_into_force_and_the_rest_is_named() {
    let mut node = Node::start();
    node.check("peak_ewma", 1, 0, &[]);
    node.prepend("balance: {policy: round_robin}\nshutdown: {drain: 7s}\n");
    let log = node.running.hang_up("read again");
    let said = "balance is applied (policy round_robin); what differs in shutdown needs a restart";
    assert!(log.contains(said), "{log}");
    node.check("round_robin", 2, 0, &["shutdown"]);
    let log = node.running.hang_up("read again");
    assert!(log.contains("balance is as it was; what differs in shutdown"), "{log}");
    node.check("round_robin", 2, 0, &["shutdown"]);
    assert_eq!(node.running.terminate(), Some(0));
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut node = Node::start();
    node.prepend("balance: {policy: round_robn}\n");
    for _ in 0..2 {
        let log = node.running.hang_up("nothing changes");
        for part in ["node.yaml:1", "balance.policy", "did you mean `round_robin`"] {
            assert!(log.contains(part), "{part:?} in {log}");
        }
    }
    let status = node.status();
    assert_eq!(status["balance"], "peak_ewma");
    let error = status["config"]["error"].as_str().unwrap();
    assert!(error.contains("balance.policy"), "{error}");
    node.federation.edit(FILE, "round_robn", "latency");
    let log = node.running.hang_up("read again");
    assert!(log.contains("balance is applied (policy latency)"), "{log}");
    node.check("latency", 2, 2, &[]);
    assert_eq!(node.status()["config"]["error"], Value::Null);
    assert_eq!(node.running.terminate(), Some(0));
}
