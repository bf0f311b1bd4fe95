//! The proxy does what it is told, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use std::io;
use std::net::Ipv4Addr;
use std::num::NonZeroU64;
use std::time::Duration;

use alys_stream_testkit::proxy::{Admission, Cut, Direction, Flow, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Longest time that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A peer, the proxy before it, and a connection through both.
struct Rig {
    listener: TcpListener,
    proxy: Proxy,
    client: TcpStream,
    peer: TcpStream,
}

impl Rig {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        Self { listener, proxy, client, peer }
    }

    /// One more connection through the proxy.
    async fn connect(&self) -> io::Result<(TcpStream, TcpStream)> {
        let client = TcpStream::connect(self.proxy.address()).await?;
        let (peer, _) = self.listener.accept().await?;
        Ok((client, peer))
    }
}

async fn in_time<F: Future>(work: F) -> F::Output {
    timeout(PATIENCE, work).await.expect("it does not hang")
}

async fn passes(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
    let mut read = vec![0; bytes.len()];
    in_time(to.read_exact(&mut read)).await.unwrap();
    assert_eq!(read, bytes);
}

/// How a connection ended, as its other side sees it.
async fn end(stream: &mut TcpStream) -> io::Result<usize> {
    let mut rest = Vec::new();
    in_time(stream.read_to_end(&mut rest)).await
}

#[tokio::test]
async fn bytes_pass_both_ways_and_are_counted() {
    let mut rig = Rig::start().await;
    passes(&mut rig.client, &mut rig.peer, b"ping").await;
    let large: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    passes(&mut rig.peer, &mut rig.client, &large).await;
    let counts = in_time(rig.proxy.until(|counts| counts.bytes_down == 100_000)).await;
    assert_eq!((counts.accepted, counts.live, counts.bytes_up), (1, 1, 4));
    rig.client.shutdown().await.unwrap();
    assert_eq!(end(&mut rig.peer).await.unwrap(), 0);
    // The other direction stays open until its own end.
    passes(&mut rig.peer, &mut rig.client, b"bye").await;
    drop(rig.peer);
    assert_eq!(end(&mut rig.client).await.unwrap(), 0);
    in_time(rig.proxy.until(|counts| counts.live == 0)).await;
}

#[tokio::test]
async fn what_is_held_passes_later() {
    let mut rig = Rig::start().await;
    rig.proxy.flow(Direction::Up, Flow::Hold).await;
    rig.client.write_all(b"held").await.unwrap();
    passes(&mut rig.peer, &mut rig.client, b"the other direction passes").await;
    assert_eq!(rig.proxy.counts().bytes_up, 0);
    rig.proxy.heal().await;
    let mut read = [0; 4];
    in_time(rig.peer.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"held");
}

#[tokio::test]
async fn what_is_discarded_never_passes_and_neither_does_the_end() {
    let mut rig = Rig::start().await;
    rig.proxy.flow(Direction::Up, Flow::Discard).await;
    // More than the kernel holds for a reader that does not read.
    in_time(rig.client.write_all(&vec![0; 32 * 1024 * 1024])).await.unwrap();
    passes(&mut rig.peer, &mut rig.client, b"the other direction passes").await;
    assert_eq!(rig.proxy.counts().bytes_up, 0);
    assert_eq!(rig.proxy.counts().live, 1);
}

#[tokio::test]
async fn a_throttled_direction_takes_its_time() {
    let mut rig = Rig::start().await;
    let rate = NonZeroU64::new(100).unwrap();
    rig.proxy.flow(Direction::Down, Flow::Throttle(rate)).await;
    let started = Instant::now();
    passes(&mut rig.peer, &mut rig.client, &[7; 50]).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(400), "{took:?}");
    passes(&mut rig.client, &mut rig.peer, &[8; 100_000]).await;
}

#[tokio::test]
async fn a_delayed_direction_keeps_its_order() {
    let mut rig = Rig::start().await;
    let delay = Duration::from_millis(200);
    rig.proxy.flow(Direction::Up, Flow::Delay(delay)).await;
    let started = Instant::now();
    for n in 0..50_u8 {
        rig.client.write_all(&[n]).await.unwrap();
    }
    let mut read = [0; 50];
    in_time(rig.peer.read_exact(&mut read)).await.unwrap();
    assert!(read.is_sorted(), "{read:?}");
    let took = started.elapsed();
    // Each is delayed, not one after the other.
    assert!(took >= delay && took < 10 * delay, "{took:?}");
}

#[tokio::test]
async fn a_bit_flips_in_every_so_many_bytes_of_each_connection() {
    let mut rig = Rig::start().await;
    rig.proxy.flow(Direction::Down, Flow::Flip(NonZeroU64::new(100).unwrap())).await;
    let sent: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    rig.peer.write_all(&sent).await.unwrap();
    let mut read = vec![0; sent.len()];
    in_time(rig.client.read_exact(&mut read)).await.unwrap();
    for (place, (sent, read)) in sent.iter().zip(&read).enumerate() {
        let flipped = (sent ^ read).count_ones();
        assert_eq!(flipped, u32::from(place % 100 == 99), "byte {place}");
    }
    passes(&mut rig.client, &mut rig.peer, b"the other direction passes").await;
    rig.proxy.heal().await;
    passes(&mut rig.peer, &mut rig.client, &sent).await;
}

#[tokio::test]
async fn a_truncated_connection_ends_behind_so_many_bytes() {
    let mut rig = Rig::start().await;
    passes(&mut rig.client, &mut rig.peer, b"before").await;
    rig.proxy.flow(Direction::Up, Flow::Truncate(NonZeroU64::new(1000).unwrap())).await;
    let (mut client, mut peer) = rig.connect().await.unwrap();
    for (client, peer) in [(&mut rig.client, &mut rig.peer), (&mut client, &mut peer)] {
        passes(client, peer, &[7; 990]).await;
        client.write_all(&[8; 10]).await.unwrap();
        assert_eq!(end(peer).await.unwrap(), 10);
        assert!(matches!(end(client).await, Ok(0) | Err(_)));
    }
    rig.proxy.heal().await;
    let (mut client, mut peer) = in_time(rig.connect()).await.unwrap();
    passes(&mut client, &mut peer, &[9; 10_000]).await;
}

#[tokio::test]
async fn nobody_listens_while_it_refuses_and_the_port_comes_back() {
    let mut rig = Rig::start().await;
    rig.proxy.admit(Admission::Refuse).await;
    let refused = rig.connect().await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    passes(&mut rig.client, &mut rig.peer, b"what is up stays up").await;
    rig.proxy.admit(Admission::Pass).await;
    let (mut client, mut peer) = in_time(rig.connect()).await.unwrap();
    passes(&mut client, &mut peer, b"again").await;
}

#[tokio::test]
async fn a_silent_one_accepts_and_never_answers() {
    let mut rig = Rig::start().await;
    rig.proxy.admit(Admission::Silent).await;
    let mut silent = in_time(TcpStream::connect(rig.proxy.address())).await.unwrap();
    in_time(silent.write_all(&vec![0; 32 * 1024 * 1024])).await.unwrap();
    in_time(rig.proxy.until(|counts| counts.live == 2)).await;
    rig.proxy.cut(Cut::Reset).await;
    assert_eq!(end(&mut silent).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reset_is_seen_as_one_on_both_sides() {
    let mut rig = Rig::start().await;
    passes(&mut rig.client, &mut rig.peer, b"up").await;
    rig.proxy.cut(Cut::Reset).await;
    for side in [&mut rig.client, &mut rig.peer] {
        assert_eq!(end(side).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
    assert_eq!((rig.proxy.counts().cut, rig.proxy.counts().live), (1, 0));
    let (mut client, mut peer) = in_time(rig.connect()).await.unwrap();
    passes(&mut client, &mut peer, b"later ones are not cut").await;
}

#[tokio::test]
async fn a_polite_close_is_no_error_on_either_side() {
    let mut rig = Rig::start().await;
    passes(&mut rig.peer, &mut rig.client, b"down").await;
    let Rig { proxy, client, peer, .. } = &mut rig;
    let ends = async {
        for side in [client, peer] {
            assert_eq!(end(side).await.unwrap(), 0);
            side.shutdown().await.unwrap();
        }
    };
    tokio::join!(in_time(proxy.cut(Cut::Close)), ends);
    assert_eq!(rig.proxy.counts().live, 0);
}

#[tokio::test]
async fn an_idle_connection_is_cut_and_a_busy_one_is_not() {
    let mut rig = Rig::start().await;
    let (mut busy_client, mut busy_peer) = rig.connect().await.unwrap();
    let limit = Duration::from_millis(300);
    rig.proxy.cut_idle_after(Some(limit)).await;
    let mut idle = rig.client;
    let mut ends = JoinSet::new();
    ends.spawn(async move { end(&mut idle).await.unwrap_err().kind() });
    let ended = loop {
        passes(&mut busy_client, &mut busy_peer, b".").await;
        if let Some(ended) = ends.try_join_next() {
            break ended.unwrap();
        }
    };
    assert_eq!(ended, io::ErrorKind::ConnectionReset);
    passes(&mut busy_client, &mut busy_peer, b"still there").await;
    assert_eq!((rig.proxy.counts().cut_idle, rig.proxy.counts().live), (1, 1));
}

#[tokio::test]
async fn nothing_outlives_the_proxy() {
    let Rig { proxy, mut client, mut peer, .. } = Rig::start().await;
    let address = proxy.address();
    drop(proxy);
    assert!(matches!(end(&mut client).await, Ok(0) | Err(_)));
    assert!(matches!(end(&mut peer).await, Ok(0) | Err(_)));
    assert!(TcpStream::connect(address).await.is_err());
}
