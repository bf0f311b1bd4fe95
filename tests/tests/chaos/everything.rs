//! D1 to D4 with everything at once.

use std::time::Duration;

use alys_stream_testkit::proxy::{Cut, Direction, Flow, Proxy};
use alys_stream_tests::deployment::{Deployment, heartbeat_every, listen_of, mint, reach_through};
use serde_json::json;

use super::load::Callers;
use super::verdict::check;

/// How much happens.
const ACTS: usize = 30;

/// Callers that submit at the same time.
const CALLERS: u64 = 4;

const HEARTBEAT: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_is_applied_twice_whatever_happens() {
    let seed = 0x00c4_a051;
    println!("seed {seed:#x}");
    let folder = mint(3);
    let root = folder.path().join("d");
    let listen = listen_of(&root.join("governance-1/governance.yaml"));
    let mut proxy = Proxy::start(listen.parse().expect("an address")).expect("a free port");
    reach_through(&root, 1, proxy.address());
    (1..=3).for_each(|governance| heartbeat_every(&root, governance, HEARTBEAT));
    let mut deployment = Deployment::start_in(folder, 3).await;
    let callers = Callers::start(&deployment.client(), CALLERS, seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    for act in 0..ACTS {
        // Not every act finds the one before it mended.
        callers.until_accepted(rng.u64(1..150)).await;
        let what = happen(&mut deployment, &mut proxy, &mut rng).await;
        println!("act {act}: {what}, {} accepted", callers.accepted());
    }
    proxy.heal().await;
    for governance in &mut deployment.governance {
        governance.resume();
        governance.ready().await;
        governance.misbehave(&json!({"drop_acks": null, "refuse": null})).await;
    }
    deployment.node.ready().await;
    let accepted = callers.finish().await;
    println!("{} accepted over {ACTS} acts", accepted.len());
    check(deployment, accepted).await;
}

async fn happen(deployment: &mut Deployment, proxy: &mut Proxy, rng: &mut fastrand::Rng) -> String {
    let which = rng.usize(0..deployment.governance.len());
    let governance = &mut deployment.governance[which];
    match rng.u32(0..7) {
        0 | 1 => {
            deployment.node.kill().await;
            deployment.node.restart();
            "the node is killed".to_owned()
        }
        2 => {
            governance.kill().await;
            governance.restart();
            governance.ready().await;
            format!("governance {which} is killed")
        }
        3 => {
            let time = Duration::from_millis(rng.u64(50..3000));
            governance.pause();
            tokio::time::sleep(time).await;
            governance.resume();
            format!("governance {which} stands still for {time:?}")
        }
        4 => {
            proxy.cut(Cut::Reset).await;
            "connections are reset".to_owned()
        }
        5 => {
            let direction = if rng.bool() { Direction::Up } else { Direction::Down };
            proxy.flow(direction, Flow::Hold).await;
            tokio::time::sleep(Duration::from_millis(rng.u64(50..2500))).await;
            proxy.heal().await;
            format!("nothing passes: {direction:?}")
        }
        _ => {
            governance.misbehave(&json!({"drop_acks": rng.bool()})).await;
            format!("governance {which} swallows acknowledgements, or does not")
        }
    }
}
