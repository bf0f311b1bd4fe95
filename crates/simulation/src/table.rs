//! The table at the end of a swarm.

use std::fmt::Write as _;

use alys_stream_actor::failure::{Class, TABLE};
use alys_stream_simulation::{Kind, NODES_MAX, Totals};
use alys_stream_transport::connection::EDGES;

/// Everything that was exercised, and what was not.
pub(crate) fn of(totals: &Totals) -> String {
    let mut text = String::new();
    let mut line = |name: &str, count: u64| {
        let mark = if count == 0 { "  never" } else { "" };
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "  {name:<32} {count:>9}{mark}");
    };
    let coverage = &totals.coverage;
    for nodes in 1..=NODES_MAX {
        let count = coverage.nodes.get(&nodes).copied().unwrap_or(0);
        line(&format!("seeds with Alys nodes: {nodes}"), count);
    }
    for kind in Kind::all() {
        let count = coverage.faults.get(&kind).copied().unwrap_or(0);
        line(&format!("fault {kind:?}"), count);
    }
    for (old, new) in EDGES {
        let edge = (old.as_str().to_owned(), new.as_str().to_owned());
        line(&format!("{old} to {new}"), coverage.edges.get(&edge).copied().unwrap_or(0));
    }
    for class in Class::ALL {
        let count = coverage.classes.get(class.as_str()).copied().unwrap_or(0);
        line(&format!("errors of class {}", class.as_str()), count);
    }
    for row in &TABLE {
        let kind = serde_json::to_value(row.kind).unwrap_or_default();
        let kind = kind.as_str().unwrap_or_default();
        line(&format!("error {kind}"), coverage.kinds.get(kind).copied().unwrap_or(0));
    }
    text
}
