//! Sessions over a link that takes its time: real sockets, through a relay that passes on as many
//! bytes as it is told to.

use alys_stream_protocol::message::Priority;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, watch};

use super::*;

/// What the relay reads at once.
const STEP: usize = 16 * 1024;

/// A relay in front of a peer.
struct Relay {
    address: SocketAddr,
    /// Bytes towards the peer that it may pass on.
    allowed: Arc<Semaphore>,
    passed: watch::Receiver<usize>,
}

impl Relay {
    /// Accepts one connection.
    async fn start(tasks: &mut JoinSet<()>, peer: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let allowed = Arc::new(Semaphore::new(0));
        let (count, passed) = watch::channel(0);
        let permits = Arc::clone(&allowed);
        tasks.spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(peer).await.unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::join!(pass(near_in, far_out, permits, count), back(far_in, near_out));
        });
        Self { address, allowed, passed }
    }

    /// Lets so many bytes more pass, and waits until they have.
    async fn let_pass(&mut self, bytes: usize) {
        let before = *self.passed.borrow();
        self.allowed.add_permits(bytes);
        // The rest is less than what is read at once.
        let until = before + bytes.saturating_sub(STEP);
        self.passed.wait_for(|passed| *passed >= until).await.unwrap();
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    allowed: Arc<Semaphore>,
    count: watch::Sender<usize>,
) {
    let mut bytes = vec![0; STEP];
    while let Ok(read) = from.read(&mut bytes).await
        && read > 0
    {
        let permits = allowed.acquire_many(u32::try_from(read).unwrap()).await.unwrap();
        permits.forget();
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
        count.send_modify(|passed| *passed += read);
    }
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    drop(tokio::io::copy(&mut from, &mut to).await);
}

/// What is ahead of a critical message is what the two systems and HTTP/2 hold on the way, and not
/// the long messages behind that.
#[tokio::test]
async fn long_messages_over_a_slow_link_do_not_stand_before_a_critical_one() {
    const LONG: usize = 4_000_000;
    const CRITICAL: u64 = 9;
    let (mut tasks, far) = (JoinSet::new(), Memory::with(0, 0));
    let shutdown = CancellationToken::new();
    let peer = Peer { sessions: true, exchange: Arc::clone(&far), shutdown };
    let address = serve(&mut tasks, peer).await;
    let mut relay = Relay::start(&mut tasks, address).await;
    relay.allowed.add_permits(STEP);
    let mut drivers = JoinSet::new();
    let driven = drive(&mut drivers, plaintext(relay.address), None, Memory::with(0, 0));
    wait_for(&driven.handle, |status| status.state == StateKind::Healthy).await;

    for seq in 1..=4 {
        driven.exchange.push(Priority::Low, seq, LONG);
    }
    relay.let_pass(LONG / 4).await;
    driven.exchange.push(Priority::Critical, CRITICAL, 256);
    let begun = *relay.passed.borrow();
    let received = |seq| crate::lock(&far.received).contains(&seq);
    while !received(CRITICAL) {
        relay.let_pass(4 * STEP).await;
    }
    let ahead = *relay.passed.borrow() - begun;
    assert!(ahead < 2 * LONG, "{ahead} bytes were ahead of it");
    assert!(!received(3) && !received(4), "{ahead} bytes were ahead of it");

    relay.allowed.add_permits(8 * LONG);
    until(&driven.exchange, |side| crate::lock(&side.acked).len() == 5).await;
    let status = driven.handle.status().borrow().clone();
    assert_eq!((status.attempts, status.last_error), (1, None), "slow is not broken");
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
}
