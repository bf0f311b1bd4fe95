//! What governance votes on: each proposal told once, and its voting deadline watched.
//!
//! [`Proposals`] is a pure machine, [`ProposalDriver`] performs what it says, and [`ProposalLog`]
//! keeps on disk what was told, so that a restart tells nothing twice.
//!
//! ```text
//! proposal ─▶ form ─▶ deadline ─▶ told before? ─▶ agreement ─▶ Chain ─▶ log ─▶ deadline ─▶ Chain: closed
//! ```
//!
//! A proposal must have a voting deadline: until then its id is remembered, and from then on it is
//! refused for being late. One that is told and not yet in the log when the process dies is told
//! again, with the same id.
//!
//! Not here: votes. The published protocol has none; the actors decide what a proposal means.
//!
//! Invariants:
//! - A16: a proposal is told once, before its deadline, and closed once, after it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::governance::{ProposalNotification, ProposalType};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_protocol::validate;
use bytes::Bytes;

use crate::agreement::{Agreement, AgreementPolicy, ContentDigest, Observed, Topic};

mod driver;
mod log;
#[cfg(test)]
mod tests;

pub use driver::{Dealt, ProposalDriver, ProposalFailure};
pub use log::{InvalidRecord, ProposalLog, ProposalLogError, ProposalRecord};

/// The farthest deadline that is taken: beyond it nobody would remember what was voted on.
pub const DEADLINE_MAX: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// A proposal as the neighbours get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its id: two with the same one are the same.
    pub id: String,
    /// What it is about.
    pub kind: ProposalType,
    /// Its content, opaque to this node.
    pub data: Bytes,
    /// When voting ends.
    pub deadline: UnixMillis,
    /// How many votes it takes.
    pub required_votes: u32,
}

/// What a proposal led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Tell it, then say so with [`Proposals::handle_told`] or [`Proposals::handle_not_told`].
    Tell(Arc<Proposal>),
    /// It was told before, or is being told.
    Duplicate,
    /// So many endpoints more must bring it. Keep it until then.
    Waiting {
        /// How many.
        missing: usize,
    },
}

/// A proposal that is not told.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refused {
    /// A field is missing, out of bounds or meaningless.
    #[error("the proposal is unusable: {0}")]
    Invalid(#[source] validate::Invalid),
    /// It has no deadline.
    #[error("the proposal has no voting_deadline: give it one, in Unix seconds")]
    NoDeadline,
    /// Its deadline is too far away.
    #[error("voting ends at {deadline}, more than {} days from now", DEADLINE_MAX.as_secs() / 86_400)]
    TooFar {
        /// Its deadline.
        deadline: UnixMillis,
    },
    /// Voting is over.
    #[error("voting ended at {deadline}")]
    Expired {
        /// Its deadline.
        deadline: UnixMillis,
    },
    /// The endpoints, or today and an earlier day, have different contents for one id.
    #[error("proposal {id} has different contents: ask governance which one it means")]
    Conflict {
        /// Its id.
        id: String,
        /// Whether this is the first time that it shows.
        is_new: bool,
        /// Whether one of them was told already.
        is_applied: bool,
    },
    /// The endpoint is not enabled any more.
    #[error("the endpoint is not enabled")]
    NotEnabled,
    /// Too many proposals are open.
    #[error("too many proposals are open: send it again later")]
    Full,
}

impl Refused {
    /// Whether the same proposal may be taken later.
    #[must_use]
    pub const fn is_for_now(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Invalid(_)
            | Self::NoDeadline
            | Self::TooFar { .. }
            | Self::Expired { .. }
            | Self::Conflict { .. }
            | Self::NotEnabled => false,
        }
    }
}

/// How proposals are, for `/status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct ProposalCounts {
    /// Told, voting goes on.
    pub open: usize,
    /// Told since the start.
    pub told: u64,
    /// Closed since the start.
    pub closed: u64,
    /// Refused since the start.
    pub refused: u64,
}

/// The open proposals. Pure.
#[derive(Debug)]
pub struct Proposals {
    agreement: Agreement,
    /// Told, by id.
    told: BTreeMap<String, ProposalRecord>,
    /// When voting on those ends, earliest first.
    ends: BTreeSet<(UnixMillis, String)>,
    /// Voting is over: to be told.
    closed: VecDeque<String>,
    counts: ProposalCounts,
}

impl Proposals {
    /// Nothing is open.
    #[must_use]
    pub fn new(policy: AgreementPolicy, enabled: impl IntoIterator<Item = EndpointId>) -> Self {
        Self {
            agreement: Agreement::new(policy, enabled),
            told: BTreeMap::new(),
            ends: BTreeSet::new(),
            closed: VecDeque::new(),
            counts: ProposalCounts::default(),
        }
    }

    /// An earlier process told this one. When voting ended meanwhile, that is to be told now.
    pub fn restore(&mut self, record: ProposalRecord) {
        let topic = Topic::Proposal(record.id.clone());
        self.agreement.restore(topic, record.content, Some(record.deadline), record.endpoint);
        self.ends.insert((record.deadline, record.id.clone()));
        self.told.insert(record.id.clone(), record);
    }

    /// These endpoints are enabled from now on. Returns the ids of proposals that wait and have
    /// enough votes now: what was kept of them is to be handled again.
    pub fn handle_enabled(&mut self, enabled: impl IntoIterator<Item = EndpointId>) -> Vec<String> {
        let ready = self.agreement.handle_enabled(enabled);
        ready
            .into_iter()
            .filter_map(|topic| match topic {
                Topic::Proposal(id) => Some(id),
                Topic::Federation(_) | Topic::Request(_) => None,
            })
            .collect()
    }

    /// An endpoint brought a proposal.
    ///
    /// # Errors
    ///
    /// When it is not told, and why. [`Refused::is_for_now`] says whether that may change.
    pub fn handle_proposal(
        &mut self,
        now: UnixMillis,
        endpoint: EndpointId,
        proposal: &ProposalNotification,
    ) -> Result<Step, Refused> {
        let result = self.decide(now, endpoint, proposal);
        self.counts.refused += u64::from(result.is_err());
        result
    }

    fn decide(
        &mut self,
        now: UnixMillis,
        endpoint: EndpointId,
        proposal: &ProposalNotification,
    ) -> Result<Step, Refused> {
        validate::proposal_notification(proposal).map_err(Refused::Invalid)?;
        let deadline = deadline_of(proposal).ok_or(Refused::NoDeadline)?;
        if deadline > now.saturating_add(DEADLINE_MAX) {
            return Err(Refused::TooFar { deadline });
        }
        let id = proposal.proposal_id.clone();
        let topic = Topic::Proposal(id.clone());
        let content = ContentDigest::of_proposal(proposal);
        match self.agreement.handle_said(now, endpoint, topic, content, Some(deadline)) {
            Observed::Agreed => Ok(Step::Tell(Arc::new(Proposal {
                id,
                kind: proposal.proposal_type(),
                data: proposal.proposal_data.clone(),
                deadline,
                required_votes: proposal.required_votes,
            }))),
            Observed::Duplicate => Ok(Step::Duplicate),
            Observed::Waiting { missing } => Ok(Step::Waiting { missing }),
            Observed::Conflict { is_new, is_applied } => {
                Err(Refused::Conflict { id, is_new, is_applied })
            }
            Observed::Expired => Err(Refused::Expired { deadline }),
            Observed::NotEnabled => Err(Refused::NotEnabled),
            Observed::Full => Err(Refused::Full),
        }
    }

    /// It was told. Returns what is to be kept of it; from now on its deadline is watched.
    pub fn handle_told(
        &mut self,
        proposal: &Proposal,
        endpoint: EndpointId,
        content: ContentDigest,
    ) -> ProposalRecord {
        let record = ProposalRecord {
            id: proposal.id.clone(),
            content,
            deadline: proposal.deadline,
            endpoint,
        };
        self.counts.told += 1;
        self.ends.insert((record.deadline, record.id.clone()));
        self.told.insert(record.id.clone(), record.clone());
        record
    }

    /// It could not be told: the next one who brings it has it told again.
    pub fn handle_not_told(&mut self, proposal: &Proposal) {
        self.agreement.handle_not_applied(&Topic::Proposal(proposal.id.clone()));
    }

    /// When voting on the next one ends.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        let told = self.ends.first().map(|(end, _)| *end);
        told.into_iter().chain(self.agreement.poll_timeout()).min()
    }

    /// Closes what voting is over on.
    pub fn handle_timeout(&mut self, now: UnixMillis) {
        self.agreement.handle_timeout(now);
        while self.ends.first().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, id)) = self.ends.pop_first() {
                self.told.remove(&id);
                self.counts.closed += 1;
                self.closed.push_back(id);
            }
        }
    }

    /// The next proposal that voting is over on, to be told.
    #[must_use]
    pub fn peek_closed(&self) -> Option<&str> {
        self.closed.front().map(String::as_str)
    }

    /// That one was told.
    pub fn finish_closed(&mut self) {
        self.closed.pop_front();
    }

    /// What was told and is open.
    pub fn open(&self) -> impl Iterator<Item = &ProposalRecord> {
        self.told.values()
    }

    /// How they are.
    #[must_use]
    pub fn counts(&self) -> ProposalCounts {
        ProposalCounts { open: self.told.len(), ..self.counts }
    }
}

/// When voting ends; `None` when it says nothing.
#[must_use]
pub fn deadline_of(proposal: &ProposalNotification) -> Option<UnixMillis> {
    let seconds = u64::try_from(proposal.voting_deadline).ok().filter(|seconds| *seconds > 0)?;
    Some(UnixMillis(seconds.saturating_mul(1000)))
}
