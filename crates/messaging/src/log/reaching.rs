//! What a caller that waits for a position awaits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::awaiting::{Awaiting, Place, Standing};

/// Resolves once a position is reached (`true`) or never will be (`false`).
#[derive(Debug)]
#[must_use = "nothing is awaited"]
pub(super) struct Reaching<'a> {
    awaiting: &'a Awaiting<Waker>,
    position: u64,
    place: Option<Place>,
}

impl<'a> Reaching<'a> {
    pub(super) const fn new(awaiting: &'a Awaiting<Waker>, position: u64) -> Self {
        Self { awaiting, position, place: None }
    }
}

impl Future for Reaching<'_> {
    type Output = bool;

    fn poll(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<bool> {
        let Self { awaiting, position, place } = self.get_mut();
        match awaiting.ask(*position, place, || ctx.waker().clone()) {
            Standing::Reached => Poll::Ready(true),
            Standing::Over => Poll::Ready(false),
            Standing::Waits => Poll::Pending,
        }
    }
}

impl Drop for Reaching<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.awaiting.leave(place);
        }
    }
}
