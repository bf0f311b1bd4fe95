//! The driver with real files and actors.

use std::path::Path;

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_messaging::router::Target;
use alys_stream_messaging::storage::FileStorage;

use super::*;
use crate::agreement::AgreementPolicy;
use crate::neighbours::tests::{Tree, hanging_network, refusing_chain};
use crate::neighbours::{Neighbours, TargetError};

fn begin(dir: &Path, neighbours: &Neighbours) -> FederationDriver {
    begin_with(dir, neighbours, AgreementPolicy::Any)
}

fn begin_with(dir: &Path, neighbours: &Neighbours, policy: AgreementPolicy) -> FederationDriver {
    let (history, entries) = FederationHistory::open(dir, Arc::new(FileStorage)).unwrap();
    let restored = Federations::restore(entries).unwrap();
    let machine = Federations::reconcile(restored, Some(root()), at(1)).unwrap().unwrap();
    let enabled = (0..3).map(EndpointId);
    FederationDriver::new(machine, history, neighbours.clone(), policy, enabled)
}

#[tokio::test]
async fn everybody_is_told_and_a_restart_tells_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    let driver = begin(dir.path(), &tree.neighbours);
    driver.start(at(2)).await.unwrap();
    let update = draft(1, &[1, 2, 4]).signed(&[1, 2]);
    driver.handle_update(at(3), "a", &update).await.unwrap();
    driver
        .handle_update(at(4), "a", &draft(2, &[4]).threshold(1).height(9).signed(&[1, 2]))
        .await
        .unwrap();
    driver.handle_update(at(5), "b", &halt(1).signed(&[1, 4])).await.unwrap();
    assert_eq!(driver.in_force().borrow().version, Version(1));
    assert_eq!(driver.halted().borrow().as_ref().map(|it| it.endpoint.clone()), Some("b".into()));
    let chain = tree.chain().await;
    assert_eq!((chain.federation, chain.is_halted), (Some(Version(1)), true));
    assert_eq!(chain.scheduled, BTreeMap::from([(9, Version(2))]));
    let bridge = tree.bridge().await;
    assert_eq!((bridge.federation, bridge.is_halted), (Some(Version(1)), true));
    let address = federation(2, &[1, 2, 4]).address(Network::Regtest).to_string();
    assert_eq!(bridge.address, Some(address));
    assert_eq!(tree.network().await.rebroadcast, [Version(1)]);
    assert_eq!(tree.storage().await.federations, [Version(0), Version(1)]);
    driver.close().await;
    drop(driver);

    let other = Tree::start().await;
    let driver = begin(dir.path(), &other.neighbours);
    driver.start(at(10)).await.unwrap();
    let chain = other.chain().await;
    assert_eq!((chain.federation, chain.is_halted), (Some(Version(1)), true));
    driver.handle_height(at(11), 9).await.unwrap();
    driver.handle_update(at(12), "c", &resume(2).signed(&[4])).await.unwrap();
    let chain = other.chain().await;
    assert_eq!((chain.federation, chain.is_halted), (Some(Version(2)), false));
    assert!(driver.halted().borrow().is_none());
    driver.close().await;
}

#[tokio::test]
async fn a_halt_overtakes_an_update_that_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    // Nobody spreads anything: the update is not dealt with by everybody.
    tree.neighbours.network.detach();
    let driver = begin(dir.path(), &tree.neighbours);
    let update = draft(1, &[1, 2, 4]).signed(&[1, 2]);
    let failure = driver.handle_update(at(1), "a", &update).await.unwrap_err();
    assert!(failure.is_for_now() && !failure.is_fatal(), "{failure}");
    let absent = FederationFailure::Target(TargetError::Absent(Target::Network)).to_string();
    assert_eq!(failure.to_string(), absent);
    // The others were told, and the halt does not wait.
    assert_eq!(tree.chain().await.federation, Some(Version(1)));
    let halted = driver.handle_update(at(2), "a", &halt(1).signed(&[1, 2])).await;
    assert_eq!(halted.unwrap(), Taken::Halted);
    assert!(tree.chain().await.is_halted && tree.bridge().await.is_halted);
    tree.attach_network();
    driver.retry().await.unwrap();
    assert_eq!(tree.network().await.rebroadcast, [Version(1)]);
    assert_eq!(tree.chain().await.emergencies, 1, "told once");
    // The same update, tried again by whoever keeps it, is dealt with now.
    let taken = driver.handle_update(at(3), "a", &update).await.unwrap();
    assert_eq!(taken, Taken::AlreadyKnown);
    driver.close().await;
}

#[tokio::test]
async fn a_halt_that_chain_does_not_hear_is_told_until_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    tree.neighbours.chain.detach();
    let driver = begin(dir.path(), &tree.neighbours);
    let update = halt(1).signed(&[1, 2]);
    for _ in 0..3 {
        assert!(driver.handle_update(at(1), "a", &update).await.is_err());
    }
    assert!(tree.bridge().await.is_halted);
    tree.attach_chain();
    driver.handle_update(at(2), "a", &update).await.unwrap();
    assert!(tree.chain().await.is_halted);
    driver.close().await;
}

#[tokio::test]
async fn what_an_actor_refuses_for_good_is_still_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    tree.neighbours.chain.attach(refusing_chain().await);
    let driver = begin(dir.path(), &tree.neighbours);
    let update = draft(1, &[1, 2, 4]).signed(&[1, 2]);
    let failure = driver.handle_update(at(1), "a", &update).await.unwrap_err();
    assert!(matches!(failure, FederationFailure::Target(TargetError::Refused { .. })), "{failure}");
    assert!(failure.is_for_now());
    assert_eq!(driver.in_force().borrow().version, Version(1));
    driver.close().await;
}

#[tokio::test]
async fn refusals_are_audited() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    let driver = begin(dir.path(), &tree.neighbours);
    let forged = halt(1).signed(&[4, 5]);
    assert!(driver.handle_update(at(7), "evil", &forged).await.is_err());
    assert!(!tree.chain().await.is_halted);
    let audit = tree.storage().await.audit;
    let record = audit.last().unwrap();
    assert_eq!((record.who.as_str(), record.action.as_str()), ("evil", "refused_signature"));
    assert_eq!(driver.counts().refused["signature"], 1);
    driver.close().await;
}

#[tokio::test]
async fn a_second_process_cannot_open_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    let first = begin(dir.path(), &tree.neighbours);
    let second = FederationHistory::open(dir.path(), Arc::new(FileStorage)).map(drop);
    assert!(matches!(second, Err(HistoryError::Open(_))));
    first.close().await;
}

#[tokio::test]
async fn a_majority_applies_and_a_contradiction_burns() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    let driver = begin_with(dir.path(), &tree.neighbours, AgreementPolicy::Majority);
    let push = async |endpoint, update: &Arc<FederationUpdate>| {
        driver.handle_pushed(at(1), EndpointId(endpoint), "name", update).await
    };
    let update = draft(1, &[1, 2, 4]).signed(&[1, 2]);
    // What is not signed neither counts nor contradicts.
    let forged = draft(1, &[7, 8, 9]).signed(&[7, 8]);
    assert!(push(2, &forged).await.is_err());
    assert_eq!(push(0, &update).await.unwrap(), Pushed::Waiting { missing: 1 });
    assert_eq!(driver.in_force().borrow().version, Version(0));
    let taken = push(1, &update).await.unwrap();
    assert_eq!(taken, Pushed::Taken(Taken::InForce { version: Version(1) }));
    assert_eq!(push(2, &update).await.unwrap(), Pushed::Taken(Taken::AlreadyKnown));
    // Two contents, both signed: none of them, ever.
    let (one, other) = (draft(2, &[1, 2]).signed(&[1, 2]), draft(2, &[1, 4]).signed(&[1, 2]));
    assert_eq!(push(0, &one).await.unwrap(), Pushed::Waiting { missing: 1 });
    for (endpoint, update) in [(1, &other), (2, &one), (1, &one)] {
        assert!(push(endpoint, update).await.is_err());
    }
    assert_eq!(driver.newest(), Version(2));
    assert_eq!(driver.in_force().borrow().version, Version(1));
    // A halt waits for no majority.
    let halted = push(0, &halt(1).signed(&[1, 2])).await.unwrap();
    assert_eq!(halted, Pushed::Taken(Taken::Halted));
    // With one endpoint left, its word is the majority.
    let third = draft(3, &[1, 2]).signed(&[1, 2]);
    assert_eq!(push(0, &third).await.unwrap(), Pushed::Waiting { missing: 1 });
    assert_eq!(driver.handle_enabled([EndpointId(0)]), [Version(3)]);
    let taken = push(0, &third).await.unwrap();
    assert_eq!(taken, Pushed::Taken(Taken::InForce { version: Version(3) }));
    driver.close().await;
}

#[tokio::test]
async fn a_neighbour_that_is_away_holds_back_nothing_that_is_meant_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    tree.neighbours.network.detach();
    let driver = begin(dir.path(), &tree.neighbours);
    assert!(driver.start(at(1)).await.is_err());
    for (version, member) in [(1, 4), (2, 5)] {
        let update = draft(version, &[1, 2, member]).signed(&[1, 2]);
        assert!(driver.handle_update(at(2), "a", &update).await.unwrap_err().is_for_now());
        assert_eq!(tree.chain().await.federation, Some(Version(version)));
        assert_eq!(driver.in_force().borrow().version, Version(version));
    }
    // Durable whatever the neighbours do.
    driver.close().await;
    drop(driver);
    let driver = begin(dir.path(), &tree.neighbours);
    assert_eq!(driver.in_force().borrow().version, Version(2));
    let update = draft(3, &[1, 2, 6]).signed(&[1, 2]);
    assert!(driver.handle_update(at(3), "a", &update).await.is_err());
    // It gets every change, in order: each is checked by the one before.
    tree.attach_network();
    driver.retry().await.unwrap();
    assert_eq!(tree.network().await.rebroadcast, [Version(3)]);
    driver.close().await;
}

#[tokio::test]
async fn what_somebody_refuses_for_good_is_passed_over_for_something_newer() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    tree.neighbours.chain.attach(refusing_chain().await);
    let driver = begin(dir.path(), &tree.neighbours);
    for version in 1..=3 {
        let update = draft(version, &[1, 2, 4]).signed(&[1, 2]);
        assert!(driver.handle_update(at(version), "a", &update).await.is_err());
    }
    assert_eq!(tree.network().await.rebroadcast, [1, 2, 3].map(Version));
    tree.attach_chain();
    driver.retry().await.unwrap();
    assert_eq!(tree.chain().await.federation, Some(Version(3)));
    driver.close().await;
}

/// Bridge is away when the halt is over, and so is whoever tells it; meanwhile there is a new one.
#[tokio::test]
async fn a_resume_that_comes_late_undoes_no_newer_halt() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    let driver = begin(dir.path(), &tree.neighbours);
    driver.handle_update(at(1), "a", &halt(1).signed(&[1, 2])).await.unwrap();
    tree.neighbours.chain.detach();
    assert!(driver.handle_update(at(2), "a", &resume(2).signed(&[1, 2])).await.is_err());
    assert!(driver.handle_update(at(3), "a", &halt(3).signed(&[1, 2])).await.is_err());
    tree.attach_chain();
    driver.retry().await.unwrap();
    assert!(tree.chain().await.is_halted && tree.bridge().await.is_halted);
    assert!(driver.halted().borrow().is_some());
    driver.handle_update(at(4), "a", &resume(4).signed(&[1, 2])).await.unwrap();
    assert!(!tree.chain().await.is_halted && !tree.bridge().await.is_halted);
    driver.close().await;
}

/// Time stands still: nobody waits for whoever hangs.
#[tokio::test(start_paused = true)]
async fn emergencies_wait_for_nobody_who_hangs_over_an_update() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::start().await;
    tree.neighbours.network.attach(hanging_network().await);
    let driver = begin(dir.path(), &tree.neighbours);
    let mut update = Box::pin(driver.start(at(1)));
    while !tree.neighbours.network.in_flight().eq(&1) {
        assert!(futures::poll!(update.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    // Its turn is taken for as long as Network may take.
    let began = tokio::time::Instant::now();
    for (version, is_halt) in [(1, true), (2, false), (3, true)] {
        let it = if is_halt { halt(version) } else { resume(version) }.signed(&[1, 2]);
        let mut handled = Box::pin(driver.handle_update(at(2), "a", &it));
        let taken = loop {
            if let std::task::Poll::Ready(taken) = futures::poll!(handled.as_mut()) {
                break taken.unwrap();
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(taken, if is_halt { Taken::Halted } else { Taken::Resumed });
        assert_eq!(tree.chain().await.is_halted, is_halt);
    }
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    drop(update);
    driver.close().await;
}
