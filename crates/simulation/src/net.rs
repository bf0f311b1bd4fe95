//! The network between machines: latency, loss, bandwidth, partitions, resets, silent death.
//!
//! A connection is two [`wire`]s, each a queue of what is under way. What a machine writes stays in
//! order, as TCP keeps it; what is lost on the way comes later, as TCP sends it again. Connections
//! overtake each other.
//!
//! Not here: TLS, HTTP/2 and everything above: the drivers of the product bring those.
//!
//! Invariants:
//! - N1: bytes arrive in the order in which they were written, once, or the connection is reset.
//! - N2: nothing passes a link that is held, and everything held passes once it is not.
//! - N3: after a crash no end of the machine says or hears anything more.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_governance::Entrance;
use alys_stream_transport::grpc::{BoxIo, Network};
use bytes::BytesMut;
use fastrand::Rng;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

mod wire;

use wire::{End, Last, Wire};

use crate::strikes::{Blow, Strikes};

/// Between the numbers of two Alys nodes, and between a node and a second process of it.
const NODE_STEP: u8 = 10;
const TWINS: u8 = 100;

/// Where governance nodes listen.
pub(crate) const PORT: u16 = 9000;

/// A machine of the simulation: 0, 10 and 20 are Alys nodes, the numbers up to 9 governance nodes, and
/// a hundred above a node runs a second process of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Machine(pub(crate) u8);

impl Machine {
    /// An Alys node, counted from 0.
    pub(crate) const fn node(index: u8) -> Self {
        Self(index * NODE_STEP)
    }

    /// Where a second process with the identity of a node runs.
    pub(crate) const fn twin(self) -> Self {
        Self(self.0 % TWINS + TWINS)
    }

    /// The node whose identity runs there; `None` for a governance node.
    pub(crate) fn identity(self) -> Option<Self> {
        let node = Self(self.0 % TWINS);
        node.0.is_multiple_of(NODE_STEP).then_some(node)
    }

    pub(crate) fn name(self) -> String {
        let Some(node) = self.identity() else { return format!("gov-{}", self.0) };
        let kind = if self == node { "node" } else { "twin" };
        format!("{kind}-{}", node.0 / NODE_STEP + 1)
    }

    const fn ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 1, self.0))
    }

    fn of(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(ip) => Some(Self(ip.octets()[3])),
            IpAddr::V6(_) => None,
        }
    }
}

/// How the way from one machine to another is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) latency: (Duration, Duration),
    /// What made the latency what it is.
    pub(crate) slowed: Option<Blow>,
    /// Of a thousand chunks, how many come late.
    pub(crate) lost_permille: Option<(u32, Blow)>,
    pub(crate) bytes_per_second: Option<(u64, Blow)>,
    /// Nothing passes.
    pub(crate) held: Option<Blow>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            latency: (Duration::from_micros(200), Duration::from_millis(5)),
            slowed: None,
            lost_permille: None,
            bytes_per_second: None,
            held: None,
        }
    }
}

/// Sees, and may change, what is said on a connection in one direction.
pub(crate) trait Tap: Send {
    /// Takes the first whole unit of what was said, which travels as one; `None` while there is none.
    fn next(&mut self, begun: &mut BytesMut) -> Option<BytesMut>;

    /// There is more than the link takes.
    fn blocked(&mut self) {}

    /// The link took everything that it was offered.
    fn flushed(&mut self) {}
}

/// Makes the taps of a new connection, who dialled and who is dialled given: from the one who
/// dialled, and to it.
pub(crate) type Tapping = Arc<dyn Fn(Machine, Machine) -> [Box<dyn Tap>; 2] + Send + Sync>;

#[derive(Debug, Default)]
struct Host {
    /// Grows with every crash: what is of an older one is dead.
    generation: u64,
    is_up: bool,
    listens: bool,
    arrived: VecDeque<(End, SocketAddr)>,
}

struct Connection {
    from: Machine,
    to: Machine,
    wires: [Arc<Wire>; 2],
}

/// When what passed last in each direction was written.
#[derive(Default)]
struct Passed(BTreeMap<(Machine, Machine), Last>);

impl Passed {
    fn of(&mut self, way: (Machine, Machine)) -> Last {
        self.0.entry(way).or_default().clone()
    }
}

struct State {
    rng: Rng,
    hosts: BTreeMap<Machine, Host>,
    links: BTreeMap<(Machine, Machine), Link>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
    tapping: Option<Tapping>,
    strikes: Strikes,
    passed: Passed,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Net {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").finish_non_exhaustive()
    }
}

impl Net {
    pub(crate) fn new(seed: u64, strikes: Strikes) -> Self {
        let state = State {
            rng: Rng::with_seed(seed),
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            connections: BTreeMap::new(),
            next: 0,
            tapping: None,
            strikes,
            passed: Passed::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who counts the faults that strike.
    pub(crate) fn strikes(&self) -> Strikes {
        self.lock().strikes.clone()
    }

    pub(crate) fn set_tapping(&self, tapping: Tapping) {
        self.lock().tapping = Some(tapping);
    }

    /// A machine starts; the view of what runs on it.
    pub(crate) fn boot(&self, machine: Machine) -> Port {
        let mut state = self.lock();
        // Whoever still believed in an old connection learns that nobody knows it.
        state.end_connections(machine, Wire::reset);
        let host = state.hosts.entry(machine).or_default();
        (host.is_up, host.listens) = (true, false);
        Port { net: self.clone(), machine, generation: host.generation }
    }

    /// Ends everything of a machine: a process that dies resets its connections, a machine without
    /// power says nothing.
    pub(crate) fn crash(&self, machine: Machine, is_silent: bool) {
        let mut state = self.lock();
        let host = state.hosts.entry(machine).or_default();
        host.generation += 1;
        (host.is_up, host.listens) = (false, false);
        let arrived = std::mem::take(&mut host.arrived);
        if is_silent {
            state.silence(machine);
        } else {
            state.end_connections(machine, Wire::reset);
        }
        drop(state);
        drop(arrived);
        self.changed.notify_waiters();
    }

    /// Resets the connections between two machines; says whether there were any.
    pub(crate) fn reset(&self, one: Machine, other: Machine) -> bool {
        let mut state = self.lock();
        let mut is_any = false;
        state.connections.retain(|_, connection| {
            let is_between = connection.is_between(one, other);
            if is_between {
                is_any |= connection.is_live();
                connection.wires.iter().for_each(|wire| wire.reset());
            }
            !is_between
        });
        is_any
    }

    /// The connections between two machines are gone for one of them, and the other one hears nothing
    /// of it: its end stays, takes what it is given, and says nothing more. Says whether there were
    /// any.
    pub(crate) fn lose(&self, one: Machine, other: Machine) -> bool {
        let state = self.lock();
        let mut is_any = false;
        for connection in state.connections.values().filter(|it| it.is_between(one, other)) {
            is_any |= connection.is_live();
            for (wire, (from, _)) in connection.wires.iter().zip(connection.ways()) {
                wire.lose(from == one);
            }
        }
        is_any
    }

    /// What is written from now on to the connections that there are between two machines comes so much
    /// later, and what is written to those that begin after this does not.
    pub(crate) fn lag(&self, one: Machine, other: Machine, lag: Duration, blow: Blow) {
        self.each_wire(|way, wire| {
            if way == (one, other) || way == (other, one) {
                wire.set_lag(Some((lag, blow)));
            }
        });
    }

    fn each_wire(&self, act: impl Fn((Machine, Machine), &Wire)) {
        for connection in self.lock().connections.values() {
            for (wire, way) in connection.wires.iter().zip(connection.ways()) {
                act(way, wire);
            }
        }
    }

    /// Changes how the way from one machine to another is.
    pub(crate) fn set_link(&self, from: Machine, to: Machine, change: impl FnOnce(&mut Link)) {
        let mut state = self.lock();
        let link = state.links.entry((from, to)).or_default();
        change(link);
        let link = *link;
        for connection in state.connections.values() {
            for (wire, way) in connection.wires.iter().zip(connection.ways()) {
                if way == (from, to) {
                    wire.set_link(link);
                }
            }
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Everything as at first.
    pub(crate) fn heal(&self) {
        let ways: Vec<_> = self.lock().links.keys().copied().collect();
        for (from, to) in ways {
            self.set_link(from, to, |link| *link = Link::default());
        }
        self.each_wire(|_, wire| wire.set_lag(None));
    }
}

impl Connection {
    const fn ways(&self) -> [(Machine, Machine); 2] {
        [(self.from, self.to), (self.to, self.from)]
    }

    fn is_between(&self, one: Machine, other: Machine) -> bool {
        self.ways().contains(&(one, other))
    }

    /// Whether both ends are there.
    fn is_live(&self) -> bool {
        self.wires.iter().all(|wire| wire.is_live())
    }
}

impl State {
    fn link(&self, from: Machine, to: Machine) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or_default()
    }

    fn end_connections(&mut self, machine: Machine, end: fn(&Wire)) {
        self.connections.retain(|_, connection| {
            let is_meant = connection.from == machine || connection.to == machine;
            if is_meant {
                connection.wires.iter().for_each(|wire| end(wire));
            }
            !is_meant
        });
    }

    /// N3: what it said last may still be under way.
    fn silence(&self, machine: Machine) {
        for connection in self.connections.values() {
            for (wire, (from, to)) in connection.wires.iter().zip(connection.ways()) {
                if from == machine || to == machine {
                    wire.silence(to == machine);
                }
            }
        }
    }

    fn is_alive(&self, machine: Machine, generation: u64) -> bool {
        self.hosts.get(&machine).is_some_and(|host| host.is_up && host.generation == generation)
    }

    fn delay(&mut self, link: Link) -> Duration {
        let (least, most) = link.latency;
        let span = u64::try_from((most - least).as_micros()).unwrap_or(0);
        least + Duration::from_micros(self.rng.u64(0..=span))
    }
}

/// The network as what runs on one machine sees it, until the machine crashes.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    net: Net,
    machine: Machine,
    generation: u64,
}

impl Port {
    /// Lets connections in, as a governance node.
    pub(crate) fn listen(&self) -> Arc<dyn Entrance> {
        if let Some(host) = self.net.lock().hosts.get_mut(&self.machine)
            && host.generation == self.generation
        {
            host.listens = true;
        }
        Arc::new(self.clone())
    }

    /// How long a packet takes there and back; `None` while there is no way.
    fn round_trip(&self, to: Machine) -> Option<Duration> {
        let mut state = self.net.lock();
        let (there, back) = (state.link(self.machine, to), state.link(to, self.machine));
        if let Some(blow) = there.held.or(back.held) {
            state.strikes.strike(blow);
            return None;
        }
        for blow in [there.slowed, back.slowed].into_iter().flatten() {
            state.strikes.strike(blow);
        }
        Some(state.delay(there) + state.delay(back))
    }

    fn open(&self, to: Machine) -> io::Result<BoxIo> {
        let mut state = self.net.lock();
        if !state.is_alive(self.machine, self.generation) {
            return Err(io::ErrorKind::NetworkDown.into());
        }
        let listens = state.hosts.get(&to).is_some_and(|host| host.is_up && host.listens);
        if !listens {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let number = state.next;
        state.next += 1;
        let taps = state.tapping.clone().map(|tapping| tapping(self.machine, to));
        let [there, back] = match taps {
            Some([there, back]) => [Some(there), Some(back)],
            None => [None, None],
        };
        let seeds = (state.rng.u64(..), state.rng.u64(..));
        let mut wire = |seed, way: (Machine, Machine), tap| {
            let link = state.link(way.0, way.1);
            let passed = state.passed.of(way);
            Wire::new(seed, link, tap, (state.strikes.clone(), passed))
        };
        let there = wire(seeds.0, (self.machine, to), there);
        let back = wire(seeds.1, (to, self.machine), back);
        let near = End::new(Arc::clone(&back), Arc::clone(&there));
        let far = End::new(Arc::clone(&there), Arc::clone(&back));
        let connection = Connection { from: self.machine, to, wires: [there, back] };
        state.connections.insert(number, connection);
        let port = 40_000 + u16::try_from(number % 20_000).unwrap_or(0);
        let address = SocketAddr::new(self.machine.ip(), port);
        if let Some(host) = state.hosts.get_mut(&to) {
            host.arrived.push_back((far, address));
        }
        drop(state);
        self.net.changed.notify_waiters();
        Ok(Box::new(near))
    }
}

impl Network for Port {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let number = host.strip_prefix("gov-").and_then(|number| number.parse().ok());
        let found = number.map(|number| vec![SocketAddr::new(Machine(number).ip(), port)]);
        std::future::ready(found.ok_or_else(|| io::ErrorKind::NotFound.into())).boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>> {
        async move {
            let to = Machine::of(address.ip()).ok_or(io::ErrorKind::HostUnreachable)?;
            let until = loop {
                let changed = self.net.changed.notified();
                match self.round_trip(to) {
                    Some(time) => break Instant::now() + time,
                    None => changed.await,
                }
            };
            tokio::time::sleep_until(until).await;
            self.open(to)
        }
        .boxed()
    }
}

impl Entrance for Port {
    fn accept(&self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        async move {
            loop {
                let changed = self.net.changed.notified();
                let arrived = {
                    let mut state = self.net.lock();
                    let is_alive = state.is_alive(self.machine, self.generation);
                    let host = state.hosts.get_mut(&self.machine).filter(|_| is_alive);
                    host.and_then(|host| host.arrived.pop_front())
                };
                if let Some((end, address)) = arrived {
                    let end: BoxIo = Box::new(end);
                    return Ok((end, address));
                }
                changed.await;
            }
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::new(self.machine.ip(), PORT))
    }
}
