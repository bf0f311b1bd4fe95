//! The demo keeps its promises, and says so in one JSON object.

use crate::program::{Running, alys, check_error};

#[test]
fn a_short_demo_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let keep = dir.path().join("kept");
    let keep = keep.to_str().unwrap();
    let run = alys(["demo", "--seconds", "6", "--rate", "10", "--json", "--keep", keep]);
    assert_eq!(run.stdout.lines().count(), 1, "{run:?}");
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(run.code, 0, "{report:#}\n{}", run.stderr);
    for key in ["lost", "applied_twice", "signatures_invalid", "dead_letters"] {
        assert_eq!(report[key], 0, "{key} in {report:#}");
    }
    assert_eq!(report["signatures_complete"], report["transactions_verified"]);
    assert!(report["signatures_complete"].as_u64() > Some(30), "{report:#}");
    let kinds: Vec<_> = report["faults"].as_array().unwrap().iter().map(|f| &f["kind"]).collect();
    assert_eq!(kinds, ["governance_killed", "governance_restarted", "node_restarted"]);
    assert!(std::path::Path::new(keep).join("node/log.txt").exists());
}

#[test]
fn a_held_demo_says_how_to_look_at_it() {
    let args = ["demo", "--seconds", "3", "--rate", "5", "--hold", "--json"];
    let mut demo = Running::start(&args, "holding until Ctrl-C");
    let shown = demo.logged("alys-stream send");
    let command = shown.lines().find(|line| line.ends_with("--json")).expect("it names commands");
    let args: Vec<&str> = command.split_whitespace().skip(1).collect();
    let run = alys(&args);
    run.succeeded();
    let endpoints: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let endpoints = endpoints.as_array().expect("a list");
    assert_eq!(endpoints.len(), 3, "{run:?}");
    for endpoint in endpoints {
        assert_eq!(endpoint["state"], "healthy", "{endpoint:#}");
        assert!(endpoint["rtt_us"].as_u64() > Some(0), "{endpoint:#}");
    }
    assert_eq!(demo.interrupt(), Some(0));
}

#[test]
fn a_folder_in_use_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "x").unwrap();
    let run = alys(["demo", "--keep", dir.path().to_str().unwrap(), "--json"]);
    check_error(&run, 2, &["is not empty"]);
    assert!(run.stdout.is_empty());
}
