//! A network of the kernel's own between the processes: cables that are pulled, which ends no
//! connection, directions that lose everything, and links that are slow and lose packets.

use std::time::Duration;

use alys_stream_protocol::time::{SystemClock, WallClock as _};
use alys_stream_tests::apart::apart;
use alys_stream_tests::deployment::{Deployment, heartbeat_every, mint};
use alys_stream_tests::link;
use alys_stream_tests::network::{Fault, Network};
use alys_stream_tests::seed;
use tokio::time::sleep;

use super::load::Callers;
use super::verdict::check;

/// How much happens.
const ACTS: usize = 20;

/// Callers that submit at the same time.
const CALLERS: u64 = 4;

/// Messages over a network that loses packets.
const LOSSY_MESSAGES: u64 = 500;

const HEARTBEAT: Duration = Duration::from_millis(400);

/// A link whose peer answers nothing is given up within (`missed_max` + 1) heartbeats (T5), with the
/// default of 3.
const SILENCE_MAX: Duration = HEARTBEAT.saturating_mul(4);

/// What a busy machine may add to it.
const SLACK: Duration = Duration::from_secs(2);

const GOVERNANCE: usize = 3;

const FAULTS: [Fault; 4] = [Fault::Pulled, Fault::DeafNode, Fault::DeafGovernance, Fault::Narrow];

/// A node and governance nodes, each in a namespace; why not, otherwise.
async fn start() -> Result<(Network, Deployment), String> {
    let network = Network::lay(GOVERNANCE)?;
    let folder = mint(GOVERNANCE);
    let root = folder.path().join("d");
    (1..=GOVERNANCE).for_each(|governance| heartbeat_every(&root, governance, HEARTBEAT));
    let deployment = Deployment::start_over(&network, folder, GOVERNANCE).await;
    Ok((network, deployment))
}

fn names() -> impl Iterator<Item = String> {
    (1..=GOVERNANCE).map(|governance| format!("governance-{governance}"))
}

#[test]
fn what_a_cable_loses_is_found_by_silence_and_costs_nobody_else() {
    apart("networks::what_a_cable_loses_is_found_by_silence_and_costs_nobody_else", || async {
        let mut rng = seed::rng();
        let (network, deployment) = start().await?;
        for name in names() {
            link::until_up(&deployment.node, &name).await;
        }
        let callers = Callers::start(&deployment.client(), CALLERS, &mut rng);
        let dials = dials_of_others(&deployment).await;
        for fault in FAULTS {
            callers.until_accepted(50).await;
            let since = SystemClock.now().0;
            network.strike(1, fault);
            let gone = ["reconnecting", "failed"];
            let change = link::until_changed(&deployment.node, "governance-1", &gone, since).await;
            let took = Duration::from_millis(change.at_ms - since);
            println!("{fault:?} is found after {took:?}: {}", change.why);
            assert!(took <= SILENCE_MAX + SLACK, "{fault:?}: {change:?}");
            callers.until_accepted(50).await;
            network.mend(1);
            link::until_up(&deployment.node, "governance-1").await;
        }
        assert_eq!(dials_of_others(&deployment).await, dials, "the others kept their connections");
        check(deployment, callers.finish().await).await;
        Ok(())
    });
}

async fn dials_of_others(deployment: &Deployment) -> Vec<u64> {
    let mut dials = Vec::new();
    for name in names().skip(1) {
        let found = link::endpoint(&deployment.node, &name).await;
        dials.push(found["attempts"].as_u64().expect("a number"));
    }
    dials
}

#[test]
fn pulled_cables_and_kills_behind_them_lose_nothing() {
    apart("networks::pulled_cables_and_kills_behind_them_lose_nothing", || async {
        let mut rng = seed::rng();
        let (network, mut deployment) = start().await?;
        let callers = Callers::start(&deployment.client(), CALLERS, &mut rng);
        for act in 0..ACTS {
            callers.until_accepted(rng.u64(1..100)).await;
            let what = happen(&network, &mut deployment, &mut rng).await;
            println!("act {act}: {what}, {} accepted", callers.accepted());
        }
        (1..=GOVERNANCE).for_each(|governance| network.mend(governance));
        deployment.node.ready().await;
        let accepted = callers.finish().await;
        println!("{} accepted over {ACTS} acts", accepted.len());
        check(deployment, accepted).await;
        Ok(())
    });
}

async fn happen(network: &Network, deployment: &mut Deployment, rng: &mut fastrand::Rng) -> String {
    let which = rng.usize(1..=GOVERNANCE);
    let while_so = Duration::from_millis(rng.u64(50..3000));
    let fault = FAULTS[rng.usize(..FAULTS.len())];
    match rng.u32(0..8) {
        0..=2 => {
            network.strike(which, fault);
            sleep(while_so).await;
            network.mend(which);
            format!("cable {which}: {fault:?} for {while_so:?}")
        }
        3 => {
            network.strike(which, fault);
            format!("cable {which}: {fault:?} until it is mended")
        }
        4 => {
            (1..=GOVERNANCE).for_each(|governance| network.mend(governance));
            "all cables are mended".to_owned()
        }
        5 => {
            // Its peer is told nothing: neither FIN nor RST finds a way.
            network.strike(which, Fault::Pulled);
            let governance = &mut deployment.governance[which - 1];
            governance.kill().await;
            sleep(while_so).await;
            governance.restart();
            governance.ready().await;
            network.mend(which);
            format!("governance {which} has no power for {while_so:?}")
        }
        6 => {
            (1..=GOVERNANCE).for_each(|governance| network.strike(governance, Fault::Pulled));
            deployment.node.kill().await;
            sleep(while_so).await;
            deployment.node.restart();
            (1..=GOVERNANCE).for_each(|governance| network.mend(governance));
            format!("the node has no power for {while_so:?}")
        }
        _ => {
            deployment.node.kill().await;
            deployment.node.restart();
            "the node is killed".to_owned()
        }
    }
}

#[test]
fn a_slow_and_lossy_network_loses_nothing() {
    apart("networks::a_slow_and_lossy_network_loses_nothing", || async {
        let mut rng = seed::rng();
        let (network, deployment) = start().await?;
        println!("every cable: {}", network.disturb()?);
        let callers = Callers::start(&deployment.client(), CALLERS, &mut rng);
        while callers.accepted() < LOSSY_MESSAGES {
            callers.until_accepted(LOSSY_MESSAGES - callers.accepted()).await;
        }
        check(deployment, callers.finish().await).await;
        Ok(())
    });
}
