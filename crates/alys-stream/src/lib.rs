//! The link between an Alys node and its governance federation, for embedding.
//!
//! Start a [`StreamSystem`], keep its [`StreamHandle`], and hand messages over: once
//! [`StreamHandle::submit`] returns, they are on stable storage and will be delivered, or end as dead
//! letters with a cause, whatever crashes.
//!
//! The layers are crates of their own and re-exported here: [`protocol`], [`messaging`],
//! [`transport`], [`telemetry`], [`config`], [`actor`].

pub use alys_stream_actor as actor;
pub use alys_stream_config as config;
pub use alys_stream_messaging as messaging;
pub use alys_stream_protocol as protocol;
pub use alys_stream_telemetry as telemetry;
pub use alys_stream_transport as transport;

pub use alys_stream_actor::{StreamHandle, StreamSystem};

/// What a program that embeds the link usually names.
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
}

/// The README's Rust blocks, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
