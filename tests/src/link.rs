//! The links of a node, as its status shows them.

use std::time::Duration;

use serde_json::Value;

use crate::process::{PATIENCE, Served, run};

/// Pause between two looks at the status.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One change of the state of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new state.
    pub to: String,
    /// The cause.
    pub why: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// The endpoint of this name, as the status shows it.
///
/// # Panics
///
/// When there is none.
pub async fn endpoint(node: &Served, name: &str) -> Value {
    let mut status = node.json("/status").await;
    let endpoints = status["endpoints"].take();
    let Value::Array(endpoints) = endpoints else { panic!("no endpoints in {status}") };
    let found = endpoints.into_iter().find(|endpoint| endpoint["name"] == name);
    found.unwrap_or_else(|| panic!("no endpoint {name}"))
}

/// Waits until an endpoint is as wanted; gives it.
///
/// # Panics
///
/// When it takes longer than [`PATIENCE`].
pub async fn until(node: &Served, name: &str, so: impl Fn(&Value) -> bool) -> Value {
    let look = async {
        loop {
            let found = endpoint(node, name).await;
            if so(&found) {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(found) => found,
        Err(_) => panic!("{name} never came there: {:#}", endpoint(node, name).await),
    }
}

/// Waits until messages flow to an endpoint.
///
/// # Panics
///
/// As [`until`].
pub async fn until_up(node: &Served, name: &str) -> Value {
    until(node, name, |found| found["state"] == "healthy").await
}

/// The changes of state of an endpoint, oldest first.
#[must_use]
pub fn changes(endpoint: &Value) -> Vec<Change> {
    let change = |entry: &Value| Change {
        to: entry["new"].as_str().unwrap_or_default().to_owned(),
        why: entry["why"].as_str().unwrap_or_default().to_owned(),
        at_ms: entry["at_ms"].as_u64().unwrap_or_default(),
    };
    endpoint["history"].as_array().map(|it| it.iter().map(change).collect()).unwrap_or_default()
}

/// Waits until an endpoint has gone to one of these states at `since_ms` or after it.
///
/// # Panics
///
/// As [`until`].
pub async fn until_changed(node: &Served, name: &str, to: &[&str], since_ms: u64) -> Change {
    let first = |endpoint: &Value| {
        let mut changes = changes(endpoint).into_iter();
        changes.find(|change| change.at_ms >= since_ms && to.contains(&change.to.as_str()))
    };
    let found = until(node, name, |endpoint| first(endpoint).is_some()).await;
    first(&found).expect("it was just there")
}

/// Has the operator's command dial an endpoint now, and waits until it is up.
///
/// # Panics
///
/// When it does not come up.
pub async fn reconnect(node_address: String, name: String) {
    let asked = tokio::task::spawn_blocking(move || {
        run(["endpoints", "--node", &node_address, "reconnect", &name, "--wait"])
    });
    let output = asked.await.expect("the command ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
