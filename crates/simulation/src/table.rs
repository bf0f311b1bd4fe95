//! The table at the end of a swarm.

use std::fmt::Write as _;

use alys_stream_simulation::{EDGES, Kind, Totals};

/// Everything that was exercised, and what was not.
pub(crate) fn of(totals: &Totals) -> String {
    let mut text = String::new();
    let mut line = |name: &str, count: u64| {
        let mark = if count == 0 { "  never" } else { "" };
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "  {name:<32} {count:>9}{mark}");
    };
    let coverage = &totals.coverage;
    for kind in Kind::all() {
        let count = coverage.faults.get(&kind).copied().unwrap_or(0);
        line(&format!("fault {kind:?}"), count);
    }
    for (old, new) in EDGES {
        let edge = (old.to_owned(), new.to_owned());
        line(&format!("{old} to {new}"), coverage.edges.get(&edge).copied().unwrap_or(0));
    }
    for ((old, new), count) in &coverage.edges {
        if !EDGES.contains(&(old.as_str(), new.as_str())) {
            line(&format!("{old} to {new} (other)"), *count);
        }
    }
    for (class, count) in &coverage.classes {
        line(&format!("errors of class {class}"), *count);
    }
    text
}
