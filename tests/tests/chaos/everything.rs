//! D1 to D4 with everything at once.

use std::num::NonZeroU64;
use std::time::Duration;

use alys_stream_testkit::proxy::{Admission, Cut, Direction, Flow, Proxy};
use alys_stream_tests::deployment::{Deployment, heartbeat_every, listen_of, mint, reach_through};
use alys_stream_tests::process::Served;
use alys_stream_tests::seed;
use serde_json::json;
use tokio::time::sleep;

use super::load::Callers;
use super::verdict::check;

/// How much happens.
const ACTS: usize = 30;

/// Callers that submit at the same time.
const CALLERS: u64 = 4;

const GOVERNANCE: usize = 3;

const HEARTBEAT: Duration = Duration::from_millis(400);

/// A node, governance nodes, and a proxy before each of these.
struct Rig {
    deployment: Deployment,
    proxies: Vec<Proxy>,
    rng: fastrand::Rng,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_is_applied_twice_whatever_happens() {
    let mut rig = Rig::start(seed::rng()).await;
    let callers = Callers::start(&rig.deployment.client(), CALLERS, &mut rig.rng);
    for act in 0..ACTS {
        // Not every act finds the one before it mended.
        callers.until_accepted(rig.rng.u64(1..150)).await;
        let what = match rig.rng.u32(0..9) {
            0..=3 => rig.strike_a_process().await,
            4..=7 => rig.strike_a_link().await,
            _ => rig.misbehave().await,
        };
        println!("act {act}: {what}, {} accepted", callers.accepted());
    }
    rig.mend().await;
    let accepted = callers.finish().await;
    println!("{} accepted over {ACTS} acts", accepted.len());
    check(rig.deployment, accepted).await;
}

impl Rig {
    async fn start(rng: fastrand::Rng) -> Self {
        let folder = mint(GOVERNANCE);
        let root = folder.path().join("d");
        let mut proxies = Vec::new();
        for governance in 1..=GOVERNANCE {
            let listen = listen_of(&root.join(format!("governance-{governance}/governance.yaml")));
            let proxy = Proxy::start(listen.parse().expect("an address")).expect("a free port");
            reach_through(&root, governance, proxy.address());
            heartbeat_every(&root, governance, HEARTBEAT);
            proxies.push(proxy);
        }
        let deployment = Deployment::start_in(folder, GOVERNANCE).await;
        Self { deployment, proxies, rng }
    }

    /// The node or one of the governance nodes, and what it is called.
    fn process(&mut self) -> (&mut Served, String) {
        let Deployment { node, governance, .. } = &mut self.deployment;
        match self.rng.usize(0..=GOVERNANCE).checked_sub(1) {
            None => (node, "the node".to_owned()),
            Some(which) => (&mut governance[which], format!("governance {which}")),
        }
    }

    async fn strike_a_process(&mut self) -> String {
        let time = self.millis(50..3000);
        let what = self.rng.u32(0..5);
        let (process, name) = self.process();
        match what {
            0 => {
                process.kill().await;
                process.restart();
                format!("{name} is killed")
            }
            1 => {
                process.kill().await;
                process.restart();
                process.ready().await;
                process.kill().await;
                process.restart();
                format!("{name} is killed, and again when it is ready")
            }
            2 => {
                process.pause();
                sleep(time).await;
                process.resume();
                format!("{name} stands still for {time:?}")
            }
            3 => {
                process.pause();
                sleep(time).await;
                process.kill().await;
                process.restart();
                format!("{name} is killed after it stood still for {time:?}")
            }
            _ => {
                let Deployment { node, governance, .. } = &mut self.deployment;
                for process in governance.iter_mut().chain([node]) {
                    process.kill().await;
                    process.restart();
                }
                "all processes are killed".to_owned()
            }
        }
    }

    async fn strike_a_link(&mut self) -> String {
        let which = self.rng.usize(..GOVERNANCE);
        let while_so = self.millis(50..2500);
        let direction = if self.rng.bool() { Direction::Up } else { Direction::Down };
        let what = self.rng.u32(0..6);
        let flow = self.flow();
        let proxy = &mut self.proxies[which];
        let what = match what {
            0 => {
                proxy.cut(Cut::Reset).await;
                "connections are reset".to_owned()
            }
            1 => {
                proxy.cut(Cut::Close).await;
                "connections are closed".to_owned()
            }
            2 => {
                let admission = if self.rng.bool() { Admission::Refuse } else { Admission::Silent };
                proxy.admit(admission).await;
                proxy.cut(Cut::Reset).await;
                sleep(while_so).await;
                proxy.heal().await;
                format!("nobody answers for {while_so:?}: {admission:?}")
            }
            3 => {
                proxy.flow(direction, flow).await;
                format!("{direction:?} {flow:?} until it is mended")
            }
            _ => {
                proxy.flow(direction, flow).await;
                sleep(while_so).await;
                proxy.heal().await;
                format!("{direction:?} {flow:?} for {while_so:?}")
            }
        };
        format!("link {which}: {what}")
    }

    fn flow(&mut self) -> Flow {
        let rng = &mut self.rng;
        let mut bytes = |most| NonZeroU64::new(rng.u64(1..most)).expect("it begins at one");
        match bytes(7).get() {
            1 => Flow::Hold,
            2 => Flow::Discard,
            3 => Flow::Throttle(bytes(20_000)),
            4 => Flow::Flip(bytes(50_000)),
            5 => Flow::Truncate(bytes(20_000)),
            _ => Flow::Delay(self.millis(1..400)),
        }
    }

    async fn misbehave(&mut self) -> String {
        let which = self.rng.usize(..GOVERNANCE);
        let how = match self.rng.u32(0..4) {
            0 | 1 => json!({"drop_acks": self.rng.bool()}),
            2 => json!({"disconnect_mid_batch": {"after_records": self.rng.u32(1..200)}}),
            _ => json!({"goaway": true}),
        };
        // Whoever was killed just now takes no orders yet.
        self.deployment.governance[which].ready().await;
        self.deployment.governance[which].misbehave(&how).await;
        format!("governance {which} does {how}")
    }

    async fn mend(&mut self) {
        for proxy in &mut self.proxies {
            proxy.heal().await;
        }
        for governance in &mut self.deployment.governance {
            governance.ready().await;
            governance.misbehave(&json!({"drop_acks": false, "disconnect_mid_batch": null})).await;
        }
        self.deployment.node.ready().await;
    }

    fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }
}
