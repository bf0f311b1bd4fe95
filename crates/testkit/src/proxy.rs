//! A TCP proxy that breaks what passes through it, on command: real sockets, real kernels.
//!
//! It knows bytes and connections, nothing of what they mean. A test puts it in front of a peer,
//! tells it what to do to connections ([`Admission`], [`Cut`]) and to the bytes of either direction
//! ([`Flow`]), and waits for what it counts ([`Proxy::until`]) instead of for time.
//!
//! - [`Flow::Hold`] is a black hole or a peer that stops reading: windows close, nothing is closed.
//! - [`Flow::Discard`] is a middlebox that lost its state: bytes are taken, and go nowhere.
//! - [`Flow::Flip`] is memory of a router that fails: the checksum of TCP is right again behind it.
//! - [`Flow::Truncate`] is one that ends what it carries, in the middle of whatever that is.
//! - [`Admission::Refuse`] is a process that is gone, [`Admission::Silent`] one that hangs.
//!
//! Invariants:
//! - X1: bytes that pass do so unchanged and in order, whatever was commanded in between, unless a
//!   [`Flow::Discard`] threw some away or a [`Flow::Flip`] changed some.
//! - X2: nothing outlives the [`Proxy`]: its tasks are owned, and dropping it closes every socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

mod accept;
mod link;
mod pump;

/// What happens to new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// They are connected to the peer.
    #[default]
    Pass,
    /// Nobody listens: the kernel answers with RST.
    Refuse,
    /// They are accepted, read, and never answered.
    Silent,
}

/// What happens to the bytes of one direction, on connections that are up and on later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flow {
    /// They pass.
    #[default]
    Pass,
    /// They are not read any more, and pass later.
    Hold,
    /// They are read and thrown away, the end of the stream too. What passes later is a stream with
    /// a hole, which nothing above TCP survives.
    Discard,
    /// So many pass in a second.
    Throttle(NonZeroU64),
    /// Each passes so much later, in order.
    Delay(Duration),
    /// One bit of every so many bytes is another one.
    Flip(NonZeroU64),
    /// So many bytes pass on each connection from now on, and both its sides see it end.
    Truncate(NonZeroU64),
}

/// From whom to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From who dialled to the peer.
    Up,
    /// From the peer to who dialled.
    Down,
}

/// How connections end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// With RST on both sides (`SO_LINGER` 0): what was under way is gone.
    Reset,
    /// With FIN on both sides, and what still comes is read: nobody sees an error.
    Close,
}

/// What the proxy has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections accepted, since the start.
    pub accepted: u64,
    /// Connections that are up: accepted and not ended, silent ones included.
    pub live: u64,
    /// Connections that a [`Proxy::cut`] ended.
    pub cut: u64,
    /// Connections that ended because nothing passed for too long.
    pub cut_idle: u64,
    /// Bytes that reached the peer.
    pub bytes_up: u64,
    /// Bytes that reached who dialled.
    pub bytes_down: u64,
}

/// What is commanded at present.
#[derive(Debug, Clone, Copy, Default)]
struct Orders {
    admission: Admission,
    up: Flow,
    down: Flow,
    idle_max: Option<Duration>,
    /// How many cuts were commanded, and how the last one was to be done.
    cuts: u64,
    cut: Option<Cut>,
    /// Counts commands: the acceptor echoes the last one it obeys.
    serial: u64,
}

impl Orders {
    const fn flow(&self, direction: Direction) -> Flow {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }
}

/// A proxy in front of one peer.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    obeyed: watch::Receiver<u64>,
    counts: watch::Receiver<Counts>,
    /// Owns the acceptor, which owns every connection (X2).
    _acceptor: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback interface, and passes everything to `peer`, which need
    /// not be there yet.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub fn start(peer: SocketAddr) -> io::Result<Self> {
        let place = accept::Place::reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = place.address()?;
        let listener = place.listen()?;
        let (orders, ordered) = watch::channel(Orders::default());
        let (echo, obeyed) = watch::channel(0);
        let (tally, counts) = watch::channel(Counts::default());
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept::run(accept::Acceptor {
            place,
            listener: Some(listener),
            peer,
            orders: ordered,
            obeyed: echo,
            tally,
        }));
        Ok(Self { address, orders, obeyed, counts, _acceptor: acceptor })
    }

    /// Where to dial instead of the peer.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets what happens to new connections; in force when this returns.
    ///
    /// # Panics
    ///
    /// When the port cannot be listened on again.
    pub async fn admit(&mut self, admission: Admission) {
        self.order(|orders| orders.admission = admission).await;
    }

    /// Sets what happens to the bytes of one direction.
    ///
    /// # Panics
    ///
    /// As [`Proxy::admit`].
    pub async fn flow(&mut self, direction: Direction, flow: Flow) {
        self.order(|orders| match direction {
            Direction::Up => orders.up = flow,
            Direction::Down => orders.down = flow,
        })
        .await;
    }

    /// Sets what happens to the bytes of both directions.
    ///
    /// # Panics
    ///
    /// As [`Proxy::admit`].
    pub async fn flows(&mut self, flow: Flow) {
        self.order(|orders| (orders.up, orders.down) = (flow, flow)).await;
    }

    /// Cuts connections with RST on which nothing has passed for so long; `None` cuts none.
    ///
    /// # Panics
    ///
    /// As [`Proxy::admit`].
    pub async fn cut_idle_after(&mut self, idle_max: Option<Duration>) {
        self.order(|orders| orders.idle_max = idle_max).await;
    }

    /// Ends every connection there is, silent ones too; resolves when they are gone.
    ///
    /// # Panics
    ///
    /// As [`Proxy::admit`].
    pub async fn cut(&mut self, how: Cut) {
        self.order(|orders| {
            orders.cuts += 1;
            orders.cut = Some(how);
        })
        .await;
        let accepted = self.counts().accepted;
        self.until(|counts| counts.accepted - counts.live >= accepted).await;
    }

    /// Lets everything pass again: connections that are up, and new ones.
    ///
    /// # Panics
    ///
    /// As [`Proxy::admit`].
    pub async fn heal(&mut self) {
        self.order(|orders| {
            let (cuts, cut, serial) = (orders.cuts, orders.cut, orders.serial);
            *orders = Orders { cuts, cut, serial, ..Orders::default() };
        })
        .await;
    }

    /// What it has seen so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        *self.counts.borrow()
    }

    /// Waits until the counts are so; gives them.
    ///
    /// # Panics
    ///
    /// When the acceptor is gone.
    pub async fn until(&mut self, so: impl FnMut(&Counts) -> bool) -> Counts {
        *self.counts.wait_for(so).await.expect("the acceptor runs as long as the proxy")
    }

    async fn order(&mut self, change: impl FnOnce(&mut Orders)) {
        let mut serial = 0;
        self.orders.send_modify(|orders| {
            change(orders);
            orders.serial += 1;
            serial = orders.serial;
        });
        let obeyed = self.obeyed.wait_for(|obeyed| *obeyed >= serial).await;
        drop(obeyed.expect("the proxy listens on its port again"));
    }
}
