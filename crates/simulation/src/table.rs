//! The table at the end of a swarm.

use std::fmt::Write as _;

use alys_stream_actor::failure::{Class, FailureKind, TABLE};
use alys_stream_simulation::{
    COVERING_SEEDS, Coverage, Kind, NODES_MAX, Totals, seeds_for_edge, seeds_for_kind, unreachable,
};
use alys_stream_transport::connection::EDGES;

/// One line of it.
struct Row {
    name: String,
    /// What was exercised, how often.
    count: u64,
    /// How many faults were planned.
    planned: Option<u64>,
    /// How many seeds should have exercised it.
    seeds: u64,
    /// Why it is never exercised.
    unreachable: Option<&'static str>,
}

/// Everything that was exercised, and what was not.
pub(crate) fn of(coverage: &Coverage) -> String {
    let mut text = String::new();
    for Row { name, count, planned, unreachable, .. } in rows(coverage) {
        let remark = match (count, planned, unreachable) {
            (0, _, Some(why)) => format!("  not reachable: {why}"),
            (_, _, Some(why)) => format!("  and was held not to be reachable: {why}"),
            (0, ..) => "  never".to_owned(),
            (_, Some(planned), _) => format!("  of {planned} planned"),
            _ => String::new(),
        };
        // Writing to a string does not fail.
        let _infallible = writeln!(text, "  {name:<32} {count:>9}{remark}");
    }
    text
}

/// What so many seeds should have exercised and did not, and what they did and cannot have.
pub(crate) fn missing(totals: &Totals) -> Vec<String> {
    let is_wrong = |row: &Row| match row.unreachable {
        Some(_) => row.count > 0,
        None => row.count == 0 && totals.seeds >= row.seeds,
    };
    rows(&totals.coverage).into_iter().filter(is_wrong).map(|row| row.name).collect()
}

fn rows(coverage: &Coverage) -> Vec<Row> {
    let row = |name: String, count| Row {
        name,
        count,
        planned: None,
        seeds: COVERING_SEEDS,
        unreachable: None,
    };
    let nodes = (1..=NODES_MAX).map(|nodes| {
        let count = coverage.nodes.get(&nodes).copied().unwrap_or(0);
        row(format!("seeds with Alys nodes: {nodes}"), count)
    });
    let faults = Kind::all().map(|kind| {
        let count = coverage.faults.get(&kind).copied().unwrap_or_default();
        Row { planned: Some(count.planned), ..row(format!("fault {kind:?}"), count.struck) }
    });
    let edges = EDGES.iter().map(|(old, new)| {
        let edge = (old.as_str().to_owned(), new.as_str().to_owned());
        let count = coverage.edges.get(&edge).copied().unwrap_or(0);
        Row { seeds: seeds_for_edge(*old, *new), ..row(format!("{old} to {new}"), count) }
    });
    let classes = Class::ALL.into_iter().map(|class| {
        let count = coverage.classes.get(class.as_str()).copied().unwrap_or(0);
        row(format!("errors of class {}", class.as_str()), count)
    });
    let kinds = TABLE.iter().map(|it| {
        let kind: FailureKind = it.kind;
        let count = coverage.kinds.get(kind.as_str()).copied().unwrap_or(0);
        let (seeds, unreachable) = (seeds_for_kind(kind), unreachable(kind));
        Row { seeds, unreachable, ..row(format!("error {}", kind.as_str()), count) }
    });
    nodes.chain(faults).chain(edges).chain(classes).chain(kinds).collect()
}
