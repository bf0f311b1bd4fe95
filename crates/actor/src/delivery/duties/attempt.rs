//! One attempt to have something dealt with, and what came of it.

use std::sync::Arc;

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::governance::{
    FederationUpdate, FederationUpdateType, ProposalNotification,
};
use alys_stream_protocol::message::Seq;
use tokio::time::Instant;

use super::super::{Delivery, State};
use super::{Content, Duty, DutyError};
use crate::agreement::AgreementPolicy;
use crate::failure::Context;
use crate::federation::{FederationFailure, Pushed, Refused};
use crate::proposals::{Dealt, ProposalFailure};

/// The word used in metrics.
const fn word(kind: FederationUpdateType) -> &'static str {
    match kind {
        FederationUpdateType::Unspecified => "unspecified",
        FederationUpdateType::MemberAdd => "member_add",
        FederationUpdateType::MemberRemove => "member_remove",
        FederationUpdateType::ConfigChange => "config_change",
        FederationUpdateType::EmergencyHalt => "emergency_halt",
    }
}

/// What came of an attempt.
pub(super) enum Outcome {
    Done,
    /// More endpoints must say it.
    Kept,
    /// Not now; a dead letter when it is given up.
    Later(String),
    /// Whoever signed it is not known, and may be soon; nothing is left of it when it is given up.
    Unknown,
    Never(String),
}

impl Delivery {
    pub(super) async fn deal_with(&self, duty: &Duty, failures: u32) -> Result<Outcome, String> {
        let (endpoint, name) = {
            let state = self.lock();
            let name = State::source_name(&state.peers, self, duty.source);
            (state.endpoint_of(duty.source), name)
        };
        let seq = duty.place.map_or(Seq::VOLATILE, |(_, seq)| seq);
        let context = Context::endpoint(&name).message(seq, &duty.message.id).attempt(failures + 1);
        match &duty.content {
            Content::Update(update) => self.update(endpoint, &name, update, duty, context).await,
            Content::Proposal(proposal) => {
                let Some(endpoint) = endpoint else {
                    return Ok(self.unattributed(duty, context));
                };
                Ok(self.proposal(endpoint, proposal, context).await)
            }
        }
    }

    async fn update(
        &self,
        endpoint: Option<EndpointId>,
        name: &str,
        update: &Arc<FederationUpdate>,
        duty: &Duty,
        context: Context,
    ) -> Result<Outcome, String> {
        let Some(federation) = &self.duties.federation else {
            self.failures.record(&DutyError::NoFederation, context);
            return Ok(Outcome::Done);
        };
        // Who sent it matters only when several must agree: its signatures do in any case.
        let is_halt = update.update_type() == FederationUpdateType::EmergencyHalt;
        let is_alone = is_halt || federation.policy() == AgreementPolicy::Any;
        let Some(endpoint) = endpoint.or_else(|| is_alone.then_some(EndpointId(u16::MAX))) else {
            return Ok(self.unattributed(duty, context));
        };
        let begun = Instant::now();
        let pushed = federation.handle_pushed(self.moment(), endpoint, name, update).await;
        let stage = match &pushed {
            Ok(Pushed::Taken(_)) => "taken",
            Ok(Pushed::Waiting { .. }) => "waiting",
            Err(_) => "not_taken",
        };
        self.metrics.federation_update(word(update.update_type()), stage, begun.elapsed());
        match pushed {
            Ok(Pushed::Taken(_)) => Ok(Outcome::Done),
            Ok(Pushed::Waiting { .. }) => Ok(Outcome::Kept),
            Err(error) => {
                self.failures.record(&error, context);
                if error.is_fatal() {
                    return Err(error.to_string());
                }
                // What is refused for good, or not signed by anybody known, is in the audit log, and
                // no dead letter: a flood of it would push real ones out.
                let is_unsigned =
                    matches!(error, FederationFailure::Refused(Refused::Signature { .. }));
                Ok(match (error.is_for_now(), is_unsigned) {
                    (false, _) => Outcome::Done,
                    (true, true) => Outcome::Unknown,
                    (true, false) => Outcome::Later(error.to_string()),
                })
            }
        }
    }

    async fn proposal(
        &self,
        endpoint: EndpointId,
        proposal: &ProposalNotification,
        context: Context,
    ) -> Outcome {
        match self.duties.proposals.handle_proposal(self.clock.now(), endpoint, proposal).await {
            Ok(Dealt::Told) => Outcome::Done,
            Ok(Dealt::Kept) => Outcome::Kept,
            Err(error) => {
                self.failures.record(&error, context);
                match &error {
                    _ if error.is_for_now() => Outcome::Later(error.to_string()),
                    ProposalFailure::Refused(_) => Outcome::Done,
                    ProposalFailure::Target(_) | ProposalFailure::Log(_) => {
                        Outcome::Never(error.to_string())
                    }
                }
            }
        }
    }

    fn unattributed(&self, duty: &Duty, context: Context) -> Outcome {
        let Some((log, _)) = duty.place else {
            // A plain stream has its endpoint; it cannot be unknown.
            return Outcome::Done;
        };
        let error = DutyError::Unattributed(log);
        self.failures.record(&error, context);
        Outcome::Later(error.to_string())
    }
}
