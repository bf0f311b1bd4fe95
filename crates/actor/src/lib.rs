//! The one place where the layers of `alys-stream` meet: the actor tree and the handle to it.
//!
//! ```text
//! RootSupervisor ── StreamActor ── Connection(i)      control only: no payload is ever in a mailbox
//!                        │
//!                     Delivery: buffer, outbox, inbox, collector, outcomes, dead letters
//! ```
//!
//! - [`StreamSystem`] starts and stops the tree; [`StreamHandle`] is what callers hold.
//! - `delivery` joins the machines of the messaging layer with the disk and the streams.
//! - `collector` gathers verified signatures; `exchange` is one endpoint's view of the delivery.
//! - [`letters`]: dead letters as an operator sees them.
//! - `restart`, `supervisor`, `stream_actor`, `connection_actor`: who starts whom again.

mod ack_ledger;
mod collector;
pub mod config;
mod connection_actor;
mod delivery;
mod exchange;
mod handle;
pub mod letters;
mod links;
mod observer;
pub mod outcome;
pub mod restart;
mod spawn;
pub mod status;
mod stream_actor;
pub mod submit;
mod supervisor;
mod system;
mod tally;

pub use config::StreamConfig;
pub use delivery::{Accepted, SendError, StartError};
pub use handle::StreamHandle;
pub use outcome::{Follow, Outcome};
pub use status::Status;
pub use system::{StopReason, StreamSystem};
