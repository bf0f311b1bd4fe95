//! The checks of the simulation, for tests with real processes.
//!
//! A test says what was accepted and what the node says became of it, and has the ledgers read; what
//! judges that are the checks of the simulation themselves. Run are those that need no more: D1, D2,
//! "applied once" of D3, D4 and liveness. The others read the wire, disks, virtual time or several
//! nodes.
//!
//! It knows of one node and of no fault that excuses anything: no disk was replaced by a copy, no
//! endpoint removed, no message refused for good, no dead letter sent again or removed.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_stream_protocol::message::{MessageId, Priority, Seq};
use alys_stream_protocol::submission::OutcomeState;

use crate::check::{self, Violation};
use crate::history::{History, NodeHistory, Offered};
use crate::ledger::{self, Applied};
use crate::net::Machine;
use crate::plan::{Content, FIRST_NODE, Spec};

pub use crate::plan::For;

/// The checks that what is seen here is enough for.
const CHOSEN: [&str; 5] = [
    "d1_accepted_is_durable",
    "d2_exactly_one_end",
    "d3_applied_once",
    "d4_order_per_key",
    "liveness_everything_ends",
];

/// A message that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: MessageId,
    /// The number that accepting it returned first.
    pub seq: Seq,
    /// Whom it is for.
    pub target: For,
    /// How urgent it is.
    pub priority: Priority,
    /// Its ordering key.
    pub key: Option<u8>,
    /// How long after it was handed over it was to end at the latest.
    pub deadline: Option<Duration>,
}

/// What the node says in the end became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// How it ended.
    pub end: End,
    /// The cause of its dead letter, if it has one.
    pub letter: Option<String>,
}

/// How a message ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The node does not know it.
    Unknown,
    /// It did not end while the test waited.
    Unended,
    /// It ended.
    Ended(OutcomeState),
}

/// What a governance node applied, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger(Vec<Applied>);

impl Ledger {
    /// Reads the ledger in the data directory of a governance node whose process is gone.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn read(data_dir: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::<PathBuf, Vec<u8>>::new();
        for entry in std::fs::read_dir(data_dir.join(ledger::FOLDER))? {
            let path = entry?.path();
            let bytes = std::fs::read(&path)?;
            files.insert(path, bytes);
        }
        Ok(Self(ledger::applied(&files)))
    }

    /// How many messages it has, each time counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Judges what became of everything that one node accepted, with the ledgers of all its governance
/// nodes; what is wrong.
#[must_use]
pub fn judge(messages: &[(Accepted, Fate)], ledgers: Vec<Ledger>) -> Vec<Violation> {
    let mut own = NodeHistory::default();
    let mut history = History::default();
    for (number, (accepted, fate)) in (0..).zip(messages) {
        let offered = offered(number, accepted, fate);
        if fate.end == End::Unended {
            history.unended.push(format!("{} has not ended", offered.name()));
        }
        own.offered.push(offered);
    }
    history.nodes.insert(FIRST_NODE, own);
    history.applied = (1..).map(Machine).zip(ledgers.into_iter().map(|it| it.0)).collect();
    // Nobody saw which syncs failed: every line may be there again.
    let places = |applied: &Vec<Applied>| applied.iter().map(|it| it.place).collect();
    history.doubtful = history.applied.iter().map(|(gov, it)| (*gov, places(it))).collect();
    check::check_some(&history, |name| CHOSEN.contains(&name))
}

fn offered(number: u64, accepted: &Accepted, fate: &Fate) -> Offered {
    let Accepted { id, seq, target, priority, key, deadline } = *accepted;
    let spec =
        Spec { number, target, priority, key, deadline, bytes: 0, content: Content::Application };
    let end = match fate.end {
        End::Unknown => None,
        End::Unended => Some(OutcomeState::Pending),
        End::Ended(state) => Some(state),
    };
    Offered {
        spec,
        id,
        // When matters only where a disk was replaced by a copy.
        accepted: Some((Duration::ZERO, seq)),
        end: end.map(|state| state.as_str_name().to_owned()),
        letter: fate.letter.clone(),
    }
}

#[cfg(test)]
mod tests;
