//! The balancer of the product behind the seam of the outbox, as the actor layer joins the two.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use alys_stream_messaging::outbox::{self, EndpointId};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::balance::{
    BalanceConfig, Balancer, Candidate, EndpointKey, EndpointTraits,
};

/// The balancer, and how long the last acknowledgement of each endpoint took.
#[derive(Debug, Clone)]
pub(crate) struct Balancing(Arc<Mutex<(Balancer, BTreeMap<EndpointId, Duration>)>>);

impl Balancing {
    /// One that knows so many endpoints, none of which is up.
    pub(crate) fn new(seed: u64, endpoints: usize) -> Self {
        let mut balancer = Balancer::new(BalanceConfig::default(), seed);
        for id in (0..).map(EndpointId).take(endpoints) {
            balancer.handle_endpoint_added(moment(), key(id), EndpointTraits::default());
        }
        Self(Arc::new(Mutex::new((balancer, BTreeMap::new()))))
    }

    fn lock(&self) -> MutexGuard<'_, (Balancer, BTreeMap<EndpointId, Duration>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn up(&self, id: EndpointId) {
        self.lock().0.handle_up(moment(), key(id));
    }

    pub(crate) fn down(&self, id: EndpointId, is_failure: bool) {
        if is_failure {
            self.failed(id);
        }
        self.lock().0.handle_down(moment(), key(id));
    }

    pub(crate) fn failed(&self, id: EndpointId) {
        self.lock().0.handle_failure(moment(), key(id));
    }

    /// The next acknowledgement that the outbox is told of took so long.
    pub(crate) fn latency(&self, id: EndpointId, latency: Duration) {
        self.lock().1.insert(id, latency);
    }

    /// Lets time act, with what each endpoint owes.
    pub(crate) fn look(&self, owed: impl Iterator<Item = (EndpointId, usize)>) {
        let balancer = &mut self.lock().0;
        for (id, messages) in owed {
            let messages = u64::try_from(messages).unwrap();
            balancer.handle_unacknowledged(moment(), key(id), messages);
        }
        balancer.handle_timeout(moment());
    }
}

const fn key(id: EndpointId) -> EndpointKey {
    EndpointKey(id.0)
}

fn moment() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl outbox::Balance for Balancing {
    fn choose(&mut self, _now: UnixMillis, candidates: &[outbox::Candidate]) -> Option<EndpointId> {
        let candidates: Vec<Candidate> = candidates
            .iter()
            .map(|candidate| Candidate {
                endpoint: key(candidate.id),
                unacknowledged: u64::try_from(candidate.unacknowledged).unwrap(),
                is_saturated: candidate.is_saturated,
                is_avoided: candidate.is_avoided,
            })
            .collect();
        let chosen = self.lock().0.choose(moment(), &candidates);
        chosen.map(|chosen| EndpointId(chosen.0))
    }

    fn handle_sent(&mut self, _now: UnixMillis, id: EndpointId, messages: usize) {
        self.lock().0.handle_sent(moment(), key(id), u64::try_from(messages).unwrap());
    }

    fn handle_acked(&mut self, _now: UnixMillis, id: EndpointId, messages: usize) {
        let (balancer, latencies) = &mut *self.lock();
        let latency = latencies.get(&id).copied().unwrap_or_default();
        balancer.handle_acked(moment(), key(id), u64::try_from(messages).unwrap(), latency);
    }
}
