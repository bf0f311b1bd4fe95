//! What an Alys node owes and is owed: durable buffer, priorities, outbox, inbox, dead letters.
//!
//! Useful alone: a store-and-forward log with priorities, delivery policies and exact dedup. It
//! knows nothing about connections, gRPC or actors: whoever has those feeds its machines.
//!
//! - [`buffer`]: what was accepted and is not settled, on disk.
//! - [`outbox`]: who gets it, in which order, and when it is settled or dead.
//! - [`queue`]: weighted deficit round robin over four priorities.
//! - [`router`]: message kind → policy, priority, durability, deadline.
//! - [`retry`]: when a refused message is due again.
//! - [`inbox`]: what was received, once.
//! - [`refusals`]: who refused a live message, through a restart.
//! - [`dead_letter`]: why a message died. [`outcome`]: how one ended.
//! - [`log`]: the segmented write-ahead log below all of these. [`storage`]: the seam to files.
//! - [`tools`]: looks at, repairs and adopts the directory of a buffer that no process has open.

pub mod buffer;
pub mod dead_letter;
pub mod inbox;
pub mod log;
pub mod outbox;
pub mod outcome;
pub mod queue;
pub mod record;
pub mod refusals;
pub mod retry;
pub mod router;
mod sealed;
mod seq_map;
pub mod storage;
pub mod tools;

pub use buffer::{
    Accepted, AppendCause, AppendError, BacklogPage, Buffer, BufferConfig, BufferStat, Recovered,
    Unreadable, WhenFull,
};
pub use dead_letter::{DeadLetter, DeadLetters};
pub use inbox::Inbox;
pub use log::{CommitObserver, DurabilityError, OpenError, Position, ReadError};
pub use outbox::{
    Action, Attempt, Balance, Budget, Candidate, Cause, EndpointId, Loaded, Outbox, OutboxConfig,
    Refusal, RefusalTicket,
};
pub use outcome::Outcomes;
pub use record::RecordMeta;
pub use refusals::{History, Refusals};
pub use router::{Durability, Policy, Route, Router, RouterConfig};
pub use storage::{FileStorage, Storage};
