//! Who starts whom again.
//!
//! ```text
//! root
//! ├── system    stream ── one connection per endpoint ── its stream    bridge    chain
//! ├── network   network   sync
//! └── storage   storage
//! ```
//!
//! Every supervisor is the same actor, `Supervisor`, with other children: one-for-one, within a
//! restart budget and with a backoff ([`restart`]). Past the budget it fails, and so counts against
//! the budget of its own parent; past the budget of the root the whole tree is stopped in order.
//! What every actor of the tree is doing is written down in one place, the `Tree`.
//!
//! Not here: what a child needs to begin, which its `Child` knows, and the children of the
//! StreamActor, which it starts again itself, by the same budget.

mod child;
mod died;
pub mod restart;
mod supervisor;
mod tree;

pub(crate) use child::{Branch, Child, Neighbour, words};
pub(crate) use died::ActorDied;
pub(crate) use supervisor::{Escalation, Supervisor, SupervisorArguments, Surrounds};
pub use tree::{ActorState, ActorStatus};
pub(crate) use tree::{Tree, TreePath};
