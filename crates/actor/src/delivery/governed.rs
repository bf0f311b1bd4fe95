//! The drivers that keep neighbours up to date: the federation in force, and deadlines of proposals.
//!
//! Nothing here decides anything: it opens the stores, waits for heights and clocks, and tries again
//! what a neighbour did not deal with.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::buffer::Buffer;
use alys_stream_messaging::outbox::EndpointId;
use alys_stream_messaging::router::Target;
use alys_stream_messaging::storage::Storage;
use alys_stream_protocol::message::Seq;

use super::damage::Damage;
use super::duties::Duties;
use super::{Delivery, StartError};
use crate::config::StreamConfig;
use crate::failure::{Context, Facts};
use crate::federation::{
    FederationDriver, FederationFailure, FederationHistory, Federations, InForce, Moment,
};
use crate::links::Links;
use crate::proposals::{ProposalDriver, ProposalLog, Proposals};
use crate::system::Surroundings;

/// First wait before a neighbour is told again what it did not deal with; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait, and how long nothing is looked at while all is well.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Opens what is remembered of the federation and of proposals.
pub(super) fn open(
    config: &StreamConfig,
    around: &Surroundings,
    storage: &Arc<dyn Storage>,
    buffer: &Buffer,
    damage: &mut Damage,
) -> Result<Duties, StartError> {
    let now = around.clock.now();
    let dir = |name: &str| config.data_dir.join(name);
    let enabled: Vec<EndpointId> = config
        .endpoints
        .iter()
        .zip(0_u16..)
        .filter(|(endpoint, _)| endpoint.enabled)
        .map(|(_, index)| EndpointId(index))
        .collect();
    let (history, entries) = FederationHistory::open(&dir("federation"), Arc::clone(storage))?;
    // What is in the buffer before there is a history belongs to the configured federation.
    let next_seq = if entries.is_empty() { Seq::FIRST } else { buffer.next_seq() };
    let restored = Federations::restore(entries)?;
    let moment = Moment { at: now, next_seq };
    let machine = Federations::reconcile(restored, config.federation.clone(), moment)?;
    let federation = machine.map(|machine| {
        let neighbours = around.neighbours.clone();
        let policy = config.agreement.federation;
        FederationDriver::new(machine, history, neighbours, policy, enabled.iter().copied())
    });
    let (log, told) = ProposalLog::open(&dir("proposals"), now, Arc::clone(storage))?;
    damage.add_gaps("proposals", log.gaps());
    let proposals = Proposals::new(config.agreement.proposals, enabled);
    let proposals = ProposalDriver::new(proposals, log, told, around.neighbours.clone());
    Ok(Duties::new(federation, proposals))
}

impl Delivery {
    /// The federation in force; `None` when none is configured.
    pub(crate) fn in_force(&self) -> Option<Arc<InForce>> {
        let federation = self.duties.federation.as_ref()?;
        Some(Arc::clone(&federation.in_force().borrow()))
    }

    /// What is observed of everything that a mode depends on.
    pub(crate) fn facts(&self, links: &Links) -> Facts {
        let stat = self.buffer.stat();
        let federation = self.duties.federation.as_ref();
        let halted =
            federation.and_then(|it| it.halted().borrow().as_ref().map(|halt| halt.reason.clone()));
        Facts {
            stopped: None,
            is_restarting: false,
            halted,
            is_disk_failed: self.is_disk_failed(),
            is_disk_full: stat.log.is_disk_full,
            buffer_bytes: stat.bytes(),
            buffer_bytes_max: stat.quota_bytes,
            endpoints_live: links.live(),
            endpoints_enabled: links.enabled().count(),
            threshold: self.in_force().map(|it| it.federation.threshold()),
            targets_late: self.neighbours.late(),
        }
    }

    /// Notes a failure of the federation; `Err` when the StreamActor must be built again.
    fn note_federation(&self, error: &FederationFailure) -> Result<(), String> {
        self.failures.record(error, Context::default());
        if error.is_fatal() { Err(error.to_string()) } else { Ok(()) }
    }
}

/// What the driver of the federation does next.
enum Next {
    Height(u64),
    NewLife(Target),
    Again,
}

/// Tells everybody how things are, lets heights act, and tells again whoever did not deal with it
/// or began anew.
///
/// # Errors
///
/// When the history cannot be written.
pub(super) async fn run_federation(delivery: Arc<Delivery>) -> Result<(), String> {
    let Some(federation) = &delivery.duties.federation else {
        return std::future::pending().await;
    };
    let mut heights = delivery.heights.subscribe();
    heights.mark_changed();
    let mut lives = delivery.neighbours.lives();
    // Who began anew and was not told yet.
    let mut untold: BTreeSet<Target> = BTreeSet::new();
    let mut backoff = BACKOFF_MIN;
    let mut result = federation.start(delivery.moment()).await;
    loop {
        match &result {
            Ok(()) => backoff = BACKOFF_MIN,
            Err(error) => delivery.note_federation(error)?,
        }
        let is_done = result.is_ok() && untold.is_empty();
        let wait = if is_done { BACKOFF_MAX } else { backoff };
        let next = tokio::select! {
            biased;
            target = lives.next() => Next::NewLife(target),
            Ok(()) = heights.changed() => match *heights.borrow_and_update() {
                Some(height) => Next::Height(height),
                None => continue,
            },
            () = tokio::time::sleep(wait) => Next::Again,
        };
        result = match next {
            Next::Height(height) => federation.handle_height(delivery.moment(), height).await,
            Next::NewLife(target) => {
                untold.insert(target);
                tell_new_lives(federation, &mut untold).await
            }
            Next::Again => {
                backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
                match tell_new_lives(federation, &mut untold).await {
                    Ok(()) => federation.retry().await,
                    failed @ Err(_) => failed,
                }
            }
        };
    }
}

/// Tells everybody who began anew what stands; the others are told whoever fails.
async fn tell_new_lives(
    federation: &FederationDriver,
    untold: &mut BTreeSet<Target>,
) -> Result<(), FederationFailure> {
    let mut first = Ok(());
    for target in untold.clone() {
        match federation.handle_new_life(target).await {
            Ok(()) => {
                untold.remove(&target);
            }
            failed @ Err(_) => first = first.and(failed),
        }
    }
    first
}

/// Closes proposals whose voting is over.
pub(super) async fn run_proposals(delivery: Arc<Delivery>) {
    let proposals = &delivery.duties.proposals;
    let mut backoff = BACKOFF_MIN;
    loop {
        let now = delivery.clock.now();
        let wait = match proposals.handle_timeout(now).await {
            Ok(()) => {
                backoff = BACKOFF_MIN;
                let due = proposals.poll_timeout().map(|at| at.saturating_since(now));
                // A nearer deadline may come meanwhile.
                due.map_or(BACKOFF_MAX, |due| due.clamp(BACKOFF_MIN, BACKOFF_MAX))
            }
            Err(error) => {
                delivery.failures.record(&error, Context::default());
                backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
                backoff
            }
        };
        tokio::time::sleep(wait).await;
    }
}
