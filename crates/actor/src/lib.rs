//! The one place where the layers of `alys-stream` meet: the actor tree and the handle to it.
//!
//! ```text
//! root ── system ── StreamActor ── Connection(i) ── its stream     control only: no payload in a mailbox
//!   │        │           │
//!   │     Bridge, Chain  Delivery: buffer, outbox, inbox, collector, outcomes, dead letters
//!   ├── network ── Network, Sync
//!   └── storage ── Storage
//! ```
//!
//! - [`StreamSystem`] starts and stops the tree; [`StreamHandle`] is what callers hold.
//! - `delivery` joins the machines of the messaging layer with the disk and the streams.
//! - `balance` lets the transport's balancer choose endpoints for the outbox.
//! - `collector` gathers verified signatures; `exchange` is one endpoint's view of the delivery.
//! - [`gate`]: what is let in at all; [`federation`], [`agreement`], [`proposals`]: what governance
//!   pushes; [`neighbours`]: who is told.
//! - [`failure`]: what went wrong, classified once, and what the node can do meanwhile.
//! - [`letters`]: dead letters as an operator sees them; `trust`: certificates that change meanwhile.
//! - [`supervision`], `stream_actor`, `connection_actor`: who starts whom again.

mod ack_ledger;
pub mod agreement;
mod balance;
mod collector;
pub mod config;
mod connection_actor;
mod delivery;
mod exchange;
pub mod failure;
pub mod fault;
pub mod federation;
pub mod gate;
mod ground;
mod handle;
pub mod letters;
mod links;
pub mod neighbours;
mod observer;
pub mod outcome;
pub mod proposals;
mod spawn;
pub mod status;
mod stream_actor;
pub mod submit;
pub mod supervision;
mod system;
mod tally;
mod trust;

pub use config::{Bounds, StreamConfig};
pub use delivery::{Accepted, SendError, StartError};
pub use ground::Ground;
pub use handle::StreamHandle;
pub use outcome::{Follow, Outcome};
pub use status::Status;
pub use system::{StopReason, StreamSystem};
pub use trust::TlsFiles;

/// The actors' library, in the version that the contracts in [`neighbours`] are written in: what a
/// program's own actors are made of.
pub use ractor;
