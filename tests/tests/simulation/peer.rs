//! A simulated governance node: TLS, HTTP/2, gRPC and the session of the product, with its books in
//! memory. Its process can be away while its machine is there, and its books stay.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_protocol::message::LogId;
use alys_stream_protocol::session::Frame;
use alys_stream_protocol::time::WallClock as _;
use alys_stream_transport::exchange::Exchange as _;
use alys_stream_transport::health::HeartbeatConfig;
use alys_stream_transport::session::credential::SessionAuth;
use alys_stream_transport::session::driver::{self, FRAMES_OUT_MAX, SessionParts};
use alys_stream_transport::session::features::{self, Features};
use alys_stream_transport::session::handshake::{
    Acceptance, Limits, accepted_terms, read_hello, welcome,
};
use alys_stream_transport::session::{Session, SessionConfig};
use alys_stream_transport::tls;
use futures::StreamExt as _;
use rustls::ServerConfig;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Status, Streaming};
use turmoil::net::{TcpListener, TcpStream};

use super::network::{Holding, SimClock, elapsed};
use super::service::{GovernanceService, SessionService};
use super::shelf::Shelf;
use super::wire::Wire;

/// As the governance node of the product has them by default.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// How often something is pushed to every node.
const PUSH: Duration = Duration::from_millis(500);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A simulated governance node, as the test sees it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: String,
    port: u16,
    tls: Arc<ServerConfig>,
    /// Whether its process runs.
    up: watch::Sender<bool>,
    /// Whether it takes what comes and stores none of it.
    stuck: watch::Sender<bool>,
    shelves: Mutex<BTreeMap<LogId, Arc<Shelf>>>,
    /// When connections were accepted.
    accepted: Mutex<Vec<Duration>>,
    /// What its machine holds, as of the last look.
    holding: Mutex<Holding>,
    /// Pushes so many messages to every node.
    pushes: u64,
}

impl Peer {
    pub(crate) fn new(name: &str, port: u16, tls: Arc<ServerConfig>, pushes: u64) -> Arc<Self> {
        let (up, stuck) = (watch::Sender::new(true), watch::Sender::new(false));
        let (shelves, accepted, holding) = Default::default();
        let name = name.to_owned();
        Arc::new(Self { name, port, tls, up, stuck, shelves, accepted, holding, pushes })
    }

    /// Ends its process, or starts it again.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }

    /// Stops storing, while heartbeats go on; or goes on.
    pub(crate) fn set_stuck(&self, stuck: bool) {
        self.stuck.send_replace(stuck);
    }

    /// When connections were accepted.
    pub(crate) fn accepted(&self) -> Vec<Duration> {
        lock(&self.accepted).clone()
    }

    /// What its machine holds.
    pub(crate) fn holding(&self) -> Holding {
        *lock(&self.holding)
    }

    /// What it keeps of the node with this log.
    pub(crate) fn shelf(&self, log: LogId) -> Arc<Shelf> {
        let mut own = *log.as_bytes();
        for (byte, of_name) in own.iter_mut().zip(self.name.bytes().rev()) {
            *byte ^= of_name;
        }
        let mut shelves = lock(&self.shelves);
        Arc::clone(
            shelves
                .entry(log)
                .or_insert_with(|| Shelf::new(LogId::new(own), self.stuck.subscribe())),
        )
    }

    /// Its software: a process whenever there is to be one.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let mut up = self.up.subscribe();
        loop {
            // Asking again after a look is safe: only the present value counts.
            if up.wait_for(|up| *up).await.is_err() {
                return Ok(());
            }
            let gone = CancellationToken::new();
            tokio::select! {
                biased;
                _ = up.wait_for(|up| !*up) => {}
                () = self.serve(&gone) => {}
            }
            gone.cancel();
        }
    }

    async fn serve(self: &Arc<Self>, gone: &CancellationToken) {
        let address = (IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.port);
        let listener = TcpListener::bind(address).await.expect("the port is free");
        let (connections, incoming) = mpsc::channel(16);
        let sessions = Arc::new(Sessions { peer: Arc::clone(self), tasks: Mutex::default() });
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE.0))
            .http2_keepalive_timeout(Some(KEEPALIVE.1))
            .add_service(GovernanceService)
            .add_service(SessionService(Arc::clone(&sessions)))
            .serve_with_incoming(ReceiverStream::new(incoming).map(Ok::<Wire, Infallible>));
        let accepting = async {
            let mut handshakes = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                lock(&self.accepted).push(elapsed());
                while handshakes.try_join_next().is_some() {}
                handshakes.spawn(receive(
                    Arc::clone(&self.tls),
                    stream,
                    gone.clone(),
                    connections.clone(),
                ));
            }
        };
        tokio::select! {
            ended = server => panic!("the server ended: {ended:?}"),
            () = accepting => {}
            () = self.push() => {}
        }
    }

    /// Pushes to every node that it knows.
    async fn push(&self) {
        let mut ticks = tokio::time::interval(PUSH);
        loop {
            ticks.tick().await;
            *lock(&self.holding) = Holding::of_this_machine();
            for shelf in lock(&self.shelves).values() {
                if shelf.pushes().1 < self.pushes {
                    shelf.push();
                }
            }
        }
    }
}

/// Brings one connection as far as the gRPC server.
async fn receive(
    tls: Arc<ServerConfig>,
    stream: TcpStream,
    gone: CancellationToken,
    connections: mpsc::Sender<Wire>,
) {
    let shaken = tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(tls).accept(stream)).await;
    if let Ok(Ok(stream)) = shaken {
        tls::check_alpn(stream.get_ref().1.alpn_protocol()).expect("nodes speak HTTP/2");
        // A server that has ended takes no more.
        drop(connections.send(Wire::new(stream, gone)).await);
    }
}

/// The sessions of one process of a governance node.
#[derive(Debug)]
pub(crate) struct Sessions {
    peer: Arc<Peer>,
    tasks: Mutex<JoinSet<()>>,
}

impl Sessions {
    /// Runs a session to its end, beside the stream that carries it.
    pub(crate) fn open(&self, frames: Streaming<Frame>) -> mpsc::Receiver<Frame> {
        let (frames_out, outgoing) = mpsc::channel(FRAMES_OUT_MAX);
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(converse(Arc::clone(&self.peer), frames, frames_out));
        outgoing
    }
}

async fn converse(peer: Arc<Peer>, mut frames: Streaming<Frame>, frames_out: mpsc::Sender<Frame>) {
    // A connection that breaks here was none.
    let first: Result<Option<Frame>, Status> = frames.message().await;
    let Ok(Some(first)) = first else { return };
    let hello = read_hello(first).expect("the first frame is a hello");
    let sitting = Arc::new(peer.shelf(hello.log_id).open());
    let acceptance = Acceptance {
        session_id: format!("{} of {}", hello.node_id, peer.name),
        peer_id: peer.name.clone(),
        local: sitting.local(),
        cursor: sitting.receive_cursor(hello.log_id),
        limits: Limits::default(),
        heartbeat_interval: HEARTBEAT,
        features: features::chosen(&hello.features, Features::ALL),
        server_time: SimClock.now(),
        software: "simulation/1".into(),
    };
    let terms = accepted_terms(&hello, &acceptance);
    sitting.established(&hello.peer_log(sitting.local().log_id)).expect("it refuses nobody");
    if frames_out.send(welcome(&acceptance)).await.is_err() {
        return sitting.lost();
    }
    let heartbeat = HeartbeatConfig { interval: HEARTBEAT, ..HeartbeatConfig::default() };
    let config = SessionConfig { heartbeat, ..SessionConfig::default() };
    let (_orders, controls) = mpsc::channel(1);
    let parts = SessionParts {
        session: Session::new(Instant::now().into_std(), terms, config),
        exchange: sitting,
        observer: Arc::new(driver::Unobserved),
        clock: Arc::new(SimClock),
        auth: SessionAuth::none(),
        controls,
        shutdown: CancellationToken::new(),
        drain: Duration::from_secs(1),
    };
    driver::run(parts, frames, frames_out).await;
}
