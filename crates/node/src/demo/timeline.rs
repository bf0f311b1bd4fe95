//! When what goes wrong.

use std::time::Duration;

use serde::Serialize;

/// The faults, in the order in which they happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// `kill -9` of a governance process.
    GovernanceKilled,
    /// The same one started again.
    GovernanceRestarted,
    /// `kill -9` of the node, and started again from its buffer.
    NodeRestarted,
}

impl Fault {
    pub(crate) const ALL: [Self; 3] =
        [Self::GovernanceKilled, Self::GovernanceRestarted, Self::NodeRestarted];

    /// How far into a run it happens: one third, two thirds, near the end.
    pub(crate) fn at(self, run: Duration) -> Duration {
        match self {
            Self::GovernanceKilled => run / 3,
            Self::GovernanceRestarted => run * 2 / 3,
            Self::NodeRestarted => run * 17 / 20,
        }
    }

    /// For people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::GovernanceKilled => "governance killed",
            Self::GovernanceRestarted => "governance restarted",
            Self::NodeRestarted => "node killed and restarted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_within_the_run() {
        let run = Duration::from_secs(20);
        let at = Fault::ALL.map(|fault| fault.at(run));
        assert!(at.is_sorted() && at[2] < run);
        assert_eq!(at[2], Duration::from_secs(17));
    }
}
