//! Why an update or an emergency is not acted on.

use alys_stream_protocol::federation::{FederationError, UpdateError};
use alys_stream_protocol::validate;

use super::{SCHEDULED_MAX, UNVERSIONED_HALTS_MAX, Version};

/// An update that is not acted on.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// A field is missing, out of bounds or meaningless.
    #[error("the federation update is unusable: {0}")]
    Invalid(#[source] validate::Invalid),
    /// The members of the federation that it would replace did not sign it.
    #[error("version {predecessor} of the federation did not sign it: {source}")]
    Signature {
        /// Whose signatures it needs.
        predecessor: Version,
        /// What is wrong with them.
        source: UpdateError,
    },
    /// Its version is not above the highest one that was accepted.
    #[error("version {found} is not above {newest}, which was accepted before")]
    OldVersion {
        /// Its version.
        found: Version,
        /// The highest one.
        newest: Version,
    },
    /// Two contents were signed for one version.
    #[error(
        "version {version} was signed for two different contents: ask the federation which one it \
         meant, and have it issue that under a higher version"
    )]
    Conflict {
        /// The version.
        version: Version,
        /// Whether the first content is in force already.
        is_in_force: bool,
    },
    /// Its members or threshold do not make a federation, or not one that its type promises.
    #[error("the federation update announces no usable federation: {0}")]
    Members(#[source] FederationError),
    /// A type that adds removes, or one that removes adds.
    #[error("a {update_type} must not {does} member {member}: use CONFIG_CHANGE")]
    WrongType {
        /// Its type.
        update_type: &'static str,
        /// What it does beside that.
        does: &'static str,
        /// To whom.
        member: String,
    },
    /// `member_count` is not the number of active members.
    #[error("member_count is {stated}, but {active} members are active")]
    MemberCount {
        /// What it says.
        stated: u32,
        /// What it lists.
        active: usize,
    },
    /// Too many updates wait for their height.
    #[error("{SCHEDULED_MAX} updates wait for their height already: send it again later")]
    ScheduleFull,
    /// The same halt, without a version, acted before and was resumed.
    #[error("this halt acted before and was resumed: give a new one a version")]
    ReplayedHalt,
    /// A resume without a version could be an old one.
    #[error("a resume needs a version above {newest}: without one it could be an old one")]
    ResumeWithoutVersion {
        /// The newest emergency.
        newest: Version,
    },
    /// The endpoint is not enabled any more.
    #[error("the endpoint is not enabled")]
    NotEnabled,
    /// Too many halts without a version were seen.
    #[error("{UNVERSIONED_HALTS_MAX} halts without a version were seen: give this one a version")]
    UnversionedHalts,
}

impl Refused {
    /// Whether the same update may be taken later: the federation that signed it may not be known
    /// yet, or there is no room.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        match self {
            Self::Signature { source: UpdateError::UnderSigned(weight), .. } => weight.unknown > 0,
            Self::ScheduleFull => true,
            Self::Invalid(_)
            | Self::Signature { .. }
            | Self::OldVersion { .. }
            | Self::Conflict { .. }
            | Self::Members(_)
            | Self::WrongType { .. }
            | Self::MemberCount { .. }
            | Self::NotEnabled
            | Self::ReplayedHalt
            | Self::ResumeWithoutVersion { .. }
            | Self::UnversionedHalts => false,
        }
    }

    /// The word used in metrics, audit and counts.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid",
            Self::Signature { .. } => "signature",
            Self::OldVersion { .. } => "old_version",
            Self::Conflict { .. } => "conflict",
            Self::Members(_) | Self::WrongType { .. } | Self::MemberCount { .. } => "members",
            Self::ScheduleFull => "schedule_full",
            Self::ReplayedHalt => "replayed_halt",
            Self::NotEnabled => "not_enabled",
            Self::ResumeWithoutVersion { .. } | Self::UnversionedHalts => "unversioned",
        }
    }
}
