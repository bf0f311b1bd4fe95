//! What endpoints push, from the first word about it: agreement, then the driver.

use std::sync::Arc;

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::federation::update_version;
use alys_stream_protocol::governance::{FederationUpdate, FederationUpdateType};

use super::{FederationDriver, FederationFailure, Moment, Refused, Taken, Version};
use crate::agreement::{AgreementPolicy, ContentDigest, Observed, Topic};

/// What became of something that an endpoint pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is dealt with.
    Taken(Taken),
    /// So many endpoints more must push the same: keep it until they do, or until its version is
    /// settled.
    Waiting {
        /// How many.
        missing: usize,
    },
}

impl FederationDriver {
    /// An endpoint pushed an update or an emergency. Emergencies act at once, on their signatures
    /// alone; everything else as soon as enough endpoints agree.
    ///
    /// # Errors
    ///
    /// As [`FederationDriver::handle_update`].
    ///
    /// # Cancel safety
    ///
    /// As [`FederationDriver::handle_update`].
    pub async fn handle_pushed(
        &self,
        moment: Moment,
        endpoint: EndpointId,
        name: &str,
        update: &Arc<FederationUpdate>,
    ) -> Result<Pushed, FederationFailure> {
        let is_emergency = update.update_type() == FederationUpdateType::EmergencyHalt;
        // What nobody signed is refused before it can contradict anything.
        if is_emergency || self.policy == AgreementPolicy::Any || self.examine(update).is_err() {
            return self.handle_update(moment, name, update).await.map(Pushed::Taken);
        }
        let version = Version(update_version(update).unwrap_or_default());
        let content = ContentDigest::of_update(update);
        let topic = Topic::Federation(version);
        let observed =
            self.agreement().handle_said(moment.at, endpoint, topic.clone(), content, None);
        match observed {
            Observed::Agreed | Observed::Duplicate => {}
            Observed::Waiting { missing } => return Ok(Pushed::Waiting { missing }),
            Observed::Conflict { is_applied, .. } => {
                self.handle_conflict(moment, version).await?;
                return Err(Refused::Conflict { version, is_in_force: is_applied }.into());
            }
            Observed::Expired | Observed::NotEnabled => return Err(Refused::NotEnabled.into()),
            Observed::Full => return Err(Refused::ScheduleFull.into()),
        }
        let taken = self.handle_update(moment, name, update).await;
        match &taken {
            Err(FederationFailure::Refused(_)) => self.agreement().handle_not_applied(&topic),
            Ok(_) | Err(FederationFailure::History(_) | FederationFailure::Target(_)) => {
                let in_force = self.lock().in_force().version;
                self.agreement().handle_version_settled(in_force);
            }
        }
        taken.map(Pushed::Taken)
    }

    /// These endpoints are enabled from now on. Returns the versions that wait and have enough
    /// votes now: what was kept of them is to be pushed again.
    pub fn handle_enabled(&self, enabled: impl IntoIterator<Item = EndpointId>) -> Vec<Version> {
        let ready = self.agreement().handle_enabled(enabled);
        ready
            .into_iter()
            .filter_map(|topic| match topic {
                Topic::Federation(version) => Some(version),
                Topic::Proposal(_) | Topic::Request(_) => None,
            })
            .collect()
    }
}
