//! The health monitor: what mode the node is in, told to Sync, whose gate it holds open.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::delivery::Delivery;
use crate::failure::{Context, Facts, Mode, ModeReport};
use crate::links::Links;
use crate::neighbours::LinkHealth;
use crate::neighbours::sync::HEALTH_EVERY;

/// How often the mode is looked at: the longest time until Sync hears of a change.
const LOOK: Duration = Duration::from_secs(1);

/// How the link is.
pub(super) fn of(facts: &Facts) -> LinkHealth {
    let ModeReport { mode, reason } = ModeReport::of(facts);
    LinkHealth {
        mode,
        reason,
        endpoints_live: facts.endpoints_live,
        endpoints_enabled: facts.endpoints_enabled,
    }
}

/// Tells Sync how the link is: at every change of mode, and every [`HEALTH_EVERY`].
pub(super) async fn run(delivery: Arc<Delivery>, links: Arc<Links>) {
    let mut told: Option<(LinkHealth, Instant)> = None;
    let mut lives = delivery.neighbours.sync.lives();
    let mut is_anew = false;
    loop {
        let health = of(&delivery.facts(&links));
        let is_due = told
            .as_ref()
            .is_none_or(|(last, at)| last.mode != health.mode || at.elapsed() >= HEALTH_EVERY);
        if is_due || is_anew {
            let before = told.as_ref().map(|(last, _)| last.mode).filter(|it| *it != health.mode);
            delivery.metrics.mode(before.map(Mode::as_str), health.mode.as_str());
            match delivery.neighbours.tell_health(health.clone()).await {
                Ok(()) => told = Some((health, Instant::now())),
                Err(error) => delivery.failures.record(&error, Context::default()),
            }
        }
        // A Sync that began anew has its gate closed until it is told.
        is_anew = matches!(tokio::time::timeout(LOOK, lives.changed()).await, Ok(Ok(())));
    }
}
