//! Plain `governance.v1` streams over real sockets: what this wire cannot carry, and GOAWAY.

use alys_stream_protocol::message::Priority;

use super::*;
use crate::exchange::NackOrigin;
use crate::reconnect::BreakerState;

fn peer(exchange: &Arc<Memory>) -> Peer {
    let shutdown = CancellationToken::new();
    Peer { sessions: false, exchange: Arc::clone(exchange), shutdown }
}

fn pegins(numbers: std::ops::RangeInclusive<u64>) -> Arc<Memory> {
    Arc::new(Memory {
        queue: std::sync::Mutex::new(numbers.collect()),
        kind: Some(MessageKind::PEGIN_NOTIFICATION),
        ..Memory::default()
    })
}

/// What an application sends cannot be said on this wire: each is given back, none stands before
/// what can be said, and nothing of it is held against the peer.
#[tokio::test]
async fn messages_of_applications_are_given_back_and_the_others_pass() {
    let (mut tasks, far) = (JoinSet::new(), Memory::with(0, 0));
    let address = serve(&mut tasks, peer(&far)).await;
    let near = pegins(1..=100);
    for seq in 1_001..=1_400 {
        near.push(Priority::Normal, seq, 64);
    }
    let mut drivers = JoinSet::new();
    let driven = drive(&mut drivers, plaintext(address), None, near);
    until(&driven.exchange, |side| crate::lock(&side.nacks).len() == 400).await;
    until(&driven.exchange, |side| crate::lock(&side.acked).len() == 100).await;
    let is_local = |nack: &crate::exchange::Nack| nack.origin == NackOrigin::Local;
    assert!(crate::lock(&driven.exchange.nacks).iter().all(is_local));
    assert_eq!(crate::lock(&far.received).len(), 100);
    let status = wait_for(&driven.handle, |status| status.state == StateKind::Healthy).await;
    assert_eq!(
        (status.breaker, status.attempts, status.last_error),
        (BreakerState::Closed, 1, None)
    );
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
}

/// Serves until told to go, then says GOAWAY and accepts nothing more.
fn serve_until(
    tasks: &mut JoinSet<()>,
    peer: Peer,
    listener: std::net::TcpListener,
    go: CancellationToken,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tasks.spawn(async move {
        tonic::transport::Server::builder()
            .add_service(GovernanceService(peer))
            .serve_with_incoming_shutdown(incoming, go.cancelled_owned())
            .await
            .unwrap();
    });
}

#[tokio::test]
async fn a_goaway_moves_a_plain_stream_at_once_and_loses_nothing() {
    let (mut tasks, far) = (JoinSet::new(), Memory::with(0, 0));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let again = listener.try_clone().unwrap();
    let go = CancellationToken::new();
    serve_until(&mut tasks, peer(&far), listener, go.clone());
    let mut drivers = JoinSet::new();
    let driven = drive(&mut drivers, plaintext(address), None, pegins(1..=100));
    until(&driven.exchange, |side| crate::lock(&side.acked).len() == 100).await;

    go.cancel();
    // What is accepted while it drains waits for the next connection.
    wait_for(&driven.handle, |status| status.last_error.is_some()).await;
    crate::lock(&driven.exchange.queue).extend(101..=200);
    serve_until(&mut tasks, peer(&far), again, CancellationToken::new());
    driven.exchange.notify.notify_one();
    until(&driven.exchange, |side| crate::lock(&side.acked).len() == 200).await;
    let status = wait_for(&driven.handle, |status| status.state == StateKind::Healthy).await;
    assert!(status.last_error.is_some_and(|error| error.contains("GOAWAY")));
    let first = status.history.iter().find(|change| change.new == StateKind::Critical).unwrap();
    assert!(first.why.contains("GOAWAY"), "{}", first.why);
    assert_eq!(crate::lock(&far.received).len(), 200, "nothing was sent again");
    driven.shutdown.cancel();
    drivers.join_next().await.unwrap().unwrap();
}
