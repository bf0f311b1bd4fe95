//! What holds for every script.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Up(u16),
    Down(u16),
    Add(u16),
    Remove(u16),
    Sent(u16, u64),
    Acked(u16, u64),
    Failed(u16, u8),
    Load(u16, u32),
    Wait(u64),
    Switch(usize),
    Choose(Vec<(u16, u64, bool, bool)>),
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..5_u16;
    prop_oneof![
        3 => which().prop_map(Step::Up),
        1 => which().prop_map(Step::Down),
        2 => which().prop_map(Step::Add),
        1 => which().prop_map(Step::Remove),
        2 => (which(), 0..50_u64).prop_map(|(n, count)| Step::Sent(n, count)),
        2 => (which(), 0..5000_u64).prop_map(|(n, ms)| Step::Acked(n, ms)),
        3 => (which(), 1..8_u8).prop_map(|(n, times)| Step::Failed(n, times)),
        1 => (which(), 0..2000_u32).prop_map(|(n, busy)| Step::Load(n, busy)),
        2 => (0..40_000_u64).prop_map(Step::Wait),
        1 => (0..Policy::ALL.len()).prop_map(Step::Switch),
        6 => prop::collection::vec((which(), 0..2000_u64, any::<bool>(), any::<bool>()), 0..6)
            .prop_map(Step::Choose),
    ]
}

/// Plays a script; what was chosen.
fn play(seed: u64, script: &[Step]) -> Result<Vec<Option<EndpointKey>>, TestCaseError> {
    let mut now = start();
    let mut balancer = Balancer::new(BalanceConfig::default(), seed);
    let mut chosen = Vec::new();
    for step in script {
        match step {
            Step::Up(n) => balancer.handle_up(now, key(*n)),
            Step::Down(n) => balancer.handle_down(now, key(*n)),
            Step::Add(n) => {
                balancer.handle_endpoint_added(now, key(*n), traits(90 + u32::from(*n), 1));
            }
            Step::Remove(n) => balancer.handle_endpoint_removed(now, key(*n)),
            Step::Sent(n, count) => balancer.handle_sent(now, key(*n), *count),
            Step::Acked(n, ms) => {
                balancer.handle_acked(now, key(*n), 1, Duration::from_millis(*ms));
            }
            Step::Failed(n, times) => {
                for _ in 0..*times {
                    balancer.handle_failure(now, key(*n));
                }
            }
            Step::Load(n, busy) => balancer.handle_load_report(now, key(*n), 7, *busy),
            Step::Wait(ms) => {
                now += Duration::from_millis(*ms);
                balancer.handle_timeout(now);
            }
            Step::Switch(n) => balancer.set_config(config(Policy::ALL[*n])),
            Step::Choose(candidates) => {
                let candidates: Vec<Candidate> = candidates
                    .iter()
                    .map(|(n, unacknowledged, is_saturated, is_avoided)| Candidate {
                        is_saturated: *is_saturated,
                        is_avoided: *is_avoided,
                        ..Candidate::new(key(*n), *unacknowledged)
                    })
                    .collect();
                let is_up = |balancer: &Balancer, key| {
                    balancer.view_of(now, key).is_some_and(|view| view.is_up)
                };
                let choice = balancer.choose(now, &candidates);
                let any_up = candidates.iter().any(|c| is_up(&balancer, c.endpoint));
                prop_assert_eq!(choice.is_some(), any_up, "T40");
                if let Some(choice) = choice {
                    prop_assert!(candidates.iter().any(|c| c.endpoint == choice), "T40");
                    prop_assert!(is_up(&balancer, choice), "T40");
                }
                chosen.push(choice);
            }
        }
        let view = balancer.view(now);
        let ejected = view.endpoints.iter().filter(|e| e.ejected.is_some()).count();
        let is_used = |e: &EndpointView| e.is_up && e.ejected.is_none();
        prop_assert!(ejected * 2 <= view.endpoints.len(), "T41");
        let any_up = view.endpoints.iter().any(|e| e.is_up);
        prop_assert!(!any_up || view.endpoints.iter().any(is_used), "T41");
    }
    Ok(chosen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn choices_and_ejections_keep_their_rules(
        seed: u64,
        script in prop::collection::vec(step(), 1..120),
    ) {
        let chosen = play(seed, &script)?;
        prop_assert_eq!(chosen, play(seed, &script)?, "T42");
    }
}
