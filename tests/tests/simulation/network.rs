//! The network of the simulation, as the dial of a node sees it, and its time.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_protocol::time::{UnixMillis, WallClock};
use alys_stream_transport::grpc::{BoxIo, Network};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use turmoil::net::TcpStream;

/// The wall time at which every simulation starts.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// Time since the start of the simulation; only within a host.
pub(crate) fn elapsed() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// The wall time of the simulation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimClock;

impl WallClock for SimClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(EPOCH_MS).saturating_add(elapsed())
    }
}

/// Resolves and connects within the simulation, and notes when it did.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimNetwork {
    dials: Arc<Mutex<Vec<Duration>>>,
    refused: Arc<AtomicUsize>,
}

impl SimNetwork {
    /// When a connection was tried.
    pub(crate) fn dials(&self) -> Vec<Duration> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the machine that dials with it holds.
    pub(crate) fn holding(&self) -> Holding {
        let holding = Holding::of_this_machine();
        // turmoil never forgets a connection that was refused.
        let streams = holding.streams.saturating_sub(self.refused.load(Ordering::Relaxed));
        Holding { streams, ..holding }
    }
}

impl Network for SimNetwork {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let address = SocketAddr::new(turmoil::lookup(host), port);
        async move { Ok(vec![address]) }.boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner).push(elapsed());
        async move {
            let connected = TcpStream::connect(address).await;
            if connected.is_err() {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            let stream: BoxIo = Box::new(connected?);
            Ok(stream)
        }
        .boxed()
    }
}

/// What a machine of the simulation holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// Its connections: they are to the simulation what file descriptors are to a kernel.
    pub(crate) streams: usize,
    /// Its tasks.
    pub(crate) tasks: usize,
}

impl Holding {
    /// Of the machine that asks.
    pub(crate) fn of_this_machine() -> Self {
        Self {
            streams: turmoil::established_tcp_stream_count(),
            tasks: Handle::current().metrics().num_alive_tasks(),
        }
    }
}

/// The most of these moments that fall into any one span of this length.
pub(crate) fn most_within(moments: &[Duration], span: Duration) -> usize {
    let mut sorted = moments.to_vec();
    sorted.sort_unstable();
    let within = |(first, from): (usize, &Duration)| {
        sorted.iter().skip(first).take_while(|at| **at < *from + span).count()
    };
    sorted.iter().enumerate().map(within).max().unwrap_or(0)
}
