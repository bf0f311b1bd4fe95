//! Where the stream of a connection runs: in the task of its attempt, or where its owner wants it,
//! such as in an actor of its own.
//!
//! The connection machine decides when there is a stream, and learns how it ended. Whoever hosts it
//! decides neither.

use std::fmt;

use futures::FutureExt as _;
use futures::future::{BoxFuture, ready};

/// A stream, from its handshake to its end.
pub type Hosted = BoxFuture<'static, ()>;

/// A stream was ended from outside, or panicked: its connection is lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the stream died: {0}")]
pub struct StreamDied(pub String);

/// Runs the streams of one endpoint, one at a time.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// Runs a stream to its end.
    ///
    /// # Errors
    ///
    /// When it did not come to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the stream; [`Host::closed`] says when it is gone.
    fn run(&self, stream: Hosted) -> BoxFuture<'_, Result<(), StreamDied>>;

    /// Resolves once nothing is left of any stream that was to be run here.
    fn closed(&self) -> BoxFuture<'_, ()>;
}

/// Runs a stream in the task of its attempt.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InPlace;

impl Host for InPlace {
    fn run(&self, stream: Hosted) -> BoxFuture<'_, Result<(), StreamDied>> {
        stream.map(Ok).boxed()
    }

    fn closed(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}
