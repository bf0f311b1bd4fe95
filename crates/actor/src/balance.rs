//! Who gets a message that any endpoint may have: the seam of the outbox, carried out by the
//! balancer of the transport.
//!
//! Neither layer knows the other. The outbox asks under its lock and names candidates; what the
//! balancer should know besides (which links are up, how long acknowledgements take, what was
//! refused) comes from the streams, through [`SharedBalancer`]. Keys stay with the outbox.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alys_stream_messaging::outbox::{self, EndpointId};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::balance::{
    BalanceConfig, BalanceEvent, Balancer, Candidate, EndpointKey, EndpointTraits, EndpointView,
    Policy,
};
use alys_stream_transport::exchange::Load;

mod setting;

pub(crate) use setting::BalanceSetting;

/// A balancer that the outbox and the streams share.
#[derive(Debug, Clone)]
pub(crate) struct SharedBalancer {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    balancer: Balancer,
    /// How long the last acknowledgement of each endpoint took.
    latencies: BTreeMap<EndpointId, Duration>,
    names: BTreeMap<EndpointKey, String>,
}

/// The present moment of the clock that the balancer measures with.
fn moment() -> Instant {
    tokio::time::Instant::now().into_std()
}

const fn key(id: EndpointId) -> EndpointKey {
    EndpointKey(id.0)
}

impl SharedBalancer {
    /// One that knows these endpoints; none of them is up yet.
    pub(crate) fn new(
        config: BalanceConfig,
        seed: u64,
        endpoints: impl Iterator<Item = (EndpointId, String, EndpointTraits)>,
    ) -> Self {
        let mut balancer = Balancer::new(config, seed);
        let mut names = BTreeMap::new();
        for (id, name, traits) in endpoints {
            balancer.handle_endpoint_added(moment(), key(id), traits);
            names.insert(key(id), name);
        }
        let shared = Shared { balancer, latencies: BTreeMap::new(), names };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an endpoint acknowledges as soon as it has a message: what a plain peer owes for its
    /// answers is no stall.
    pub(crate) fn handle_promptness(&self, id: EndpointId, is_prompt: bool) {
        self.lock().balancer.handle_promptness(key(id), is_prompt);
    }

    /// A stream takes messages.
    pub(crate) fn handle_up(&self, id: EndpointId) {
        self.lock().balancer.handle_up(moment(), key(id));
    }

    /// A stream is over; `is_failure` when messages were on it.
    pub(crate) fn handle_down(&self, id: EndpointId, is_failure: bool) {
        let mut shared = self.lock();
        if is_failure {
            shared.balancer.handle_failure(moment(), key(id));
        }
        shared.balancer.handle_down(moment(), key(id));
        shared.report();
    }

    /// A message was refused for now.
    pub(crate) fn handle_refused(&self, id: EndpointId) {
        let mut shared = self.lock();
        shared.balancer.handle_failure(moment(), key(id));
        shared.report();
    }

    /// An acknowledgement came so long after its messages were sent. The messages it acknowledges
    /// are counted by the outbox, which is told next.
    pub(crate) fn handle_latency(&self, id: EndpointId, latency: Duration) {
        self.lock().latencies.insert(id, latency);
    }

    /// A peer and its link are at work: so many records are awaited, and none of them is a stall.
    pub(crate) fn handle_progress(&self, id: EndpointId, awaited: u64) {
        self.lock().balancer.handle_progress(moment(), key(id), awaited);
    }

    /// A peer says how busy it is.
    pub(crate) fn handle_load(&self, id: EndpointId, load: Load) {
        let Load { queued_messages, busy_permille } = load;
        let balancer = &mut self.lock().balancer;
        balancer.handle_load_report(moment(), key(id), queued_messages, busy_permille);
    }

    /// Switches to another configuration: what was measured stays.
    pub(crate) fn set_config(&self, config: BalanceConfig) {
        let mut shared = self.lock();
        if *shared.balancer.config() != config {
            shared.balancer.set_config(config);
        }
    }

    /// How one is chosen.
    pub(crate) fn policy(&self) -> Policy {
        self.lock().balancer.config().policy
    }

    /// Lets time act, with what each endpoint has and has not acknowledged: ejections begin and end.
    pub(crate) fn handle_timeout(&self, unacknowledged: impl Iterator<Item = (EndpointId, usize)>) {
        let mut shared = self.lock();
        let now = moment();
        for (id, messages) in unacknowledged {
            let messages = u64::try_from(messages).unwrap_or(u64::MAX);
            shared.balancer.handle_unacknowledged(now, key(id), messages);
        }
        shared.balancer.handle_timeout(now);
        shared.report();
    }

    /// An endpoint as the balancer sees it now.
    pub(crate) fn view(&self, id: EndpointId) -> Option<EndpointView> {
        self.lock().balancer.view_of(moment(), key(id))
    }
}

impl Shared {
    /// Tells operators what happened.
    fn report(&mut self) {
        while let Some(event) = self.balancer.poll_event() {
            match event {
                BalanceEvent::Ejected { endpoint, cause, period } => {
                    let endpoint = self.name(endpoint);
                    tracing::warn!(endpoint, ?cause, ?period, "gets no messages for a while");
                }
                BalanceEvent::Returned { endpoint } => {
                    tracing::info!(endpoint = self.name(endpoint), "gets messages again");
                }
            }
        }
    }

    fn name(&self, endpoint: EndpointKey) -> &str {
        self.names.get(&endpoint).map_or("unknown", String::as_str)
    }
}

impl outbox::Balance for SharedBalancer {
    fn choose(&mut self, _now: UnixMillis, candidates: &[outbox::Candidate]) -> Option<EndpointId> {
        let candidates: Vec<Candidate> = candidates
            .iter()
            .map(|candidate| Candidate {
                is_saturated: candidate.is_saturated,
                is_avoided: candidate.is_avoided,
                ..Candidate::new(
                    key(candidate.id),
                    u64::try_from(candidate.unacknowledged).unwrap_or(u64::MAX),
                )
            })
            .collect();
        let mut shared = self.lock();
        let chosen = shared.balancer.choose(moment(), &candidates);
        shared.report();
        chosen.map(|chosen| EndpointId(chosen.0))
    }

    fn handle_sent(&mut self, _now: UnixMillis, id: EndpointId, messages: usize) {
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        self.lock().balancer.handle_sent(moment(), key(id), messages);
    }

    fn handle_acked(&mut self, _now: UnixMillis, id: EndpointId, messages: usize) {
        let mut shared = self.lock();
        let unmeasured = shared.balancer.config().ewma.default_rtt;
        let latency = shared.latencies.get(&id).copied().unwrap_or(unmeasured);
        let messages = u64::try_from(messages).unwrap_or(u64::MAX);
        shared.balancer.handle_acked(moment(), key(id), messages, latency);
    }

    // A lost connection is told by its stream, which knows what was on it.
}

#[cfg(test)]
mod tests {
    use alys_stream_messaging::outbox::Balance as _;
    use alys_stream_protocol::message::Priority;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1);

    fn balancer(policy: Policy) -> SharedBalancer {
        let config = BalanceConfig { policy, ..BalanceConfig::default() };
        let endpoints = (0..3).map(|id| {
            let traits = EndpointTraits { priority: 100 - u32::from(id), ..Default::default() };
            (EndpointId(id), format!("gov-{id}"), traits)
        });
        SharedBalancer::new(config, 7, endpoints)
    }

    fn candidates(ids: &[u16]) -> Vec<outbox::Candidate> {
        ids.iter()
            .map(|id| outbox::Candidate {
                id: EndpointId(*id),
                priority_class: Priority::Normal,
                unacknowledged: 0,
                assigned: 0,
                is_saturated: false,
                is_avoided: false,
            })
            .collect()
    }

    /// The same with some of them full.
    fn full(ids: &[u16], full: &[u16]) -> Vec<outbox::Candidate> {
        let candidates = candidates(ids).into_iter();
        let of = |candidate: outbox::Candidate| {
            let is_saturated = full.contains(&candidate.id.0);
            outbox::Candidate { is_saturated, ..candidate }
        };
        candidates.map(of).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_highest_tier_has_no_room_for_spills_over_and_returns() {
        let mut balancer = balancer(Policy::Priority);
        (0..3).for_each(|id| balancer.handle_up(EndpointId(id)));
        tokio::time::advance(Duration::from_secs(60)).await;
        let mut choose = |full_ids: &[u16]| balancer.choose(NOW, &full(&[0, 1, 2], full_ids));
        assert_eq!(choose(&[]), Some(EndpointId(0)));
        assert_eq!(choose(&[0]), Some(EndpointId(1)));
        assert_eq!(choose(&[0, 1]), Some(EndpointId(2)));
        assert_eq!(choose(&[1]), Some(EndpointId(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_up_is_chosen_and_the_highest_tier_first() {
        let mut balancer = balancer(Policy::Priority);
        assert_eq!(balancer.choose(NOW, &candidates(&[0, 1, 2])), None);
        balancer.handle_up(EndpointId(1));
        balancer.handle_up(EndpointId(2));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(balancer.choose(NOW, &candidates(&[0, 1, 2])), Some(EndpointId(1)));
        balancer.handle_down(EndpointId(1), false);
        assert_eq!(balancer.choose(NOW, &candidates(&[0, 1, 2])), Some(EndpointId(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_refuses_again_and_again_gets_nothing_for_a_while() {
        let mut balancer = balancer(Policy::RoundRobin);
        (0..3).for_each(|id| balancer.handle_up(EndpointId(id)));
        for _ in 0..5 {
            balancer.handle_refused(EndpointId(0));
        }
        balancer.handle_timeout(std::iter::empty());
        assert!(balancer.view(EndpointId(0)).is_some_and(|view| view.ejected.is_some()));
        let chosen = (0..6).map(|_| balancer.choose(NOW, &candidates(&[0, 1, 2])));
        assert!(chosen.into_iter().all(|id| id.is_some_and(|id| id != EndpointId(0))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_withdrawn_is_not_waited_for() {
        let mut balancer = balancer(Policy::PeakEwma);
        (0..3).for_each(|id| balancer.handle_up(EndpointId(id)));
        balancer.handle_sent(NOW, EndpointId(0), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        let unacknowledged = |first, second| [(EndpointId(0), first), (EndpointId(1), second)];
        balancer.handle_timeout(unacknowledged(0, 0).into_iter());
        let view = balancer.view(EndpointId(0));
        assert!(view.is_some_and(|view| view.ejected.is_none() && view.unacknowledged == 0));
        balancer.handle_sent(NOW, EndpointId(1), 5);
        tokio::time::advance(Duration::from_secs(60)).await;
        balancer.handle_timeout(unacknowledged(0, 5).into_iter());
        let view = balancer.view(EndpointId(1));
        assert!(view.is_some_and(|view| view.ejected.is_some()), "it owes these");
    }

    #[tokio::test(start_paused = true)]
    async fn who_owes_an_answer_for_long_is_ejected_only_when_it_speaks_sessions() {
        let mut balancer = balancer(Policy::RoundRobin);
        (0..3).for_each(|id| balancer.handle_up(EndpointId(id)));
        balancer.handle_promptness(EndpointId(1), false);
        for id in [EndpointId(0), EndpointId(1)] {
            balancer.handle_sent(NOW, id, 1);
        }
        tokio::time::advance(Duration::from_secs(11)).await;
        balancer.handle_timeout(std::iter::empty());
        let is_ejected =
            |id| balancer.view(EndpointId(id)).is_some_and(|view| view.ejected.is_some());
        assert_eq!([0, 1, 2].map(is_ejected), [true, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_at_work_on_what_it_owes_is_not_ejected() {
        let mut balancer = balancer(Policy::RoundRobin);
        (0..3).for_each(|id| balancer.handle_up(EndpointId(id)));
        for id in [EndpointId(0), EndpointId(1)] {
            balancer.handle_sent(NOW, id, 1);
        }
        for _ in 0..4 {
            tokio::time::advance(Duration::from_secs(3)).await;
            // A long message is still leaving in parts.
            balancer.handle_progress(EndpointId(0), 0);
        }
        balancer.handle_timeout(std::iter::empty());
        let is_ejected =
            |id| balancer.view(EndpointId(id)).is_some_and(|view| view.ejected.is_some());
        assert_eq!([0, 1, 2].map(is_ejected), [false, true, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_acknowledgement_took_decides_under_latency() {
        let mut balancer = balancer(Policy::Latency);
        (0..3).for_each(|id| balancer.handle_up(EndpointId(id)));
        tokio::time::advance(Duration::from_secs(60)).await;
        for (id, ms) in [(0, 900), (1, 5), (2, 400)] {
            let id = EndpointId(id);
            balancer.handle_sent(NOW, id, 10);
            balancer.handle_latency(id, Duration::from_millis(ms));
            balancer.handle_acked(NOW, id, 10);
        }
        assert_eq!(balancer.choose(NOW, &candidates(&[0, 1, 2])), Some(EndpointId(1)));
    }
}
