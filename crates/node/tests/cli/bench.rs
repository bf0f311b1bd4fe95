//! `bench buffer`, whose figures scripts read.

use serde_json::Value;

use crate::program::alys;

#[test]
fn the_buffer_is_measured_beside_its_limit_and_a_program_can_read_it() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().to_str().expect("a plain path");
    let sizes = ["--seconds", "1", "--records", "2000", "--producers", "4"];
    let run = alys([&["bench", "buffer", "--json", "--dir", path], &sizes[..]].concat());
    run.succeeded();
    let report: Value = serde_json::from_str(&run.stdout).expect("one JSON document");
    let fields = [
        "/limit_msgs_per_s",
        "/append_msgs_per_s",
        "/ratio",
        "/accept_us/p50",
        "/accept_us/p99",
        "/open_1m_ms",
        "/rss_mib",
    ];
    for field in fields {
        let value = report.pointer(field).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value > 0.0), "{field}: {}", run.stdout);
    }
    let left = std::fs::read_dir(dir.path()).expect("the folder is there").count();
    assert_eq!(left, 0, "what it made is gone");
}
