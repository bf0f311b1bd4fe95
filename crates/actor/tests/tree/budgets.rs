//! Restart budgets are spent: who fails then, and what is left.

use std::time::Duration;

use alys_stream_actor::neighbours::{BridgeMessage, Plug};
use alys_stream_actor::supervision::restart::RestartLimits;
use alys_stream_actor::{StopReason, StreamConfig};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::deaths::find;
use crate::load::{Load, accept, check_once, follow, message};
use crate::rig::{Rig, connected, start, until};

/// A Bridge that dies as soon as it lives.
struct DyingBridge;

impl Actor for DyingBridge {
    type Msg = BridgeMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.stop(Some("told to die".into()));
        Ok(())
    }
}

fn limited(mut config: StreamConfig, restarts_max: usize) -> StreamConfig {
    config.restarts = RestartLimits {
        restarts_max,
        window: Duration::from_secs(600),
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
    };
    config
}

/// Two restarts of the Bridge, then its supervisor fails; two restarts of that one, then the root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_escalates_from_child_to_root_and_stops_in_order() {
    let rig = Rig::start(1).await;
    let healthy = rig.config();
    let system = rig.node(healthy.clone()).await;
    let kept = message(0);
    accept(&system.handle(), &kept).await;
    system.shutdown(Duration::from_secs(5)).await;

    let mut config = limited(rig.config(), 2);
    config.neighbours.bridge = Plug::actor(|_| (DyingBridge, ()));
    let system = start(config).await;
    let StopReason::GaveUp(reason) = system.stopped().await else { panic!("it gives up") };
    assert!(reason.contains("system keeps ending"), "{reason}");
    let status = system.handle().status();
    assert_eq!((status.phase, status.mode.as_str()), ("failed", "stopped"));
    let restarts =
        |path: &str| status.tree.iter().find(|it| it.actor == path).map_or(0, |it| it.restarts);
    // Three lives of the supervisor, each with two restarts of the Bridge.
    assert_eq!((restarts("root/system/bridge"), restarts("root/system")), (6, 2));
    assert_eq!(restarts("root/network"), 0, "nobody else is restarted");
    let last = status.tree.iter().find(|it| it.actor == "root/system").unwrap();
    assert!(last.last_exit.as_deref().is_some_and(|it| it.contains("bridge keeps ending")));
    assert!(system.handle().ready().is_err());
    drop(system);

    // Nothing of it costs a message.
    let system = start(healthy).await;
    connected(&system.handle(), 1).await;
    follow(&system.handle(), kept.id).await;
    system.shutdown(Duration::from_secs(5)).await;
    check_once(&[kept.id], &rig.applied().await);
}

/// A connection that keeps dying takes the StreamActor along, which begins anew from the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_keeps_dying_restarts_the_stream_actor() {
    let rig = Rig::start(1).await;
    let system = rig.node(limited(rig.config(), 2)).await;
    let load = Load::start(&system.handle());
    load.more(20).await;
    let first = find(&system, "root/system/stream").unwrap();
    for _ in 0..3 {
        let path = "root/system/stream/gov-0";
        until("the connection runs", || find(&system, path).is_some()).await;
        let connection = find(&system, path).unwrap();
        connection.kill();
        let id = connection.get_id();
        until("it is gone", || find(&system, path).is_none_or(|it| it.get_id() != id)).await;
    }
    crate::deaths::successor(&system, "root/system/stream", first.get_id()).await;
    load.more(20).await;
    let sent = load.finish().await;
    system.shutdown(Duration::from_secs(5)).await;
    check_once(&sent, &rig.applied().await);
}
