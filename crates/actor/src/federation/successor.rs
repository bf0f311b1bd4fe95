//! The federation that an update announces, seen from the one that it replaces.

use alys_stream_protocol::federation::{Federation, FederationError, Member};
use alys_stream_protocol::governance::{FederationUpdate, FederationUpdateType};

use super::Refused;

/// Members and threshold of what replaces `predecessor`, checked.
///
/// `members` is the whole new federation. A `CONFIG_CHANGE` without members keeps those there are.
/// A type that promises to add removes nobody, and the other way round: what is signed as one
/// thing does not become another by a list that nobody read.
pub(super) fn successor(
    predecessor: &Federation,
    update: &FederationUpdate,
) -> Result<Federation, Refused> {
    let next = announced(predecessor, update).map_err(Refused::Members)?;
    check_count(update)?;
    match update.update_type() {
        FederationUpdateType::MemberAdd => match missing_from(&next, predecessor) {
            Some(member) => Err(wrong_type("MEMBER_ADD", "remove", member)),
            None => Ok(next),
        },
        FederationUpdateType::MemberRemove => match missing_from(predecessor, &next) {
            Some(member) => Err(wrong_type("MEMBER_REMOVE", "add", member)),
            None => Ok(next),
        },
        FederationUpdateType::ConfigChange
        | FederationUpdateType::EmergencyHalt
        | FederationUpdateType::Unspecified => Ok(next),
    }
}

fn announced(
    predecessor: &Federation,
    update: &FederationUpdate,
) -> Result<Federation, FederationError> {
    if !update.members.is_empty() {
        return Federation::try_from_update(update, predecessor.script_kind());
    }
    let config = update.config.as_ref().ok_or(FederationError::NoConfig)?;
    let members = predecessor.members().to_vec();
    Federation::try_new(config.signature_threshold, members, predecessor.script_kind())
}

/// 0 is "not stated"; a list that is not there counts nobody.
fn check_count(update: &FederationUpdate) -> Result<(), Refused> {
    let stated = update.config.as_ref().map_or(0, |config| config.member_count);
    let active = update.members.iter().filter(|member| member.active).count();
    let agrees = usize::try_from(stated).is_ok_and(|stated| stated == active);
    if stated == 0 || update.members.is_empty() || agrees {
        return Ok(());
    }
    Err(Refused::MemberCount { stated, active })
}

/// The first member of `whole` that `part` does not have, by key: a new name is no new member.
fn missing_from<'a>(part: &Federation, whole: &'a Federation) -> Option<&'a Member> {
    let has = |key| part.members().iter().any(|member| member.public_key == key);
    whole.members().iter().find(|member| !has(member.public_key))
}

fn wrong_type(update_type: &'static str, does: &'static str, member: &Member) -> Refused {
    Refused::WrongType { update_type, does, member: member.id.clone() }
}
