//! The configuration file is read again while the node runs: SIGHUP.
//!
//! The section `balance` comes into force at once; whatever else differs waits for a restart, and is
//! named. Not for the files that `tls` names: those are watched without being asked.
//!
//! Invariant:
//! - R1: a file that a start would refuse changes nothing.

use std::path::PathBuf;
use std::sync::Arc;

use alys_stream_actor::StreamHandle;
use alys_stream_config::NodeConfig;
use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use alys_stream_telemetry::metrics::{ConfigGauges, Metrics};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// The only section that comes into force without a restart.
const BALANCE: &str = "balance";

/// The configuration in force, and how reading its file again went.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    /// All of it, without secrets.
    pub(crate) shown: Value,
    generation: u64,
    /// When the file was read last and was usable.
    read_at: UnixMillis,
    failures: u64,
    /// Why the file cannot be used as it was read last.
    error: Option<String>,
    /// Sections that differ from the file as it was read last.
    needs_restart: Vec<String>,
}

/// What reading the file again comes to.
#[derive(Debug, PartialEq, Eq)]
struct Change {
    /// The policy to switch to, when anything of `balance` differs.
    policy: Option<String>,
    /// The other sections that differ.
    needs_restart: Vec<String>,
}

/// Reads the file again whenever it is asked to.
#[derive(Debug)]
pub(super) struct Reload {
    hangup: Signal,
    file: PathBuf,
    handle: StreamHandle,
    metrics: Arc<Metrics>,
    in_force: watch::Sender<InForce>,
}

/// Takes the signal over, so that it does not end the process.
///
/// # Errors
///
/// When it cannot be taken over.
pub(super) fn hangup() -> Result<Signal, Failure> {
    signal(SignalKind::hangup()).map_err(|error| Failure::other(format_args!("signals: {error}")))
}

impl InForce {
    /// What the node was started with.
    pub(crate) fn new(shown: Value, now: UnixMillis) -> Self {
        let (generation, failures) = (1, 0);
        Self { shown, generation, read_at: now, failures, error: None, needs_restart: Vec::new() }
    }

    /// How `/status` shows it.
    pub(crate) fn status(&self) -> Value {
        serde_json::json!({
            "generation": self.generation,
            "read_at_ms": self.read_at.0,
            "failures": self.failures,
            "error": self.error,
            "needs_restart": self.needs_restart,
        })
    }

    fn gauges(&self) -> ConfigGauges {
        ConfigGauges {
            generation: self.generation,
            read_at: self.read_at.0 / 1000,
            failures: self.failures,
            is_stale: self.error.is_some(),
        }
    }

    /// How a file differs from it.
    fn change_to(&self, read: &Value) -> Change {
        let sections = read.as_object().into_iter().flat_map(|sections| sections.iter());
        let differs = |name: &str, section: &Value| self.shown.get(name) != Some(section);
        let needs_restart = sections
            .filter(|(name, section)| *name != BALANCE && differs(name, section))
            .map(|(name, _)| name.clone())
            .collect();
        let balance = read.get(BALANCE).filter(|balance| differs(BALANCE, balance));
        let policy = balance.map(|balance| {
            let policy = balance.get("policy").and_then(Value::as_str);
            policy.unwrap_or_default().to_owned()
        });
        Change { policy, needs_restart }
    }

    /// The file was usable, and what of it can be is in force.
    fn handle_read(&mut self, now: UnixMillis, read: &Value, change: Change) {
        let Change { policy, needs_restart } = change;
        if policy.is_some()
            && let (Some(of), Some(balance)) = (self.shown.get_mut(BALANCE), read.get(BALANCE))
        {
            *of = balance.clone();
            self.generation += 1;
        }
        (self.read_at, self.error, self.needs_restart) = (now, None, needs_restart);
    }

    /// The file was not usable.
    fn handle_unusable(&mut self, error: String) {
        self.failures += 1;
        self.error = Some(error);
    }
}

impl Change {
    /// One line for the log.
    fn words(&self) -> String {
        let applied = self.policy.as_ref().map_or_else(
            || "balance is as it was".to_owned(),
            |policy| format!("balance is applied (policy {policy})"),
        );
        if self.needs_restart.is_empty() {
            return format!("{applied}; nothing else differs");
        }
        let sections = self.needs_restart.join(", ");
        format!("{applied}; what differs in {sections} needs a restart")
    }
}

impl Reload {
    /// Reads `file` again for a node that runs; `in_force` is what it was started with.
    pub(super) fn new(
        hangup: Signal,
        file: PathBuf,
        handle: StreamHandle,
        metrics: Arc<Metrics>,
        in_force: watch::Sender<InForce>,
    ) -> Self {
        metrics.config(&in_force.borrow().gauges());
        Self { hangup, file, handle, metrics, in_force }
    }

    /// Serves until `closing`.
    pub(super) async fn run(mut self, closing: CancellationToken) -> Result<(), Failure> {
        let asked = async {
            while self.hangup.recv().await.is_some() {
                let file = self.file.clone();
                // Off the runtime's threads: it reads every file that the configuration names.
                let reading = tokio::task::spawn_blocking(move || NodeConfig::load(&file));
                let read = match reading.await {
                    Ok(read) => read.map(|loaded| loaded.config).map_err(|error| error.to_string()),
                    Err(error) => Err(format!("reading was interrupted: {error}")),
                };
                self.apply(read);
            }
            std::future::pending().await
        };
        tokio::select! {
            () = closing.cancelled() => Ok(()),
            never = asked => never,
        }
    }

    /// Applies what was read, or says why not.
    fn apply(&self, read: Result<NodeConfig, String>) {
        let applied = read.and_then(|config| {
            let shown = config.redacted_json();
            let change = self.in_force.borrow().change_to(&shown);
            if change.policy.is_some() {
                let set = self.handle.set_balance(config.balance);
                set.map_err(|error| format!("{}: balance.{error}", self.file.display()))?;
            }
            Ok((shown, change))
        });
        let said = match &applied {
            Ok((_, change)) => Ok(change.words()),
            Err(error) => Err(error.clone()),
        };
        let now = SystemClock.now();
        self.in_force.send_modify(|held| match applied {
            Ok((shown, change)) => held.handle_read(now, &shown, change),
            Err(error) => held.handle_unusable(error),
        });
        self.metrics.config(&self.in_force.borrow().gauges());
        // Last: whoever reads the line finds everything else as it says.
        match said {
            Ok(words) => tracing::info!("configuration file read again: {words}"),
            Err(error) => {
                tracing::error!("configuration file not usable, nothing changes: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn in_force() -> InForce {
        let shown = json!({
            "balance": {"policy": "peak_ewma"},
            "buffer": {"quota_bytes": 1},
            "log": {"level": "info"},
        });
        InForce::new(shown, UnixMillis(1_000))
    }

    fn read(policy: &str, quota_bytes: u64) -> Value {
        json!({
            "balance": {"policy": policy},
            "buffer": {"quota_bytes": quota_bytes},
            "log": {"level": "info"},
        })
    }

    #[test]
    fn what_differs_is_applied_or_named() {
        let words = |policy, quota_bytes| in_force().change_to(&read(policy, quota_bytes)).words();
        assert_eq!(words("peak_ewma", 1), "balance is as it was; nothing else differs");
        assert_eq!(
            words("latency", 1),
            "balance is applied (policy latency); nothing else differs"
        );
        assert_eq!(
            words("latency", 2),
            "balance is applied (policy latency); what differs in buffer needs a restart"
        );
    }

    #[test]
    fn what_needs_a_restart_is_named_until_it_happened_and_errors_until_they_are_gone() {
        let mut held = in_force();
        for _ in 0..2 {
            let file = read("latency", 2);
            let change = held.change_to(&file);
            held.handle_read(UnixMillis(2_000), &file, change);
            assert_eq!(held.shown, read("latency", 1));
            assert_eq!((held.generation, &held.needs_restart[..]), (2, &["buffer".to_owned()][..]));
        }
        held.handle_unusable("why".to_owned());
        let gauges = ConfigGauges { generation: 2, read_at: 2, failures: 1, is_stale: true };
        assert_eq!(held.gauges(), gauges);
        assert_eq!(held.status()["error"], "why");
        let file = read("latency", 1);
        let change = held.change_to(&file);
        held.handle_read(UnixMillis(3_000), &file, change);
        let gauges = ConfigGauges { read_at: 3, is_stale: false, ..gauges };
        assert_eq!((held.gauges(), held.needs_restart.len()), (gauges, 0));
    }
}
