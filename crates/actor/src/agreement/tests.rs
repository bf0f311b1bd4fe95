//! Who must say what before it is acted on.

use alys_stream_protocol::governance::ProposalNotification;
use alys_stream_protocol::message::MessageKind;

use super::*;

const NOW: UnixMillis = UnixMillis(1_000_000);
const LATER: UnixMillis = UnixMillis(2_000_000);

fn endpoints(count: u16) -> Vec<EndpointId> {
    (0..count).map(EndpointId).collect()
}

fn agreement(policy: AgreementPolicy, count: u16) -> Agreement {
    Agreement::new(policy, endpoints(count))
}

fn proposal(id: &str) -> Topic {
    Topic::Proposal(id.into())
}

fn content(byte: u8) -> ContentDigest {
    ContentDigest([byte; 32])
}

/// One word from an endpoint about proposal `p`.
fn say(agreement: &mut Agreement, endpoint: u16, byte: u8) -> Observed {
    let until = Some(LATER);
    agreement.handle_said(NOW, EndpointId(endpoint), proposal("p"), content(byte), until)
}

#[test]
fn any_acts_on_the_first_and_never_again() {
    let mut agreement = agreement(AgreementPolicy::Any, 3);
    assert_eq!(say(&mut agreement, 0, 1), Observed::Agreed);
    for endpoint in [0, 1, 2, 0] {
        assert_eq!(say(&mut agreement, endpoint, 1), Observed::Duplicate, "A14");
    }
}

#[test]
fn majority_waits_for_more_than_half_of_the_enabled_ones() {
    for (enabled, needed) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3)] {
        let mut agreement = agreement(AgreementPolicy::Majority, enabled);
        assert_eq!(agreement.needed(), needed);
        for endpoint in 0..enabled {
            let said = usize::from(endpoint) + 1;
            let expected = match said.cmp(&needed) {
                std::cmp::Ordering::Less => Observed::Waiting { missing: needed - said },
                std::cmp::Ordering::Equal => Observed::Agreed,
                std::cmp::Ordering::Greater => Observed::Duplicate,
            };
            assert_eq!(say(&mut agreement, endpoint, 1), expected, "{said} of {enabled}");
        }
    }
}

#[test]
fn an_endpoint_counts_once_and_a_stranger_not_at_all() {
    let mut agreement = agreement(AgreementPolicy::Majority, 3);
    for _ in 0..5 {
        assert_eq!(say(&mut agreement, 0, 1), Observed::Waiting { missing: 1 }, "A15");
    }
    assert_eq!(say(&mut agreement, 7, 1), Observed::NotEnabled);
    assert_eq!(say(&mut agreement, 1, 1), Observed::Agreed);
}

#[test]
fn contradictions_apply_nothing_and_alert_once() {
    let mut agreement = agreement(AgreementPolicy::Majority, 3);
    assert_eq!(say(&mut agreement, 0, 1), Observed::Waiting { missing: 1 });
    let conflict = |is_new| Observed::Conflict { is_new, is_applied: false };
    assert_eq!(say(&mut agreement, 1, 2), conflict(true));
    // A majority that comes together now does not count: somebody lies.
    assert_eq!(say(&mut agreement, 2, 1), conflict(false), "A14");
    assert_eq!(say(&mut agreement, 0, 3), conflict(false));
    assert_eq!(agreement.topics.values().next().unwrap().contents.len(), CONTENTS_MAX);
}

#[test]
fn one_who_changes_its_mind_contradicts_itself() {
    let mut agreement = agreement(AgreementPolicy::Any, 3);
    assert_eq!(say(&mut agreement, 0, 1), Observed::Agreed);
    let conflict = Observed::Conflict { is_new: true, is_applied: true };
    assert_eq!(say(&mut agreement, 0, 2), conflict);
}

#[test]
fn a_topic_is_forgotten_at_its_end_and_refused_from_then_on() {
    let mut agreement = agreement(AgreementPolicy::Any, 2);
    assert_eq!(say(&mut agreement, 0, 1), Observed::Agreed);
    assert_eq!(agreement.poll_timeout(), Some(LATER));
    agreement.handle_timeout(UnixMillis(LATER.0 - 1));
    assert_eq!(agreement.len(), 1);
    agreement.handle_timeout(LATER);
    assert!(agreement.is_empty());
    let again = agreement.handle_said(LATER, EndpointId(1), proposal("p"), content(1), Some(LATER));
    assert_eq!(again, Observed::Expired, "A14: forgetting lets nothing act again");
}

#[test]
fn settled_versions_need_no_memory() {
    let mut agreement = agreement(AgreementPolicy::Any, 2);
    let say = |agreement: &mut Agreement, version| {
        let topic = Topic::Federation(Version(version));
        agreement.handle_said(NOW, EndpointId(0), topic, content(1), None)
    };
    assert_eq!(say(&mut agreement, 7), Observed::Agreed);
    agreement.handle_version_settled(Version(7));
    assert!(agreement.is_empty());
    for version in [1, 6, 7] {
        assert_eq!(say(&mut agreement, version), Observed::Duplicate, "A14");
    }
    assert_eq!(say(&mut agreement, 8), Observed::Agreed);
}

#[test]
fn an_endpoint_that_is_removed_loses_its_vote_and_a_smaller_majority_suffices() {
    let mut agreement = agreement(AgreementPolicy::Majority, 5);
    assert_eq!(say(&mut agreement, 0, 1), Observed::Waiting { missing: 2 });
    assert_eq!(say(&mut agreement, 1, 1), Observed::Waiting { missing: 1 });
    assert!(agreement.handle_enabled([EndpointId(1), EndpointId(2), EndpointId(3)]).is_empty());
    assert_eq!(say(&mut agreement, 1, 1), Observed::Waiting { missing: 1 }, "A15");
    let ready = agreement.handle_enabled([EndpointId(1)]);
    assert_eq!(ready, [proposal("p")]);
    assert_eq!(say(&mut agreement, 1, 1), Observed::Agreed);
}

#[test]
fn what_was_restored_or_failed_acts_as_it_should() {
    let mut agreement = agreement(AgreementPolicy::Any, 2);
    agreement.restore(proposal("p"), content(1), Some(LATER), EndpointId(0));
    assert_eq!(say(&mut agreement, 1, 1), Observed::Duplicate);
    agreement.handle_not_applied(&proposal("p"));
    assert_eq!(say(&mut agreement, 1, 1), Observed::Agreed);
    agreement.handle_ended(&proposal("p"));
    assert!(agreement.is_empty() && agreement.poll_timeout().is_none());
}

#[test]
fn a_flood_by_one_endpoint_leaves_room_for_the_others() {
    let mut agreement = agreement(AgreementPolicy::Majority, 16);
    let mut say = |endpoint: u16, number: usize| {
        let topic = Topic::Proposal(format!("{endpoint}-{number}"));
        agreement.handle_said(NOW, EndpointId(endpoint), topic, content(1), Some(LATER))
    };
    let waiting = Observed::Waiting { missing: 8 };
    for number in 0..TOPICS_PER_ENDPOINT_MAX {
        assert_eq!(say(0, number), waiting);
    }
    for number in 0..10_000 {
        assert_eq!(say(0, TOPICS_PER_ENDPOINT_MAX + number), Observed::Full);
    }
    assert_eq!(say(1, 0), waiting, "others have room");
    for endpoint in 1..16 {
        for number in 0..TOPICS_PER_ENDPOINT_MAX {
            say(endpoint, number);
        }
    }
    assert_eq!(agreement.len(), TOPICS_MAX);
}

#[test]
fn digests_tell_every_field_apart() {
    let base = ProposalNotification {
        proposal_id: "p".into(),
        proposal_type: 1,
        proposal_data: bytes::Bytes::from_static(b"data"),
        voting_deadline: 5,
        required_votes: 2,
    };
    let changes: [fn(&mut ProposalNotification); 5] = [
        |it| it.proposal_id.push('d'),
        |it| it.proposal_type = 2,
        |it| it.proposal_data = bytes::Bytes::from_static(b"dat"),
        |it| it.voting_deadline = 6,
        |it| it.required_votes = 3,
    ];
    let mut seen = BTreeSet::from([ContentDigest::of_proposal(&base)]);
    for change in changes {
        let mut other = base.clone();
        change(&mut other);
        assert!(seen.insert(ContentDigest::of_proposal(&other)), "{other:?}");
    }
    let kinds = [MessageKind::ERROR_RESPONSE, MessageKind(1000)];
    let [one, other] = kinds.map(|kind| ContentDigest::of_payload(kind, b"x"));
    assert_ne!(one, other);
}
