//! What an operator sees of the links to governance, and does about them.

use serde_json::Value;

use crate::program::{Federation, Run, Running, alys, check_error};

fn governance(federation: &Federation, index: u8) -> Running {
    let config = federation.path(&format!("governance-{index}/governance.yaml"));
    Running::start(
        &["governance", "--exit-with-stdin", "--config", &config],
        "governance node runs",
    )
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

fn endpoints(federation: &Federation, args: &[&str]) -> Run {
    let at = federation.submission();
    alys([&["endpoints", "--node", &at], args].concat())
}

#[test]
fn each_link_is_shown_with_its_state() {
    let federation = Federation::init();
    let _governance = [1, 2].map(|index| governance(&federation, index));
    let _node = Running::node(&federation);
    for up in ["governance-1", "governance-2"] {
        let run = endpoints(&federation, &["reconnect", up, "--wait"]);
        run.succeeded();
        assert!(run.stdout.contains(up), "{run:?}");
    }
    let run = endpoints(&federation, &["--json"]);
    run.succeeded();
    let shown = json(&run);
    let shown = shown.as_array().expect("a list");
    assert_eq!(shown.len(), 3, "{run:?}");
    for endpoint in &shown[..2] {
        assert_eq!(endpoint["state"], "healthy", "{endpoint:#}");
        assert!(endpoint["rtt_us"].as_u64() > Some(0), "{endpoint:#}");
        assert!(endpoint["session_id"].is_string(), "{endpoint:#}");
        assert_eq!(endpoint["dialect"], "session", "{endpoint:#}");
        assert!(endpoint["certificate_expires_at"].as_u64() > Some(0), "{endpoint:#}");
        assert!(endpoint["certificate_expires"].is_string(), "{endpoint:#}");
        assert!(endpoint["since"].is_string(), "{endpoint:#}");
        assert_eq!(endpoint["in_flight"], 0, "{endpoint:#}");
    }
    assert_ne!(shown[2]["state"], "healthy", "{:#}", shown[2]);
    let error = shown[2]["last_error"].as_str().expect("it is said why");
    assert!(error.contains("refused"), "{error}");
    let table = endpoints(&federation, &[]);
    table.succeeded();
    for part in ["governance-1", "healthy", "governance-3: last error: ", "breaker", "session"] {
        assert!(table.stdout.contains(part), "{part:?} in {}", table.stdout);
    }
}

#[test]
fn one_that_is_not_there_is_reconnected_in_vain() {
    let federation = Federation::init();
    let _node = Running::node(&federation);
    let run = endpoints(&federation, &["reconnect", "governance-2", "--wait"]);
    check_error(&run, 69, &["governance-2", "refused"]);
    let run = endpoints(&federation, &["reconnect", "governance-9"]);
    check_error(&run, 2, &["governance-9", "governance-1, governance-2, governance-3"]);
}

#[test]
fn a_test_walks_all_the_way() {
    let federation = Federation::init();
    let _governance = governance(&federation, 1);
    let config = federation.node_config();
    let run = alys(["endpoints", "test", "governance-1", "--config", &config]);
    run.succeeded();
    let words = run.stdout.lines().map(|line| line.split_whitespace().next());
    let passed = words.filter(|word| *word == Some("ok")).count();
    assert_eq!(passed, 7, "every step: {}", run.stdout);
    let run = alys(["endpoints", "test", "governance-1", "--config", &config, "--json"]);
    run.succeeded();
    assert_eq!(json(&run)["passed"], true, "{run:?}");
    assert_eq!(json(&run)["dialect"], "session", "{run:?}");
    let run = alys(["endpoints", "test", "governance-1", "--config", &config, "--no-session"]);
    run.succeeded();
    assert!(run.stdout.contains("not wanted"), "{}", run.stdout);
}

#[test]
fn a_test_names_the_step_that_fails() {
    let federation = Federation::init();
    let config = federation.node_config();
    let run = alys(["endpoints", "test", "governance-1", "--config", &config]);
    check_error(&run, 69, &["governance-1", "TCP connect", "refused"]);
    let run = alys(["endpoints", "test", "governance-1", "--config", &config, "--json"]);
    assert_eq!(json(&run)["failed_step"], "connect", "{run:?}");
    let run = alys(["endpoints", "test", "nobody", "--config", &config]);
    check_error(&run, 2, &["nobody", "governance-1"]);

    let _governance = governance(&federation, 2);
    federation.edit(
        "node/node.yaml",
        "- name: governance-2",
        "- name: governance-2\n    server_name: other.example",
    );
    let run = alys(["endpoints", "test", "governance-2", "--config", &config]);
    assert_eq!(run.code, 1, "{run:?}");
    check_error(&run, 1, &["governance-2", "TLS handshake", "other.example"]);
}
