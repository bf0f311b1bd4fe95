//! Futures that are polled so many times, and then dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// More polls than any call needs: a call that is not over by then hangs.
const POLLS_MAX: usize = 10_000;

/// A future with a number of polls left. Each but the first comes when something woke it.
struct Polled<F> {
    future: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for Polled<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(left) = self.left.checked_sub(1) else {
            return Poll::Ready(None);
        };
        self.left = left;
        match self.future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Polls a future so many times and drops it; what it said when it was over by then.
pub(crate) async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    Polled { future: Box::pin(future), left: times }.await
}

/// Drops a call after no poll, after one, after two, and so on, until it is over before it is
/// dropped; says how many polls that took. `call` makes it and polls it so many times, `check` looks
/// at what is left of it.
pub(crate) async fn at_each_poll<T>(
    name: &str,
    mut call: impl AsyncFnMut(usize) -> Option<T>,
    mut check: impl AsyncFnMut(usize, Option<&T>),
) -> usize {
    for times in 0..POLLS_MAX {
        let output = call(times).await;
        check(times, output.as_ref()).await;
        if output.is_some() {
            println!("{name}: dropped after 0 to {} polls, over after {times}", times - 1);
            return times;
        }
    }
    panic!("{name} is not over after {POLLS_MAX} polls");
}
