//! Whole nodes and whole governance nodes inside one deterministic simulation, on one seed, in
//! virtual time; and the checker that holds their history against the promises D1 to D12.
//!
//! - `plan` draws what happens from a seed; `fault` says which faults there are, `extras` what was
//!   added to the world later.
//! - `world` lets it happen: `machine` (disk, clock, network), `node` and `governance` (the product),
//!   `sender` (who hands messages over), `neighbours` (who is told), `signing` (what is signed).
//! - `certificates`: of the seeds with TLS.
//! - `net` and `tap`: the network, and what is read off it; `disk`: testkit's, watched,
//!   with a pace.
//! - `journal` is the event log, `ledger` what governance nodes applied, `history` what the checker
//!   reads, `check` the checker.
//! - [`verdict`]: the same checks, for what tests see of real processes.
//! - `planted`: bugs that the checker must find; `swarm`: many seeds, and what to say of them.
//!
//! The product runs as it is: the actor tree with its delivery, stores, drivers and connections, and
//! the governance node from its accept loop to its ledger. What stands in are the file system, the
//! sockets and the clocks. In some seeds links have TLS, with certificates in memory. The writer of a
//! log is a task instead of a thread, with the same code.
//!
//! It is a crate of its own because `testkit` is what the layers' own tests are made of: that must
//! not need the whole product.

mod certificates;
mod check;
mod clock;
mod coverage;
mod disk;
mod extras;
mod fault;
mod federation;
mod governance;
mod history;
mod journal;
mod ledger;
mod logs;
mod machine;
mod neighbours;
mod net;
mod node;
mod plan;
mod planted;
mod run;
mod sender;
mod signing;
mod strikes;
mod swarm;
mod tap;
pub mod verdict;
mod world;

pub use check::Violation;
pub use coverage::{COVERING_SEEDS, Coverage, seeds_for_edge, seeds_for_kind, unreachable};
pub use extras::NODES_MAX;
pub use fault::Kind;
pub use planted::Planted;
pub use run::{Edition, Outcome, Trial, run, shortest};
pub use strikes::Count;
pub use swarm::{Budget, Swarm, Totals};
