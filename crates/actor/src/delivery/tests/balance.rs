//! Another policy of the balancer, while the node runs.

use alys_stream_transport::balance::{BalanceConfig, OutlierConfig, Policy};

use super::*;
use crate::StreamSystem;

/// How long anything here may take before it counts as never.
const LONG: Duration = Duration::from_secs(30);

fn policy(policy: Policy) -> BalanceConfig {
    BalanceConfig { policy, ..BalanceConfig::default() }
}

#[tokio::test]
async fn a_policy_that_was_set_outlives_the_stream_actor() {
    let mut site = Site::new(2, Bounds::default());
    // Nobody is dialled.
    site.config.endpoints.iter_mut().for_each(|endpoint| endpoint.enabled = false);
    let clock: Arc<dyn WallClock> = site.clock.clone();
    let metrics = Arc::new(Metrics::new());
    let system = StreamSystem::start(site.config.clone(), metrics, clock).await.unwrap();
    let handle = system.handle();
    assert_eq!(handle.status().balance, Some(Policy::PeakEwma));
    handle.set_balance(policy(Policy::RoundRobin)).unwrap();
    assert_eq!(handle.status().balance, Some(Policy::RoundRobin));

    let outlier = OutlierConfig { window: Duration::ZERO, ..OutlierConfig::default() };
    let wrong = BalanceConfig { outlier, ..policy(Policy::Latency) };
    assert!(handle.set_balance(wrong).unwrap_err().to_string().contains("outlier.window"));
    assert_eq!(handle.status().balance, Some(Policy::RoundRobin), "nothing changed");

    let first = handle.running().await.unwrap();
    first.broken.notify_one();
    let replaced = async {
        loop {
            let now = handle.running().await.unwrap();
            if !Arc::ptr_eq(&now, &first) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, replaced).await.unwrap();
    assert_eq!(handle.status().balance, Some(Policy::RoundRobin));
    system.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn what_is_set_while_nothing_runs_is_in_force_afterwards() {
    let site = Site::new(2, Bounds::default());
    let setting = crate::balance::BalanceSetting::new(policy(Policy::PeakEwma));
    let (phase, phases) = watch::channel(crate::stream_actor::Phase::Restarting);
    let life = site.start().await;
    setting.set(policy(Policy::Priority), &phases);
    setting.run(Arc::clone(&life.delivery), &phase);
    assert_eq!(life.delivery.balancer.policy(), Policy::Priority);
    drop(phase);
    drop(phases);
    life.stop().await;
}
