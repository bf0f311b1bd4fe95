//! What went wrong, for `/status`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::failure::{Class, FailureKind, FailureLog, Severity};

/// What went wrong since the start of the process.
#[derive(Debug, Serialize)]
pub struct FailureStatus {
    /// How often, by class.
    pub by_class: BTreeMap<&'static str, u64>,
    /// The last ones, newest first; one for each kind at each endpoint.
    pub last: Vec<LastFailure>,
}

/// One kind of failure at one endpoint.
#[derive(Debug, Serialize)]
pub struct LastFailure {
    /// When last, in Unix milliseconds.
    pub at_ms: u64,
    /// What kind.
    pub kind: FailureKind,
    /// Whose fault it is.
    pub class: Class,
    /// How bad it is.
    pub severity: Severity,
    /// How often in a row.
    pub times: u64,
    /// The endpoint, when there is one.
    pub endpoint: Option<String>,
    /// The message, when there is one.
    pub message_id: Option<String>,
    /// In words.
    pub text: String,
    /// What to do about it.
    pub cure: &'static str,
}

impl FailureStatus {
    pub(crate) fn of(log: &FailureLog) -> Self {
        let failures = log.snapshot();
        let mut by_class = BTreeMap::new();
        for ((class, _), count) in failures.by_class() {
            *by_class.entry(class.as_str()).or_default() += count;
        }
        let last = failures.last().rev().map(|seen| {
            let (failure, row) = (&seen.failure, seen.failure.row());
            LastFailure {
                at_ms: seen.at_ms,
                kind: failure.kind,
                class: row.class,
                severity: row.severity,
                times: seen.times,
                endpoint: failure.context.endpoint.clone(),
                message_id: failure.context.message_id.clone(),
                text: failure.text.clone(),
                cure: row.cure,
            }
        });
        Self { by_class, last: last.collect() }
    }
}
