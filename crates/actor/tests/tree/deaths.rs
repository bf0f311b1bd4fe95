//! Every actor of the tree is killed while messages are under way.

use ractor::{ActorCell, ActorId};

use alys_stream_actor::{StopReason, StreamSystem};

use crate::load::{Load, check_once};
use crate::rig::{Rig, connected, start, until};

/// Every actor with two governance nodes, the root aside.
pub(crate) const ACTORS: [&str; 13] = [
    "root/network",
    "root/network/network",
    "root/network/sync",
    "root/storage",
    "root/storage/storage",
    "root/system",
    "root/system/bridge",
    "root/system/chain",
    "root/system/stream",
    "root/system/stream/gov-0",
    "root/system/stream/gov-0/stream",
    "root/system/stream/gov-1",
    "root/system/stream/gov-1/stream",
];

/// The present actor at a place.
pub(crate) fn find(system: &StreamSystem, path: &str) -> Option<ActorCell> {
    system.actors().into_iter().find(|(name, _)| name == path).map(|(_, cell)| cell)
}

/// Waits until another actor than this one is at a place.
pub(crate) async fn successor(system: &StreamSystem, path: &str, dead: ActorId) {
    let is_there = || find(system, path).is_some_and(|cell| cell.get_id() != dead);
    until(&format!("{path} is back"), is_there).await;
}

async fn kill(system: &StreamSystem, path: &str) {
    until(&format!("{path} runs"), || find(system, path).is_some()).await;
    let cell = find(system, path).unwrap();
    cell.kill();
    successor(system, path, cell.get_id()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_actor_is_killed_under_load_and_nothing_is_lost_or_done_twice() {
    let rig = Rig::start(2).await;
    let system = rig.node(rig.config()).await;
    let load = Load::start(&system.handle());
    load.more(50).await;
    for round in 0..2 {
        for path in ACTORS {
            kill(&system, path).await;
            load.more(20).await;
            assert!(system.handle().status().reason.is_none(), "round {round}: {path}");
        }
    }
    connected(&system.handle(), 2).await;
    let sent = load.finish().await;
    let status = system.handle().status();
    let restarts =
        |path: &str| status.tree.iter().find(|it| it.actor == path).map_or(0, |it| it.restarts);
    for path in ACTORS.iter().filter(|path| !path.ends_with("/stream") || path.len() < 20) {
        assert!(restarts(path) >= 1, "{path}: {:?}", status.tree);
    }
    assert_eq!(
        status.failures.last.iter().filter(|it| it.kind.as_str() == "actor_died").count(),
        3
    );
    system.shutdown(std::time::Duration::from_secs(5)).await;
    check_once(&sent, &rig.applied().await);
    println!("cases: deaths {} under load, {} messages", 2 * ACTORS.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_killed_and_the_tree_stops_in_order() {
    let rig = Rig::start(1).await;
    let config = rig.config();
    let system = rig.node(config.clone()).await;
    let load = Load::start(&system.handle());
    load.more(20).await;
    let stopped = {
        find(&system, "root").unwrap().kill();
        system.stopped().await
    };
    assert_eq!(stopped, StopReason::GaveUp("the root supervisor died".to_owned()));
    assert!(system.handle().ready().is_err());
    assert_eq!(system.handle().status().mode.as_str(), "stopped");
    drop(load);
    drop(system);
    // The stores were closed: the next process opens them, and goes on.
    let system = start(config).await;
    connected(&system.handle(), 1).await;
    let load = Load::start(&system.handle());
    load.more(20).await;
    let sent = load.finish().await;
    system.shutdown(std::time::Duration::from_secs(5)).await;
    check_once(&sent, &rig.applied().await);
}
