//! One connection through the proxy: to the peer and back, until one side or an order ends it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::pump::{Activity, Pump};
use super::{Counts, Cut, Direction, Orders};

/// How long a polite close waits for the other side to close too.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Bytes of one read that goes nowhere.
const SWALLOW_BYTES: usize = 16 * 1024;

/// What a connection is made of, beside its socket.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) is_silent: bool,
    /// Cuts commanded before it was accepted.
    pub(super) cuts_before: u64,
    pub(super) peer: SocketAddr,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) tally: Tally,
}

/// Counts one connection as live, until it is dropped.
#[derive(Debug)]
pub(super) struct Tally {
    counts: watch::Sender<Counts>,
}

impl Tally {
    pub(super) fn new(counts: watch::Sender<Counts>) -> Self {
        counts.send_modify(|counts| {
            counts.accepted += 1;
            counts.live += 1;
        });
        Self { counts }
    }

    pub(super) fn passed(&self, direction: Direction, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.counts.send_modify(|counts| match direction {
            Direction::Up => counts.bytes_up += bytes,
            Direction::Down => counts.bytes_down += bytes,
        });
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.counts.send_modify(|counts| counts.live -= 1);
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Both sides closed, or one broke.
    Over,
    /// It was commanded.
    Ordered(Cut),
    /// Nothing passed for too long.
    Idle,
}

pub(super) async fn run(link: Link, mut client: TcpStream) {
    if link.is_silent {
        let end = tokio::select! {
            () = swallow(&mut client) => End::Over,
            how = ordered(&link) => End::Ordered(how),
        };
        finish(end, &link.tally, [Some(client), None]).await;
        return;
    }
    let dialled = tokio::select! {
        dialled = TcpStream::connect(link.peer) => dialled.ok(),
        how = ordered(&link) => {
            finish(End::Ordered(how), &link.tally, [Some(client), None]).await;
            return;
        }
    };
    let Some(mut peer) = dialled else {
        // The peer is not there: nearest to a refusal of what is already accepted.
        reset(&client);
        return;
    };
    // Nothing is held back to travel with what comes later.
    drop((client.set_nodelay(true), peer.set_nodelay(true)));
    let end = carry(&link, &mut client, &mut peer).await;
    finish(end, &link.tally, [Some(client), Some(peer)]).await;
}

async fn carry(link: &Link, client: &mut TcpStream, peer: &mut TcpStream) -> End {
    let activity = Activity::new(Instant::now());
    let (from_client, to_client) = client.split();
    let (from_peer, to_peer) = peer.split();
    let pump = |direction| Pump {
        direction,
        orders: link.orders.clone(),
        tally: &link.tally,
        activity: &activity,
    };
    let both = async {
        // When one direction breaks, so does the other; when one ends, the other may go on.
        drop(tokio::try_join!(
            pump(Direction::Up).run(from_client, to_peer),
            pump(Direction::Down).run(from_peer, to_client),
        ));
    };
    tokio::select! {
        biased;
        how = ordered(link) => End::Ordered(how),
        () = idle(link, &activity) => End::Idle,
        () = both => End::Over,
    }
}

/// Resolves when a cut is commanded after this connection was accepted.
async fn ordered(link: &Link) -> Cut {
    let mut orders = link.orders.clone();
    let cut = orders.wait_for(|orders| orders.cuts > link.cuts_before).await;
    cut.ok().and_then(|orders| orders.cut).unwrap_or(Cut::Reset)
}

/// Resolves when nothing has passed for longer than the limit, when there is one.
async fn idle(link: &Link, activity: &Activity) {
    let mut orders = link.orders.clone();
    loop {
        let limit = orders.borrow_and_update().idle_max;
        let until = limit.map(|limit| activity.last() + limit);
        if until.is_some_and(|until| until <= Instant::now()) {
            return;
        }
        tokio::select! {
            // When the proxy is gone this task is about to be.
            changed = orders.changed() => if changed.is_err() { return },
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
    }
}

async fn swallow(stream: &mut TcpStream) {
    let mut bytes = vec![0; SWALLOW_BYTES];
    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
}

async fn finish(end: End, tally: &Tally, streams: [Option<TcpStream>; 2]) {
    let count = |add: fn(&mut Counts)| tally.counts.send_modify(add);
    match end {
        End::Over => {}
        End::Ordered(Cut::Reset) => {
            streams.iter().flatten().for_each(reset);
            drop(streams);
            count(|counts| counts.cut += 1);
        }
        End::Idle => {
            streams.iter().flatten().for_each(reset);
            drop(streams);
            count(|counts| counts.cut_idle += 1);
        }
        End::Ordered(Cut::Close) => {
            count(|counts| counts.cut += 1);
            let [client, peer] = streams;
            tokio::join!(close(client), close(peer));
        }
    }
}

/// The next drop sends RST.
fn reset(stream: &TcpStream) {
    // A socket that is broken already needs none.
    drop(stream.set_zero_linger());
}

/// FIN, and then whatever still comes is read: closing with something unread would be an RST.
async fn close(stream: Option<TcpStream>) {
    let Some(mut stream) = stream else { return };
    if stream.shutdown().await.is_ok() {
        drop(tokio::time::timeout(CLOSE_MAX, swallow(&mut stream)).await);
    }
}
