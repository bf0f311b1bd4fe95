//! What tells a process to stop: signals, and the end of its standard input.

use std::os::fd::AsFd as _;

use futures::FutureExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// Waits for whoever wants the process to stop.
#[derive(Debug)]
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    parent: Option<pipe::Receiver>,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A signal: finish what is in flight. Said again, it means now.
    Politely,
    /// Standard input ended: whoever started this process is gone, and so is the reason to go on.
    Abandoned,
}

impl Stop {
    /// Takes over the signals, and standard input when `with_stdin`.
    ///
    /// # Errors
    ///
    /// When a signal cannot be taken over, or standard input is not a pipe.
    pub(crate) fn try_new(with_stdin: bool) -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::other(format_args!("signals: {error}")));
        let parent = if with_stdin { Some(stdin_pipe()?) } else { None };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            parent,
        })
    }

    /// Resolves with each request to stop.
    ///
    /// # Cancel safety
    ///
    /// A request that was not returned is returned by the next call.
    pub(crate) async fn asked(&mut self) -> Asked {
        let parent = match &mut self.parent {
            Some(parent) => ended(parent).left_future(),
            None => std::future::pending().right_future(),
        };
        tokio::select! {
            _ = self.terminate.recv() => Asked::Politely,
            _ = self.interrupt.recv() => Asked::Politely,
            () = parent => Asked::Abandoned,
        }
    }
}

/// Reads and drops what comes until it ends. Not through `tokio::io::stdin`: its blocking read
/// would keep the process from ending.
async fn ended(parent: &mut pipe::Receiver) {
    let mut scratch = [0_u8; 64];
    while matches!(parent.read(&mut scratch).await, Ok(read) if read > 0) {}
}

fn stdin_pipe() -> Result<pipe::Receiver, Failure> {
    std::io::stdin().as_fd().try_clone_to_owned().and_then(pipe::Receiver::from_owned_fd).map_err(
        |error| {
            Failure::usage(format_args!(
                "--exit-with-stdin: standard input is not a pipe: {error} (leave the option away)"
            ))
        },
    )
}
