//! What a run, or many, really exercised.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

mod reach;

pub use reach::{COVERING_SEEDS, seeds_for_edge, seeds_for_kind, unreachable};

use crate::fault::Kind;
use crate::net::Machine;
use crate::strikes::Count;

/// Faults by kind, edges of the connection machine, classes of errors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How many runs had so many Alys nodes.
    pub nodes: BTreeMap<usize, u64>,
    /// How many faults of each kind there were, and how many struck something.
    pub faults: BTreeMap<Kind, Count>,
    /// Edges that were seen, and how often at least.
    pub edges: BTreeMap<(String, String), u64>,
    /// Failures by their class, as `/status` counts them.
    pub classes: BTreeMap<String, u64>,
    /// Failures by their kind: how often `/status` had one that it did not have before, at least.
    pub kinds: BTreeMap<String, u64>,
    /// What was seen already of the present lives: edges by node, endpoint and time.
    seen: BTreeSet<(Machine, String, u64, String, String)>,
    /// The kinds of failures that were seen of the present lives, by node and endpoint.
    failed: BTreeSet<(Machine, String, String, u64)>,
    /// The counts of the present lives.
    counted: BTreeMap<(Machine, String), u64>,
}

impl Coverage {
    /// Of a run with so many nodes, which has exercised nothing yet.
    pub(crate) fn of(nodes: usize) -> Self {
        Self { nodes: BTreeMap::from([(nodes, 1)]), ..Self::default() }
    }

    /// Reads the status of a node.
    pub(crate) fn status(&mut self, node: Machine, status: &Value) {
        for endpoint in status["endpoints"].as_array().into_iter().flatten() {
            let name = endpoint["name"].as_str().unwrap_or_default();
            for change in endpoint["history"].as_array().into_iter().flatten() {
                let word = |key: &str| change[key].as_str().unwrap_or_default().to_lowercase();
                let (old, new) = (word("old"), word("new"));
                let at_ms = change["at_ms"].as_u64().unwrap_or(0);
                if self.seen.insert((node, name.to_owned(), at_ms, old.clone(), new.clone())) {
                    *self.edges.entry((old, new)).or_default() += 1;
                }
            }
        }
        for failure in status["failures"]["last"].as_array().into_iter().flatten() {
            let word = |key: &str| failure[key].as_str().unwrap_or_default().to_owned();
            let at_ms = failure["at_ms"].as_u64().unwrap_or(0);
            if self.failed.insert((node, word("kind"), word("endpoint"), at_ms)) {
                *self.kinds.entry(word("kind")).or_default() += 1;
            }
        }
        let classes = status["failures"]["by_class"].as_object();
        for (class, count) in classes.into_iter().flatten() {
            let count = count.as_u64().unwrap_or(0);
            let before = self.counted.insert((node, class.clone()), count).unwrap_or(0);
            let more = if count >= before { count - before } else { count };
            *self.classes.entry(class.clone()).or_default() += more;
        }
    }

    /// Adds what another run exercised.
    pub fn add(&mut self, other: &Self) {
        for (nodes, count) in &other.nodes {
            *self.nodes.entry(*nodes).or_default() += count;
        }
        for (kind, count) in &other.faults {
            let sum = self.faults.entry(*kind).or_default();
            sum.planned += count.planned;
            sum.struck += count.struck;
        }
        for (edge, count) in &other.edges {
            *self.edges.entry(edge.clone()).or_default() += count;
        }
        for (class, count) in &other.classes {
            *self.classes.entry(class.clone()).or_default() += count;
        }
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind.clone()).or_default() += count;
        }
    }
}
