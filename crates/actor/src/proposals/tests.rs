//! Proposals: once each, before their deadline, closed after it.

use alys_stream_messaging::storage::FileStorage;

use super::*;
use crate::neighbours::tests::{Tree, refusing_chain};

const NOW: UnixMillis = UnixMillis(1_000_000_000);

fn notification(id: &str, deadline_seconds: i64) -> ProposalNotification {
    ProposalNotification {
        proposal_id: id.into(),
        proposal_type: ProposalType::Upgrade.into(),
        proposal_data: Bytes::from_static(b"data"),
        voting_deadline: deadline_seconds,
        required_votes: 2,
    }
}

/// Voting ends in so many seconds.
fn ends_in(id: &str, seconds: i64) -> ProposalNotification {
    notification(id, NOW.as_unix_seconds() + seconds)
}

fn later(seconds: u64) -> UnixMillis {
    NOW.saturating_add(Duration::from_secs(seconds))
}

fn proposals(policy: AgreementPolicy, endpoints: u16) -> Proposals {
    Proposals::new(policy, (0..endpoints).map(EndpointId))
}

fn tell(proposals: &mut Proposals, endpoint: u16, it: &ProposalNotification) -> Arc<Proposal> {
    match proposals.handle_proposal(NOW, EndpointId(endpoint), it).unwrap() {
        Step::Tell(proposal) => {
            let content = ContentDigest::of_proposal(it);
            proposals.handle_told(&proposal, EndpointId(endpoint), content);
            proposal
        }
        step @ (Step::Duplicate | Step::Waiting { .. }) => panic!("{step:?}"),
    }
}

#[test]
fn a_proposal_is_told_once_and_closed_once() {
    let mut proposals = proposals(AgreementPolicy::Any, 3);
    let it = ends_in("p", 60);
    let proposal = tell(&mut proposals, 0, &it);
    assert_eq!((proposal.deadline, proposal.required_votes), (later(60), 2));
    for endpoint in 0..3 {
        let step = proposals.handle_proposal(NOW, EndpointId(endpoint), &it);
        assert_eq!(step, Ok(Step::Duplicate), "A16");
    }
    assert_eq!(proposals.poll_timeout(), Some(later(60)));
    proposals.handle_timeout(later(59));
    assert_eq!(proposals.peek_closed(), None);
    proposals.handle_timeout(later(60));
    assert_eq!(proposals.peek_closed(), Some("p"));
    proposals.finish_closed();
    proposals.handle_timeout(later(999));
    assert_eq!((proposals.peek_closed(), proposals.poll_timeout()), (None, None), "A16");
    let refused = proposals.handle_proposal(later(61), EndpointId(1), &it).unwrap_err();
    assert_eq!(refused, Refused::Expired { deadline: later(60) });
}

#[test]
fn without_a_usable_deadline_nothing_is_told() {
    let mut proposals = proposals(AgreementPolicy::Any, 1);
    let mut refuse =
        |it: ProposalNotification| proposals.handle_proposal(NOW, EndpointId(0), &it).unwrap_err();
    assert_eq!(refuse(notification("p", 0)), Refused::NoDeadline);
    assert!(matches!(refuse(notification("p", -1)), Refused::Invalid(_)));
    assert!(matches!(refuse(notification("p", i64::MAX)), Refused::TooFar { .. }));
    assert!(matches!(refuse(ends_in("p", 0)), Refused::Expired { .. }));
    assert!(matches!(refuse(ends_in("", 9)), Refused::Invalid(_)));
    let unknown = ProposalNotification { proposal_type: 99, ..ends_in("p", 9) };
    assert!(refuse(unknown).to_string().contains("99"));
    assert_eq!(proposals.counts().refused, 6);
}

#[test]
fn a_majority_brings_it_and_contradictions_are_told_to_nobody() {
    let mut proposals = proposals(AgreementPolicy::Majority, 3);
    let it = ends_in("p", 60);
    let first = proposals.handle_proposal(NOW, EndpointId(0), &it);
    assert_eq!(first, Ok(Step::Waiting { missing: 1 }));
    tell(&mut proposals, 1, &it);
    let one = ends_in("q", 60);
    let other = ProposalNotification { required_votes: 1, ..one.clone() };
    assert!(proposals.handle_proposal(NOW, EndpointId(0), &one).is_ok());
    let conflict = |is_new| Refused::Conflict { id: "q".into(), is_new, is_applied: false };
    assert_eq!(proposals.handle_proposal(NOW, EndpointId(1), &other), Err(conflict(true)));
    assert_eq!(proposals.handle_proposal(NOW, EndpointId(2), &one), Err(conflict(false)));
    assert!(!conflict(true).is_for_now());
}

#[test]
fn a_removed_endpoint_lets_what_waits_be_told() {
    let mut proposals = proposals(AgreementPolicy::Majority, 3);
    let it = ends_in("p", 60);
    assert!(proposals.handle_proposal(NOW, EndpointId(0), &it).is_ok());
    assert_eq!(proposals.handle_enabled([EndpointId(0)]), ["p"]);
    tell(&mut proposals, 0, &it);
}

#[test]
fn a_flood_is_bounded_and_says_so() {
    let mut proposals = proposals(AgreementPolicy::Any, 2);
    let mut told = 0;
    for number in 0..5000 {
        let it = ends_in(&format!("p{number}"), 60);
        match proposals.handle_proposal(NOW, EndpointId(0), &it) {
            Ok(step) => told += u32::from(matches!(step, Step::Tell(_))),
            Err(refused) => assert!(refused.is_for_now(), "{refused}"),
        }
    }
    assert_eq!(usize::try_from(told).unwrap(), crate::agreement::TOPICS_PER_ENDPOINT_MAX);
    // The other endpoint has room, and at the deadline there is room again.
    tell(&mut proposals, 1, &ends_in("q", 60));
    let it = notification("r", later(100).as_unix_seconds());
    assert!(proposals.handle_proposal(later(61), EndpointId(0), &it).is_ok());
}

#[test]
fn records_survive_their_bytes() {
    let record = ProposalRecord {
        id: "p".into(),
        content: ContentDigest([7; 32]),
        deadline: UnixMillis(258),
        endpoint: EndpointId(3),
    };
    let bytes = record.encode();
    let golden = [&[1][..], &[7; 32], &[2, 1, 0, 0, 0, 0, 0, 0], &[3, 0], b"p"].concat();
    assert_eq!(bytes, golden);
    assert_eq!(ProposalRecord::decode(&bytes), Ok(record));
    for end in 0..43 {
        assert!(ProposalRecord::decode(&bytes[..end]).is_err());
    }
    assert!(ProposalRecord::decode(&[2; 60]).is_err());
}

fn driver(dir: &std::path::Path, now: UnixMillis, tree: &Tree) -> ProposalDriver {
    let (log, told) = ProposalLog::open(dir, now, Arc::new(FileStorage)).unwrap();
    let machine = proposals(AgreementPolicy::Any, 2);
    ProposalDriver::new(machine, log, told, tree.neighbours.clone())
}

#[tokio::test]
async fn a_restart_tells_nothing_twice_and_closes_what_it_told() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    let (open, over) = (ends_in("open", 600), ends_in("over", 60));
    let first = driver(dir.path(), NOW, &tree);
    for it in [&open, &over, &open] {
        assert_eq!(first.handle_proposal(NOW, EndpointId(0), it).await.unwrap(), Dealt::Told);
    }
    assert_eq!(tree.chain().await.proposals_total, 2);
    first.close().await;
    drop(first);

    let tree = Tree::start().await;
    let second = driver(dir.path(), later(100), &tree);
    let told = second.handle_proposal(later(100), EndpointId(1), &open).await.unwrap();
    assert_eq!(told, Dealt::Told);
    assert_eq!(tree.chain().await.proposals_total, 0, "A16: not again");
    assert_eq!(second.poll_timeout(), Some(later(600)));
    // The id of one that is over is not taken by another content.
    let changed = ends_in("over", 900);
    let failure = second.handle_proposal(later(100), EndpointId(1), &changed).await.unwrap_err();
    assert!(matches!(failure, ProposalFailure::Refused(Refused::Conflict { .. })), "{failure}");
    second.handle_timeout(later(600)).await.unwrap();
    assert_eq!(second.counts().closed, 1);
    second.close().await;
}

#[tokio::test]
async fn what_chain_does_not_deal_with_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    let driver = driver(dir.path(), NOW, &tree);
    tree.neighbours.chain.detach();
    let it = ends_in("p", 60);
    for _ in 0..3 {
        let failure = driver.handle_proposal(NOW, EndpointId(0), &it).await.unwrap_err();
        assert!(failure.is_for_now(), "{failure}");
    }
    tree.neighbours.chain.attach(refusing_chain().await);
    let failure = driver.handle_proposal(NOW, EndpointId(0), &it).await.unwrap_err();
    assert!(!failure.is_for_now(), "{failure}");
    tree.attach_chain();
    assert_eq!(driver.handle_proposal(NOW, EndpointId(1), &it).await.unwrap(), Dealt::Told);
    tree.neighbours.chain.detach();
    assert!(driver.handle_timeout(later(60)).await.is_err());
    tree.attach_chain();
    driver.handle_timeout(later(60)).await.unwrap();
    assert_eq!(tree.chain().await.proposals, [("p".to_owned(), true)]);
    driver.close().await;
}
