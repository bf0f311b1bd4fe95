//! Breaks things on purpose, at their time.

use std::time::Duration;

use tokio::sync::watch;

use super::process::Process;
use super::timeline::Fault;
use super::watch::Sight;
use super::workload::{Event, Shared};
use crate::failure::Failure;

/// Pause between two looks for a busy moment, and how many there are: one second's worth.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const LOOKS_MAX: u32 = 1000;

/// Kills `victim`, starts it again, then kills the node and starts it again; resolves when `victim`
/// is connected again. Recovery from the other two shows in the signatures.
///
/// # Errors
///
/// When a process cannot be killed or started.
///
/// # Cancel safety
///
/// Not cancel safe: what was killed stays so.
pub(crate) async fn run(
    victim: &mut Process,
    node: &mut Process,
    shared: &Shared,
    mut sight: watch::Receiver<Sight>,
    run: Duration,
) -> Result<(), Failure> {
    let time_of = |fault: Fault| tokio::time::sleep_until(shared.started() + fault.at(run));

    time_of(Fault::GovernanceKilled).await;
    shared.cause(Fault::GovernanceKilled, victim.name());
    victim.kill().await?;

    time_of(Fault::GovernanceRestarted).await;
    shared.cause(Fault::GovernanceRestarted, victim.name());
    victim.start_again()?;

    let connected = async {
        // The sender lives as long as the watcher, which is aborted only after this.
        if sight.wait_for(|sight| sight.is_up(victim.name())).await.is_ok() {
            let now = shared.now();
            let over = shared.accounts().handle_recovered(now, Fault::GovernanceRestarted);
            over.into_iter().for_each(|fault| shared.tell(Event::Over(fault)));
        }
        Ok(())
    };
    let restarted = async {
        time_of(Fault::NodeRestarted).await;
        in_flight(shared).await;
        shared.cause(Fault::NodeRestarted, node.name());
        node.kill().await?;
        node.start_again()
    };
    tokio::try_join!(connected, restarted).map(|_| ())
}

/// Waits for a moment at which something accepted has no end yet: a restart of an idle node would
/// show nothing.
async fn in_flight(shared: &Shared) {
    let mut looks = tokio::time::interval(LOOK_AGAIN);
    for _ in 0..LOOKS_MAX {
        if shared.accounts().in_flight() > 0 {
            return;
        }
        looks.tick().await;
    }
}
