//! The dial against real sockets on this machine: peers that refuse, swallow and say nothing.

use std::net::Ipv4Addr;

use socket2::{Domain, Socket, Type};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::endpoint::{EndpointConfig, Insecure};

fn endpoint(url: &str) -> EndpointConfig {
    let insecure = Some(Insecure::Plaintext);
    EndpointConfig { insecure, ..EndpointConfig::new("one", url.parse().unwrap()) }
}

fn dialing(config: &EndpointConfig, per_address: Duration) -> Dialing<'_> {
    let keepalive = KeepaliveConfig::default();
    let in_all = Duration::from_secs(20);
    Dialing { config, network: &Sockets, tls: None, keepalive, per_address, in_all }
}

/// Somewhere nobody listens.
async fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Somewhere that swallows connections: its queue of one is full, and the system drops what comes.
/// Lives as long as what is returned with it.
async fn black_hole() -> (SocketAddr, Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut filling = Vec::new();
    let enough = Duration::from_millis(50);
    while let Ok(Ok(stream)) = tokio::time::timeout(enough, TcpStream::connect(address)).await {
        filling.push(stream);
        assert!(filling.len() < 16, "the queue of a socket that accepts nothing fills up");
    }
    (address, socket, filling)
}

/// Somewhere that accepts connections and reads them to their end.
async fn listening(tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let mut reading = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            reading.spawn(async move {
                let mut heard = [0; 1024];
                while socket.read(&mut heard).await.is_ok_and(|bytes| bytes > 0) {}
            });
        }
    });
    address
}

#[tokio::test]
async fn an_address_that_swallows_connections_costs_a_quarter_of_a_second() {
    let mut tasks = JoinSet::new();
    let (hole, _socket, _filling) = black_hole().await;
    let good = listening(&mut tasks).await;
    let config = endpoint("http://127.0.0.1:1");
    let begun = tokio::time::Instant::now();
    let limit = Duration::from_secs(10);
    let dialed =
        run(dialing(&config, limit), &[hole, hole, good], Duration::from_secs(20)).await.unwrap();
    assert_eq!(dialed.address, good);
    let took = begun.elapsed();
    assert!(took >= 2 * race::STAGGER, "each has its head start: {took:?}");
    assert!(took < limit, "and no more: {took:?}");
}

#[tokio::test]
async fn an_address_that_refuses_costs_nothing() {
    let mut tasks = JoinSet::new();
    let (refusing, good) = (closed().await, listening(&mut tasks).await);
    let config = endpoint("http://127.0.0.1:1");
    // The next one starts at once, so the head start is never waited for.
    let dialing = dialing(&config, Duration::from_secs(10));
    let mut race = Race::new(now(), &[refusing, good]);
    assert_eq!(race.poll_start(now()), Some(refusing));
    race.handle_failed(now());
    assert_eq!(race.poll_start(now()), Some(good));
    let dialed = run(dialing, &[refusing, good], Duration::from_secs(20)).await.unwrap();
    assert_eq!(dialed.address, good);
}

#[tokio::test]
async fn every_address_is_tried_before_the_attempt_fails() {
    let (one, two) = (closed().await, closed().await);
    let config = endpoint("http://127.0.0.1:1");
    let error = run(dialing(&config, Duration::from_secs(5)), &[one, two], Duration::from_secs(20))
        .await
        .unwrap_err();
    assert_eq!((error.step, error.cause), (Step::Connect, LinkCause::Refused));
}

#[tokio::test]
async fn another_machine_is_not_dialled_without_tls() {
    // An address of documentation: nothing leaves this machine, whatever the outcome.
    let config = endpoint("http://192.0.2.1:1");
    let error = dial(dialing(&config, Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(error.step, Step::Resolve);
    assert!(error.to_string().contains("192.0.2.1 is another machine"), "{error}");
}

#[tokio::test]
async fn a_black_hole_is_given_up_at_the_limit_of_its_address() {
    let (hole, _socket, _filling) = black_hole().await;
    let config = endpoint(&format!("http://{hole}"));
    let limit = Duration::from_millis(300);
    let begun = tokio::time::Instant::now();
    let error = dial(dialing(&config, limit)).await.unwrap_err();
    assert_eq!((error.step, error.address), (Step::Connect, Some(hole)));
    assert!(matches!(error.cause, LinkCause::TimedOut(_)), "{error}");
    assert!(begun.elapsed() >= limit);
}

#[tokio::test]
async fn a_peer_that_accepts_and_says_nothing_is_given_up_in_its_tls_handshake() {
    let mut tasks = JoinSet::new();
    let mute = listening(&mut tasks).await;
    let authority = crate::tls::tests::Authority::new("Test CA");
    let authorities = [authority.as_pem()];
    let tls = crate::tls::client_config(crate::tls::Authorities::Private(&authorities), None);
    let tls = Secured::Fixed(tls.unwrap());
    let config = EndpointConfig::new("one", format!("https://{mute}").parse().unwrap());
    let limit = Duration::from_millis(300);
    let dialing = Dialing { tls: Some(&tls), ..dialing(&config, limit) };
    let error = dial(dialing).await.unwrap_err();
    assert_eq!((error.step, error.address), (Step::Tls, Some(mute)));
    assert!(matches!(error.cause, LinkCause::TimedOut(_)), "{error}");
}

#[tokio::test]
async fn all_addresses_together_have_a_limit() {
    let (hole, _socket, _filling) = black_hole().await;
    let config = endpoint(&format!("http://{hole}"));
    let limit = Duration::from_millis(300);
    let in_all = Dialing { in_all: limit, ..dialing(&config, Duration::from_secs(60)) };
    let error = run(in_all, &[hole; 5], limit).await.unwrap_err();
    assert!(matches!(error.cause, LinkCause::TimedOut(_)), "{error}");
}
