//! The only places where tasks are born: each is owned by an actor's state, or by
//! the tree as a whole, and dies with it.

use std::future::Future;

use tokio::task::{JoinError, JoinSet};
use tokio_util::task::AbortOnDropHandle;

/// Runs a future in a task of its own and reports its end: `None` when it returned, the panic's
/// words otherwise. Dropping the handle stops both.
pub(crate) fn watched<F>(
    future: F,
    ended: impl FnOnce(Option<String>) + Send + 'static,
) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    owned(async move {
        let mut tasks = JoinSet::new();
        tasks.spawn(future);
        let reason = match tasks.join_next().await {
            Some(Err(error)) => Some(words(error)),
            Some(Ok(())) | None => None,
        };
        ended(reason);
    })
}

/// Runs drivers that must all live until they are stopped, and reports the first that ends.
pub(crate) fn watched_all(
    mut drivers: JoinSet<Result<(), String>>,
    ended: impl FnOnce(String) + Send + 'static,
) -> AbortOnDropHandle<()> {
    owned(async move {
        let reason = match drivers.join_next().await {
            Some(Ok(Ok(()))) => "a driver ended".to_owned(),
            Some(Ok(Err(reason))) => reason,
            Some(Err(error)) => words(error),
            None => return,
        };
        ended(reason);
    })
}

/// Runs a future in a task of its own. Dropping the handle stops it.
#[expect(clippy::disallowed_methods, reason = "driver: the handle has an owner")]
pub(crate) fn owned(future: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(future))
}

fn words(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .map(|text| (*text).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "no message".to_owned());
            format!("panicked: {text}")
        }
        Err(error) => error.to_string(),
    }
}
