//! The link between an Alys node and its governance federation, for embedding.
//!
//! Start a [`StreamSystem`] with a [`StreamBuilder`], keep its [`StreamHandle`], and hand messages
//! over: once [`StreamHandle::submit`] returns, they are on stable storage and will be delivered, or
//! end as dead letters with a cause, whatever crashes. [`guarantees`] says what happens if what dies
//! while what is under way.
//!
//! # Features
//!
//! Features only add. [`protocol`] is always there, for tools that only encode and decode.
//!
//! | feature | what it adds |
//! |---|---|
//! | `messaging` | [`messaging`]: the store-and-forward log with priorities |
//! | `transport` | [`transport`]: connections, sessions, balancing, TLS |
//! | `node` (default) | everything, supervised: [`StreamBuilder`], [`StreamHandle`], [`actor`], [`config`], [`telemetry`] |
//!
//! # Examples
//!
//! `cargo run --example NAME`: `embed` (a program of yours with the link inside), `own_bridge` (an
//! actor of yours in the place of a default one), `read_buffer` (one layer crate alone, offline),
//! `decode` (`protocol` alone).

pub mod guarantees;

#[cfg(feature = "node")]
mod builder;

pub use alys_stream_protocol as protocol;

#[cfg(feature = "messaging")]
pub use alys_stream_messaging as messaging;
#[cfg(feature = "transport")]
pub use alys_stream_transport as transport;

#[cfg(feature = "node")]
pub use {
    crate::builder::{BuildError, StreamBuilder},
    alys_stream_actor as actor,
    alys_stream_actor::{StreamHandle, StreamSystem},
    alys_stream_config as config, alys_stream_telemetry as telemetry,
};

/// What a program that embeds the link usually names.
#[cfg(feature = "node")]
pub mod prelude {
    pub use alys_stream_actor::{
        Accepted, Follow, Outcome, SendError, StartError, Status, StopReason, StreamConfig,
        StreamHandle, StreamSystem,
    };
    pub use alys_stream_config::NodeConfig;
    pub use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority, Seq};
    pub use alys_stream_protocol::submission::{OutcomeState, Submission, submission::Payload};
    pub use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock};
    pub use alys_stream_telemetry::metrics::Metrics;

    pub use crate::builder::{BuildError, StreamBuilder};
}

/// The README's Rust blocks, compiled.
#[cfg(all(doctest, feature = "node"))]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
