//! Each mistake gives one line that names what, where and the cure, and its exit code.

use std::net::TcpListener;

use crate::program::{Federation, alys, check_error};

#[test]
fn every_subcommand_explains_itself() {
    let all = alys(["--help"]);
    all.succeeded();
    assert!(all.stdout.contains("Exit codes:"), "{}", all.stdout);
    for command in [
        "demo",
        "init",
        "node",
        "governance",
        "send",
        "tail",
        "status",
        "endpoints",
        "dlq",
        "buffer",
        "bench",
    ] {
        assert!(all.stdout.contains(command), "{command} in {}", all.stdout);
        let help = alys([command, "--help"]);
        help.succeeded();
        assert!(help.stdout.contains("Example"), "{command}: {}", help.stdout);
        assert!(help.stdout.contains("Exit codes:"), "{command}: {}", help.stdout);
    }
}

#[test]
fn wrong_usage_is_2() {
    for args in
        [&["bogus"][..], &["node"], &["demo", "--seconds", "x"], &["send", "--node", "?", "-"]]
    {
        assert_eq!(alys(args).code, 2, "{args:?}");
    }
}

#[test]
fn a_fresh_federation_passes_its_checks() {
    let federation = Federation::init();
    let node = alys(["node", "--check", "--config", &federation.node_config()]);
    node.succeeded();
    assert_eq!(node.stdout.lines().count(), 1, "{}", node.stdout);
    assert!(node.stdout.contains("3 endpoints, federation 2 of 3"), "{}", node.stdout);
    for index in 1..=3 {
        let config = federation.path(&format!("governance-{index}/governance.yaml"));
        alys(["governance", "--check", "--config", &config]).succeeded();
    }
}

#[test]
fn a_taproot_federation_passes_too() {
    let federation = Federation::init_with(&["--script", "p2tr", "--governance", "5"]);
    let node = alys(["node", "--check", "--config", &federation.node_config()]);
    node.succeeded();
    assert!(node.stdout.contains("federation 3 of 5"), "{}", node.stdout);
}

#[test]
fn init_overwrites_nothing() {
    let federation = Federation::init();
    check_error(&alys(["init", "--dir", &federation.path("")]), 2, &["is not empty", "new folder"]);
}

#[test]
fn a_missing_configuration_is_named() {
    let run = alys(["node", "--check", "--config", "no/such/node.yaml"]);
    check_error(&run, 78, &["no/such/node.yaml"]);
    let run = alys(["governance", "--check", "--config", "no/such/governance.yaml"]);
    check_error(&run, 78, &["no/such/governance.yaml"]);
}

#[test]
fn an_unknown_key_is_named_with_the_nearest() {
    let federation = Federation::init();
    federation.edit("node/node.yaml", "data_dir:", "datadir:");
    let run = alys(["node", "--check", "--config", &federation.node_config()]);
    check_error(&run, 78, &["node.yaml", "datadir", "did you mean", "data_dir"]);
}

#[test]
fn a_bad_url_is_named() {
    let federation = Federation::init();
    federation.edit("node/node.yaml", "url: https://", "url: gopher://");
    let run = alys(["node", "--check", "--config", &federation.node_config()]);
    check_error(&run, 78, &["node.yaml", "endpoints[0].url", "https"]);
}

#[test]
fn a_duplicate_endpoint_is_named() {
    let federation = Federation::init();
    federation.edit("node/node.yaml", "- name: governance-2", "- name: governance-1");
    let run = alys(["node", "--check", "--config", &federation.node_config()]);
    check_error(&run, 78, &["node.yaml", "endpoints[1].name", "governance-1"]);
}

#[test]
fn a_missing_certificate_is_named() {
    let federation = Federation::init();
    std::fs::remove_file(federation.path("node/tls.pem")).unwrap();
    let run = alys(["node", "--check", "--config", &federation.node_config()]);
    check_error(&run, 78, &["node.yaml", "tls.certificate", "tls.pem"]);
}

#[test]
fn an_unreadable_key_is_named_and_not_shown() {
    let federation = Federation::init();
    std::fs::write(federation.path("node/tls-key.pem"), "-----BEGIN SECRET STUFF-----\n").unwrap();
    let run = alys(["node", "--check", "--config", &federation.node_config()]);
    check_error(&run, 78, &["node.yaml", "tls.key", "tls-key.pem"]);
    assert!(!run.stderr.contains("STUFF"), "{}", run.stderr);
    std::fs::remove_file(federation.path("node/tls-key.pem")).unwrap();
    std::fs::create_dir(federation.path("node/tls-key.pem")).unwrap();
    let run = alys(["node", "--check", "--config", &federation.node_config()]);
    check_error(&run, 78, &["node.yaml", "tls.key", "tls-key.pem"]);
}

#[test]
fn a_federation_that_contradicts_itself_is_named() {
    let federation = Federation::init();
    federation.edit("node/node.yaml", "threshold: 2", "threshold: 4");
    let run = alys(["node", "--check", "--config", &federation.node_config()]);
    check_error(&run, 78, &["node.yaml", "federation", "4"]);
}

#[test]
fn a_governance_node_without_its_keys_says_so() {
    let federation = Federation::init();
    std::fs::remove_file(federation.path("governance-1/federation.key")).unwrap();
    let config = federation.path("governance-1/governance.yaml");
    check_error(&alys(["governance", "--config", &config]), 78, &["federation.key"]);
}

#[test]
fn a_port_in_use_is_unavailable() {
    let federation = Federation::init();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let admin = federation.value("node/node.yaml", "admin:\n  listen: ");
    federation.edit("node/node.yaml", &admin, &address);
    let run = alys(["node", "--config", &federation.node_config()]);
    check_error(&run, 69, &["admin", &address, "in use"]);
    let config = federation.path("governance-1/governance.yaml");
    let run = alys(["governance", "--config", &config, "--listen", &address]);
    check_error(&run, 69, &[&address]);
}

#[test]
fn a_data_directory_that_cannot_be_written_is_input_output() {
    let federation = Federation::init();
    // A file in its place: permissions would not stop a privileged user.
    std::fs::write(federation.path("node/data"), "").unwrap();
    let run = alys(["node", "--config", &federation.node_config()]);
    check_error(&run, 74, &["node/data"]);
}

#[test]
fn nobody_there_is_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let node = format!("unix:{}", dir.path().join("none.sock").display());
    for args in [
        &["send", "--node", &node, "app", "--kind", "1000", "--text", "x"][..],
        &["tail", "--node", &node],
        &["endpoints", "--node", &node],
        &["dlq", "--node", &node, "list"],
    ] {
        check_error(&alys(args), 69, &["none.sock", "--node"]);
    }
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    check_error(&alys(["status", "--admin", &free]), 69, &[&free, "--admin"]);
}
