//! One simulation: governance nodes and nodes on a network that breaks as it is told, in virtual
//! time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_transport::connection::StateKind;
use alys_stream_transport::grpc::EndpointSettings;
use turmoil::Sim;

use super::certificates::Authority;
use super::node::{Change, Node, NodePlan};
use super::peer::Peer;

/// Where governance nodes listen.
const PORT: u16 = 9000;

/// Longest virtual time that anything may take to mend itself: the longest backoff, and the steps of
/// an attempt after it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How a simulated network behaves while it works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weather {
    /// Virtual time of one step: nothing happens at a finer grain.
    pub(crate) tick: Duration,
    /// How long a packet takes.
    pub(crate) latency: (Duration, Duration),
}

impl Default for Weather {
    fn default() -> Self {
        let tick = Duration::from_millis(5);
        Self { tick, latency: (tick, Duration::from_millis(20)) }
    }
}

pub(crate) struct World {
    sim: Sim<'static>,
    authority: Authority,
    pub(crate) peers: Vec<Arc<Peer>>,
    pub(crate) nodes: Vec<Arc<Node>>,
    seed: u64,
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        println!("seed {seed}");
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .tick_duration(weather.tick)
            .min_message_latency(weather.latency.0)
            .max_message_latency(weather.latency.1)
            .tcp_capacity(1024)
            .build();
        let (peers, nodes) = Default::default();
        Self { sim, authority: Authority::new(), peers, nodes, seed }
    }

    /// One node with so many governance nodes, `gov-1` and so on, all of them up.
    pub(crate) fn with(seed: u64, weather: Weather, peers: usize, messages: u64) -> Self {
        Self::of(seed, weather, peers, EndpointSettings::default(), messages)
    }

    /// The same with other settings.
    pub(crate) fn of(
        seed: u64,
        weather: Weather,
        peers: usize,
        settings: EndpointSettings,
        messages: u64,
    ) -> Self {
        let mut world = Self::new(seed, weather);
        let names: Vec<String> = (1..=peers).map(|number| format!("gov-{number}")).collect();
        names.iter().for_each(|name| world.peer(name, messages / 8));
        world.node("node-1", &names, settings, messages);
        for name in &names {
            world.until_up(name);
        }
        world
    }

    /// A governance node on a machine of its own, which pushes so many messages to each node.
    pub(crate) fn peer(&mut self, name: &str, pushes: u64) {
        let peer = Peer::new(name, PORT, self.authority.server(name), pushes);
        self.peers.push(Arc::clone(&peer));
        self.sim.host(name, move || Arc::clone(&peer).run());
    }

    /// A site: one machine with so many governance nodes, each on a port of its own. Their names.
    pub(crate) fn site(&mut self, name: &str, peers: u16) -> Vec<(String, String)> {
        let tls = self.authority.server(name);
        let new = |index| {
            let port = PORT + index;
            let own = format!("{name}-{index}");
            let url = format!("https://{name}:{port}");
            (Peer::new(&own, port, Arc::clone(&tls), 0), (own, url))
        };
        let (new, endpoints): (Vec<_>, Vec<_>) = (0..peers).map(new).unzip();
        self.peers.extend(new.iter().map(Arc::clone));
        self.sim.host(name, move || {
            let running = futures::future::join_all(new.iter().map(|peer| Arc::clone(peer).run()));
            async move { running.await.into_iter().collect() }
        });
        endpoints
    }

    /// A node with these governance nodes.
    pub(crate) fn node(
        &mut self,
        name: &str,
        peers: &[String],
        settings: EndpointSettings,
        messages: u64,
    ) {
        let url = |peer: &String| (peer.clone(), format!("https://{peer}:{PORT}"));
        self.node_of(name, peers.iter().map(url).collect(), settings, messages);
    }

    pub(crate) fn node_of(
        &mut self,
        name: &str,
        endpoints: Vec<(String, String)>,
        settings: EndpointSettings,
        messages: u64,
    ) {
        let plan = NodePlan {
            name: name.to_owned(),
            seed: self.seed.wrapping_mul(1000).wrapping_add(self.nodes.len() as u64),
            endpoints,
            settings,
            per_second: 20,
            messages,
        };
        let node = Node::new(plan, self.authority.client(name));
        self.nodes.push(Arc::clone(&node));
        self.sim.host(name, move || Arc::clone(&node).run());
    }

    /// The governance node of this name.
    pub(crate) fn peer_of(&self, name: &str) -> &Arc<Peer> {
        self.peers.iter().find(|peer| peer.name == name).expect("a governance node")
    }

    /// The network.
    pub(crate) fn sim(&self) -> &Sim<'static> {
        &self.sim
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.sim.elapsed() + time;
        while self.sim.elapsed() < until {
            self.sim.step().expect("nothing in the simulation fails");
        }
    }

    /// Runs until it is so, at most for `limit`; says how long it took.
    pub(crate) fn until(
        &mut self,
        limit: Duration,
        what: &str,
        so: impl Fn(&Self) -> bool,
    ) -> Duration {
        let begun = self.sim.elapsed();
        while !so(self) {
            let took = self.sim.elapsed() - begun;
            assert!(took <= limit, "{what}: not within {limit:?}; {:#?}", self.last_changes());
            self.sim.step().expect("nothing in the simulation fails");
        }
        self.sim.elapsed() - begun
    }

    fn last_changes(&self) -> Vec<String> {
        let changes = self.nodes.iter().flat_map(|node| {
            let seen = node.seen();
            let last = seen.changes.len().saturating_sub(12);
            seen.changes[last..].to_vec()
        });
        let show = |change: Change| {
            format!("{:?} {} {}: {}", change.at, change.endpoint, change.to, change.why)
        };
        changes.map(show).collect()
    }

    /// Until the first node's connection to this governance node is healthy.
    pub(crate) fn until_up(&mut self, endpoint: &str) -> Duration {
        let is_up = |world: &Self| world.nodes[0].state(endpoint) == StateKind::Healthy;
        self.until(PATIENCE, &format!("{endpoint} is up"), is_up)
    }

    /// Until the first node has given up its connection to this governance node; the cause.
    pub(crate) fn until_lost(&mut self, endpoint: &str, limit: Duration) -> (Duration, String) {
        let since = self.sim.elapsed();
        let lost = |world: &Self| {
            let seen = world.nodes[0].seen();
            let mut later = seen.changes.iter().filter(|change| change.at >= since);
            let gone = later.find(|it| it.endpoint == endpoint && it.to == StateKind::Reconnecting);
            gone.map(|change| change.why.clone())
        };
        let took = self.until(limit, &format!("{endpoint} is lost"), |world| lost(world).is_some());
        (took, lost(self).expect("it was just there"))
    }

    /// How often the first node has gone to this state with this governance node.
    pub(crate) fn times(&self, endpoint: &str, to: StateKind) -> usize {
        let seen = self.nodes[0].seen();
        seen.changes.iter().filter(|change| change.endpoint == endpoint && change.to == to).count()
    }

    /// Everything settles; nothing was lost, and nothing applied twice.
    pub(crate) fn ends_well(&mut self) {
        let is_over = |world: &Self| {
            let pushed = world.peers.iter().all(|peer| {
                let taken = |node: &Arc<Node>| peer.shelf(node.owner().log_id()).pushes().2;
                world.nodes.iter().all(taken)
            });
            pushed && world.nodes.iter().all(|node| node.is_done())
        };
        self.until(10 * PATIENCE, "everything settles", is_over);
        for node in &self.nodes {
            let shelves: Vec<_> =
                self.peers.iter().map(|peer| peer.shelf(node.owner().log_id())).collect();
            let applied: Vec<_> = shelves.iter().map(|shelf| shelf.applied()).collect();
            for ledger in &applied {
                assert!(ledger.values().all(|times| *times == 1), "something was applied twice");
            }
            let [for_all, for_any] = node.owner().settled();
            let has = |ledger: &BTreeMap<MessageId, u32>, ids: &BTreeSet<_>| {
                ids.iter().all(|id| ledger.contains_key(id))
            };
            assert!(applied.iter().all(|ledger| has(ledger, &for_all)), "some peer never got one");
            let lost = for_any.iter().find(|id| !applied.iter().any(|it| it.contains_key(*id)));
            assert_eq!(lost, None, "nobody got it");
            for shelf in &shelves {
                let (log, pushed, _) = shelf.pushes();
                let got = node.seen().pushed.iter().filter(|(from, _)| *from == log).count();
                assert_eq!(u64::try_from(got).unwrap(), pushed, "a push was lost");
            }
        }
    }

    /// How many messages the first node learned to be stored only from the handshake after the cut
    /// that took their acknowledgement.
    pub(crate) fn resumed(&self) -> u64 {
        self.nodes[0].owner().resumed()
    }

    /// Everything that happened, for comparing two runs of one seed.
    pub(crate) fn trace(&self) -> Vec<String> {
        let mut trace = Vec::new();
        for node in &self.nodes {
            let seen = node.seen();
            trace.extend(seen.changes.iter().map(|change| format!("{change:?}")));
            trace.extend(seen.settled.iter().map(|settled| format!("{settled:?}")));
            for peer in &self.peers {
                let batches = peer.shelf(node.owner().log_id()).batches();
                trace.extend(batches.iter().map(|batch| format!("{} {batch:?}", peer.name)));
            }
        }
        trace
    }
}
