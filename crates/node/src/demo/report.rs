//! What a run came to: one JSON object for programs, one table for people.

use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use serde::Serialize;
use serde_json::Value;

use super::accounts::{Accounts, FaultRecord, Verdict};
use super::samples::Percentiles;
use super::timeline::Fault;
use super::watch::Sight;

const MIB: f64 = 1024.0 * 1024.0;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Nothing lost, nothing applied twice, every completed transaction verified.
    pub(crate) ok: bool,
    /// Messages that the node promised to deliver.
    accepted: u64,
    /// Of those, the ones that ended as promised.
    settled: u64,
    /// Of those, the ones that neither ended nor died, or that governance nodes lack.
    lost: usize,
    /// Messages that a governance node applied more than once.
    applied_twice: usize,
    /// Messages that ended with a cause of death.
    dead_letters: u64,
    /// Peg-outs with all signatures.
    signatures_complete: u64,
    /// Signatures that did not verify.
    signatures_invalid: u64,
    /// Completed transactions that satisfy Bitcoin's consensus rules.
    transactions_verified: u64,
    /// Accepted messages that are never stored.
    status_updates: u64,
    faults: Vec<FaultReport>,
    /// Accepted messages per second of load, status updates included.
    messages_per_second: f64,
    /// Around the call, as the client sees it.
    accept_us: Percentiles,
    /// Peg-ins, from accepted to acknowledged by every governance node, while all were up.
    ack_us: Percentiles,
    /// The same for those that met an outage: most wait for the governance node that was killed.
    ack_outage_us: Percentiles,
    /// Peg-outs, from accepted to signed, outages included.
    signature_ms: Percentiles,
    /// The most memory that the node was seen to use.
    rss_mib: f64,
    /// The node's endpoints at the end, as its status shows them.
    endpoints: Vec<Value>,
    seconds: u64,
    seed: u64,
    /// What went wrong, in words.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct FaultReport {
    kind: Fault,
    at_ms: u64,
    recovered_ms: Option<u64>,
}

/// What a report is made of.
#[derive(Debug)]
pub(crate) struct Findings<'a> {
    pub(crate) accounts: &'a Accounts,
    pub(crate) verdict: &'a Verdict,
    pub(crate) sight: &'a Sight,
    pub(crate) run: Duration,
    pub(crate) seed: u64,
    /// Processes that did not stop when asked to.
    pub(crate) stubborn: Vec<String>,
}

impl Report {
    pub(crate) fn new(findings: Findings<'_>) -> Self {
        let Findings { accounts, verdict, sight, run, seed, stubborn } = findings;
        let counts = accounts.counts();
        let faults: Vec<FaultReport> = accounts.faults().iter().map(FaultReport::new).collect();
        let (ack, ack_outage) = accounts.ack_us();
        let mut problems = accounts.problems();
        problems.extend(verdict.lost.iter().take(3).map(|id| format!("lost: {id}")));
        problems.extend(verdict.applied_twice.iter().take(3).map(|id| format!("twice: {id}")));
        problems.extend(stubborn.iter().map(|name| format!("did not stop as asked: {name}")));
        let ok = verdict.lost.is_empty()
            && verdict.applied_twice.is_empty()
            && accounts.signatures_invalid() == 0
            && counts.signed > 0
            && counts.signed == accounts.verified()
            && faults.len() == Fault::ALL.len()
            && faults.iter().all(|fault| fault.recovered_ms.is_some());
        Self {
            ok,
            accepted: counts.accepted,
            settled: counts.settled,
            lost: verdict.lost.len(),
            applied_twice: verdict.applied_twice.len(),
            dead_letters: counts.dead,
            signatures_complete: counts.signed,
            signatures_invalid: accounts.signatures_invalid(),
            transactions_verified: accounts.verified(),
            status_updates: counts.volatile,
            faults,
            messages_per_second: per_second(counts.accepted + counts.volatile, run),
            accept_us: accounts.accept_us().percentiles(),
            ack_us: ack.percentiles(),
            ack_outage_us: ack_outage.percentiles(),
            signature_ms: accounts.signature_ms().percentiles(),
            rss_mib: tenths(float(sight.rss_bytes_max) / MIB),
            endpoints: sight.endpoints.iter().map(without_history).collect(),
            seconds: run.as_secs(),
            seed,
            problems,
        }
    }

    /// In one sentence, what an exit code other than 0 means.
    pub(crate) fn shortcoming(&self) -> String {
        format!(
            "the run did not keep its promises: {} lost, {} applied twice, {} of {} transactions \
             verified, {} invalid signatures (the summary says more; keep the files with --keep DIR)",
            self.lost,
            self.applied_twice,
            self.transactions_verified,
            self.signatures_complete,
            self.signatures_invalid
        )
    }

    /// For people.
    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("accepted", format!("{} (and {} status updates)", self.accepted, self.status_updates));
        row("settled", self.settled.to_string());
        row("lost", self.lost.to_string());
        row("applied twice", self.applied_twice.to_string());
        row("dead letters", self.dead_letters.to_string());
        row("signatures complete", self.signatures_complete.to_string());
        row("signatures invalid", self.signatures_invalid.to_string());
        row("transactions verified", self.transactions_verified.to_string());
        row("accept", microseconds(self.accept_us));
        row("acknowledge, all up", microseconds(self.ack_us));
        row("acknowledge, in outages", microseconds(self.ack_outage_us));
        let Percentiles { p50, p99 } = self.signature_ms;
        row("signature", format!("p50 {p50} ms, p99 {p99} ms"));
        for fault in &self.faults {
            row(fault.kind.words(), fault.words());
        }
        row("throughput", format!("{} messages/s", self.messages_per_second));
        row("memory of the node", format!("{} MiB", self.rss_mib));
        let state = |endpoint: &Value| {
            let text = |field: &str| endpoint.get(field).and_then(Value::as_str).unwrap_or("?");
            format!("{} {}", text("name"), text("state"))
        };
        let states: Vec<String> = self.endpoints.iter().map(state).collect();
        row("endpoints", states.join(", "));
        for problem in &self.problems {
            row("problem", problem.clone());
        }
        row("verdict", if self.ok { "ok" } else { "NOT OK" }.to_owned());
        table
    }
}

impl FaultReport {
    fn new(fault: &FaultRecord) -> Self {
        Self {
            kind: fault.kind,
            at_ms: millis(fault.at),
            recovered_ms: fault.recovered.map(millis),
        }
    }

    fn words(&self) -> String {
        let at = float(self.at_ms) / 1000.0;
        self.recovered_ms.map_or_else(
            || format!("at {at:.1} s, not well again"),
            |after| format!("at {at:.1} s, well again after {after} ms"),
        )
    }
}

/// The history of a connection is long, and in the log.
fn without_history(endpoint: &Value) -> Value {
    let mut endpoint = endpoint.clone();
    if let Value::Object(fields) = &mut endpoint {
        fields.remove("history");
    }
    endpoint
}

fn microseconds(Percentiles { p50, p99 }: Percentiles) -> String {
    format!("p50 {p50} µs, p99 {p99} µs")
}

fn per_second(count: u64, run: Duration) -> f64 {
    tenths(float(count) / run.as_secs_f64().max(f64::EPSILON))
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Counts of a run are far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
fn float(value: u64) -> f64 {
    value as f64
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_run_is_not_ok() {
        let report = Report::new(Findings {
            accounts: &Accounts::default(),
            verdict: &Verdict::default(),
            sight: &Sight::default(),
            run: Duration::from_secs(1),
            seed: 1,
            stubborn: Vec::new(),
        });
        assert!(!report.ok);
        let json = serde_json::to_value(&report).unwrap();
        for key in [
            "accepted",
            "settled",
            "lost",
            "applied_twice",
            "dead_letters",
            "signatures_complete",
            "signatures_invalid",
            "transactions_verified",
            "faults",
            "messages_per_second",
            "accept_us",
            "ack_us",
            "signature_ms",
            "rss_mib",
            "endpoints",
            "seconds",
            "seed",
            "ok",
        ] {
            assert!(json.get(key).is_some(), "{key}");
        }
    }
}
