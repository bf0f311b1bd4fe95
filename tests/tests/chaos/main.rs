//! Chaos with real processes, sockets and files: `kill -9`, processes that are stopped, a proxy that
//! breaks connections, governance nodes that misbehave, clocks that jump, a full disk, a slow and
//! lossy network.
//!
//! What is checked is what the ledgers of the governance nodes say, and what the node says became of
//! each message, by the checks of the simulation (`verdict`): nothing lost, nothing applied twice or
//! out of order, everything ends. The simulation checks more, on many more faults; here the operating
//! system is the real one.
//!
//! What this machine does not allow is skipped with a printed reason.

#![expect(clippy::print_stdout, reason = "seeds, figures and reasons are shown")]

mod clocks;
mod everything;
mod full;
mod load;
mod networks;
mod verdict;
