//! A slow, lossy network of the kernel's own making, where the machine allows it.

use std::process::Command;

use alys_stream_tests::deployment::Deployment;

use super::load::Callers;
use super::verdict::check;

/// What the loopback interface does meanwhile.
const NETEM: [&str; 8] = ["netem", "delay", "20ms", "15ms", "loss", "3%", "reorder", "10%"];

/// The queue of the loopback interface of a namespace, as it is while this lives.
struct Disturbed;

impl Drop for Disturbed {
    fn drop(&mut self) {
        let calmed = Command::new("tc").args(["qdisc", "del", "dev", "lo", "root"]).status();
        println!("the network is calm: {calmed:?}");
    }
}

/// Why the network of this process may not be disturbed; nothing else may live in its namespace.
fn reason_not_to() -> Option<String> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    if namespace("self") == namespace("1") {
        return Some(
            "this process shares the network of the machine; run it under `unshare -rn sh -c 'ip \
             link set lo up; …'`"
                .to_owned(),
        );
    }
    let found = Command::new("tc").arg("-V").output();
    found.err().map(|error| format!("tc: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_and_lossy_network_loses_nothing() {
    if let Some(reason) = reason_not_to() {
        println!("skipped: {reason}");
        return;
    }
    let deployment = Deployment::start(3).await;
    let added = Command::new("tc").args(["qdisc", "add", "dev", "lo", "root"]).args(NETEM).output();
    let added = added.expect("tc was there just now");
    if !added.status.success() {
        println!("skipped: {}", String::from_utf8_lossy(&added.stderr).trim());
        return;
    }
    let disturbed = Disturbed;
    let callers = Callers::start(&deployment.client(), 4, 3);
    while callers.accepted() < 500 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let accepted = callers.finish().await;
    check(deployment, accepted).await;
    drop(disturbed);
}
