//! Performs what [`Proposals`] decides: tells Chain, keeps the log, watches the clock.

use std::sync::{Mutex, MutexGuard, PoisonError};

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::governance::ProposalNotification;
use alys_stream_protocol::time::UnixMillis;

use super::{
    ProposalCounts, ProposalLog, ProposalLogError, ProposalRecord, Proposals, Refused, Step,
};
use crate::agreement::ContentDigest;
use crate::neighbours::{Neighbours, TargetError};

/// A proposal that was not dealt with.
#[derive(Debug, thiserror::Error)]
pub enum ProposalFailure {
    /// It is not told.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Chain did not deal with it.
    #[error("the proposal was not dealt with: {0}")]
    Target(#[source] TargetError),
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] ProposalLogError),
}

impl ProposalFailure {
    /// Whether to try the same proposal again, after a backoff.
    #[must_use]
    pub const fn is_for_now(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.is_for_now(),
            Self::Target(error) => error.is_for_now(),
            Self::Log(_) => true,
        }
    }
}

/// What an endpoint brought was dealt with, or is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dealt {
    /// Chain has dealt with it, now or before.
    Told,
    /// More endpoints must bring it: keep it until they do, or its deadline passes.
    Kept,
}

/// The proposals of one node.
#[derive(Debug)]
pub struct ProposalDriver {
    machine: Mutex<Proposals>,
    log: ProposalLog,
    neighbours: Neighbours,
}

impl ProposalDriver {
    /// Begins with what an earlier process told.
    #[must_use]
    pub fn new(
        mut machine: Proposals,
        log: ProposalLog,
        told: Vec<ProposalRecord>,
        neighbours: Neighbours,
    ) -> Self {
        for record in told {
            machine.restore(record);
        }
        Self { machine: Mutex::new(machine), log, neighbours }
    }

    /// An endpoint brought a proposal: it is told when it is new and enough endpoints agree.
    ///
    /// # Errors
    ///
    /// When it is refused, or was not dealt with; [`ProposalFailure::is_for_now`] says whether to
    /// try again.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the proposal may have been told; handling it again tells it again.
    pub async fn handle_proposal(
        &self,
        now: UnixMillis,
        endpoint: EndpointId,
        proposal: &ProposalNotification,
    ) -> Result<Dealt, ProposalFailure> {
        let content = ContentDigest::of_proposal(proposal);
        self.check_past(proposal, content)?;
        let step = self.lock().handle_proposal(now, endpoint, proposal)?;
        let telling = match step {
            Step::Duplicate => return Ok(Dealt::Told),
            Step::Waiting { .. } => return Ok(Dealt::Kept),
            Step::Tell(proposal) => NotTold { driver: self, proposal: Some(proposal) },
        };
        let Some(proposal) = telling.proposal.clone() else {
            return Ok(Dealt::Told);
        };
        self.neighbours.tell_proposal(&proposal).await.map_err(ProposalFailure::Target)?;
        let (record, open) = {
            let mut machine = self.lock();
            let record = machine.handle_told(&proposal, endpoint, content);
            (record, machine.open().cloned().collect())
        };
        telling.done();
        self.log.append(&record, open).await?;
        Ok(Dealt::Told)
    }

    /// One that was told before this process, or long ago, must not change its content.
    fn check_past(
        &self,
        proposal: &ProposalNotification,
        content: ContentDigest,
    ) -> Result<(), ProposalFailure> {
        match self.log.get(&proposal.proposal_id)? {
            Some(record) if record.content != content => {
                let id = record.id;
                Err(Refused::Conflict { id, is_new: true, is_applied: true }.into())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// When [`ProposalDriver::handle_timeout`] is due next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        self.lock().poll_timeout()
    }

    /// Tells Chain what voting is over on. What it does not deal with stays for the next call.
    ///
    /// # Errors
    ///
    /// When Chain did not deal with one: call it again after a backoff.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped one may be told again.
    pub async fn handle_timeout(&self, now: UnixMillis) -> Result<(), TargetError> {
        self.lock().handle_timeout(now);
        loop {
            let Some(id) = self.lock().peek_closed().map(str::to_owned) else {
                return Ok(());
            };
            self.neighbours.tell_closed(&id).await?;
            self.lock().finish_closed();
        }
    }

    /// These endpoints are enabled from now on; see [`Proposals::handle_enabled`].
    pub fn handle_enabled(&self, enabled: impl IntoIterator<Item = EndpointId>) -> Vec<String> {
        self.lock().handle_enabled(enabled)
    }

    /// How they are.
    #[must_use]
    pub fn counts(&self) -> ProposalCounts {
        self.lock().counts()
    }

    /// Releases the log.
    pub async fn close(&self) {
        self.log.close().await;
    }

    fn lock(&self) -> MutexGuard<'_, Proposals> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that a proposal was not told, unless it was: also when nobody waits any more.
struct NotTold<'a> {
    driver: &'a ProposalDriver,
    proposal: Option<std::sync::Arc<super::Proposal>>,
}

impl NotTold<'_> {
    fn done(mut self) {
        self.proposal = None;
    }
}

impl Drop for NotTold<'_> {
    fn drop(&mut self) {
        if let Some(proposal) = self.proposal.take() {
            self.driver.lock().handle_not_told(&proposal);
        }
    }
}
