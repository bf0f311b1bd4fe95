//! A running node, without any governance node: it accepts, keeps, refuses and stops.

use crate::program::{Federation, Running, alys, check_error};

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[test]
fn what_was_accepted_survives_kill_9() {
    let federation = Federation::init();
    let at = federation.submission();
    let send = ["send", "--node", &at, "--id", ID, "app", "--kind", "1000", "--text", "hello"];
    let node = Running::node(&federation);
    let first = alys(send);
    first.succeeded();
    assert_eq!(first.stdout, format!("accepted {ID} as 1\n"));
    node.kill();
    let node = Running::node(&federation);
    let second = alys(send);
    second.succeeded();
    assert_eq!(second.stdout, format!("accepted {ID} as 1, as before\n"));
    assert_eq!(node.close(), Some(0));
}

#[test]
fn a_buffer_in_use_is_input_output() {
    let federation = Federation::init();
    let _node = Running::node(&federation);
    // The same data directory, everything else its own.
    let other = federation.path("node/other.yaml");
    std::fs::copy(federation.node_config(), &other).unwrap();
    let admin = federation.value("node/other.yaml", "admin:\n  listen: ");
    federation.edit("node/other.yaml", &admin, "127.0.0.1:0");
    federation.edit("node/other.yaml", "unix:node.sock", "unix:other.sock");
    let run = alys(["node", "--config", &other]);
    check_error(&run, 74, &["node/data", "in use"]);
}

#[test]
fn an_invalid_message_names_its_field() {
    let federation = Federation::init();
    let at = federation.submission();
    let _node = Running::node(&federation);
    let run = alys(["send", "--node", &at, "app", "--kind", "5", "--text", "x"]);
    check_error(&run, 2, &["kind", "1000"]);
    let run = alys([
        "send",
        "--node",
        &at,
        "pegin",
        "--txid",
        "zz",
        "--vout",
        "0",
        "--amount",
        "5",
        "--evm-address",
        "00000000000000000000000000000000000000aa",
    ]);
    check_error(&run, 2, &["btc_txid"]);
    let run = alys(["send", "--node", &at, "signature", "--tx", "zz", "--amount", "5"]);
    check_error(&run, 2, &["tx_hex"]);
    let run = alys([
        "send",
        "--node",
        &at,
        "signature",
        "--tx",
        "00",
        "--amount",
        "5",
        "--input",
        "0",
        "--input",
        "1",
    ]);
    check_error(&run, 2, &["--input", "--amount"]);
}

#[test]
fn an_oversize_message_is_refused_and_nothing_is_lost() {
    let federation = Federation::init();
    let at = federation.submission();
    let _node = Running::node(&federation);
    let big = federation.path("big");
    std::fs::write(&big, vec![b'x'; 5 * 1024 * 1024]).unwrap();
    let run = alys(["send", "--node", &at, "app", "--kind", "1000", "--file", &big]);
    check_error(&run, 2, &["5242880", "4194304"]);
    let run = alys(["send", "--node", &at, "--json", "app", "--kind", "1000", "--text", "small"]);
    run.succeeded();
    assert!(run.stdout.contains("\"seq\":1"), "{}", run.stdout);
}

#[test]
fn status_shows_the_endpoints() {
    let federation = Federation::init();
    let _node = Running::node(&federation);
    let admin = federation.value("node/node.yaml", "admin:\n  listen: ");
    let table = alys(["status", "--admin", &admin]);
    table.succeeded();
    assert!(table.stdout.contains("governance-3"), "{}", table.stdout);
    let json = alys(["status", "--admin", &admin, "--json"]);
    json.succeeded();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["endpoints"].as_array().map(Vec::len), Some(3));
}

#[test]
fn the_federation_signs_what_is_sent_by_hand() {
    let federation = Federation::init();
    let at = federation.submission();
    let governance = |index: u8| {
        let config = federation.path(&format!("governance-{index}/governance.yaml"));
        Running::start(
            &["governance", "--exit-with-stdin", "--config", &config],
            "governance node runs",
        )
    };
    let _governance = [1, 2, 3].map(governance);
    let _node = Running::node(&federation);
    // Version 2, one input, one output of 1000 satoshis to a script of one byte.
    let tx = format!("0200000001{}00000000" /* outpoint */, "11".repeat(32))
        + "00fdffffff" // empty script, replaceable
        + "01e8030000000000000151" // one output
        + "00000000";
    let run = alys(["send", "--node", &at, "--wait", "signature", "--tx", &tx, "--amount", "5000"]);
    run.succeeded();
    assert!(run.stdout.contains("complete"), "{}", run.stdout);
    assert!(run.stdout.contains("1 of 1 inputs signed"), "{}", run.stdout);
    assert!(run.stdout.contains("transaction 02000000"), "{}", run.stdout);
}

#[test]
fn tail_waits_for_a_node_that_restarts() {
    let federation = Federation::init();
    let node = Running::node(&federation);
    let mut tail = Running::start(&["tail", "--node", &federation.submission()], "connected to");
    node.kill();
    tail.logged("the node went away");
    let _node = Running::node(&federation);
    tail.logged("connected again");
}

#[test]
fn sigterm_ends_a_node_well() {
    let federation = Federation::init();
    let node = Running::node(&federation);
    assert_eq!(node.terminate(), Some(0));
    // Its socket is gone with it.
    assert!(!std::path::Path::new(&federation.path("node/node.sock")).exists());
}
