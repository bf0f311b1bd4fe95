//! What strangers and peers may take of the server: each bound over real sockets.

use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use alys_stream_governance::{GovernanceNode, Running};
use alys_stream_protocol::governance::{HealthRequest, HealthResponse};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::client::{connect, open_plain, open_session, unary};
use crate::requests::{heartbeat, registration};
use crate::tls::{metric, tls_connect, until_metric};
use crate::world::{LONG, World, stop};

/// How long something is watched that must not happen.
const NOT_YET: Duration = Duration::from_millis(300);

async fn start(world: &World, limits: &str) -> Running {
    let mut config = world.config();
    config.limits = serde_yaml::from_str(limits).unwrap();
    GovernanceNode::start(config).await.unwrap()
}

/// Waits for the other side to close, whichever way.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    drop(tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.expect("it is closed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_trickles_is_cut_at_its_deadline() {
    let world = World::new();
    let running = start(&world, "handshake_timeout: 300ms").await;
    let (mut read, mut write) =
        TcpStream::connect(running.local_addr()).await.unwrap().into_split();
    // A record of 512 bytes that never gets complete, though something comes all the time.
    write.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let mut byte = [0];
    let ended = async {
        loop {
            tokio::select! {
                _ = ticks.tick() => if write.write_all(&[7]).await.is_err() {
                    return;
                },
                read = read.read(&mut byte) => if matches!(read, Ok(0) | Err(_)) {
                    return;
                },
            }
        }
    };
    tokio::time::timeout(LONG, ended).await.expect("it is cut");
    until_metric(running.admin_addr(), "refused_connections_total{reason=\"timeout\"}", 1).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_handshakes_than_allowed_wait_their_turn() {
    let world = World::new();
    let running = start(&world, "{ handshakes_max: 2, handshake_timeout: 1m }").await;
    let (address, admin) = (running.local_addr(), running.admin_addr());
    let first = TcpStream::connect(address).await.unwrap();
    let second = TcpStream::connect(address).await.unwrap();
    until_metric(admin, "pending_handshakes", 2).await;
    let third = tls_connect(address, world.client_tls(&world.authority));
    tokio::pin!(third);
    assert!(tokio::time::timeout(NOT_YET, &mut third).await.is_err(), "two are under way");
    assert_eq!(metric(admin, "pending_handshakes").await, 2);
    drop(first);
    tokio::time::timeout(LONG, third).await.expect("its turn").unwrap();
    drop(second);
    until_metric(admin, "pending_handshakes", 0).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_six_silent_strangers_hold_nobody_up_for_long() {
    let world = World::new();
    let running = start(&world, "handshake_timeout: 500ms").await;
    let (address, admin) = (running.local_addr(), running.admin_addr());
    assert_eq!(metric(admin, "limit{limit=\"handshakes\"}").await, 256);
    let mut silent = Vec::new();
    for _ in 0..256 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let good = tls_connect(address, world.client_tls(&world.authority));
    tokio::time::timeout(LONG, good).await.expect("its turn").unwrap();
    until_metric(admin, "refused_connections_total{reason=\"timeout\"}", 256).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_begins_to_speak_is_let_go() {
    let world = World::new();
    let running = start(&world, "handshake_timeout: 300ms").await;
    let stream =
        tls_connect(running.local_addr(), world.client_tls(&world.authority)).await.unwrap();
    closed(stream).await;
    until_metric(running.admin_addr(), "connections", 0).await;
    assert_eq!(metric(running.admin_addr(), "cut_connections_total{reason=\"silent\"}").await, 1);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_too_many_is_closed_at_once() {
    let world = World::new();
    let running = start(&world, "connections_max: 1").await;
    let (address, admin) = (running.local_addr(), running.admin_addr());
    let tls = world.client_tls(&world.authority);
    let mut first = open_plain(&connect(address, tls.clone()).await.unwrap()).await;
    first.ask(registration()).await;
    closed(TcpStream::connect(address).await.unwrap()).await;
    assert_eq!(metric(admin, "refused_connections_total{reason=\"full\"}").await, 1);
    first.ask(heartbeat(1)).await;
    drop(first);
    until_metric(admin, "connections", 0).await;
    tls_connect(address, tls).await.unwrap();
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_too_many_waits_for_another_to_end() {
    let world = World::new();
    let running = start(&world, "streams_max: 2").await;
    let tls = world.client_tls(&world.authority);
    let channel = connect(running.local_addr(), tls).await.unwrap();
    let (mut first, mut second) = (open_plain(&channel).await, open_plain(&channel).await);
    first.ask(registration()).await;
    second.ask(registration()).await;
    let third = open_plain(&channel);
    tokio::pin!(third);
    assert!(tokio::time::timeout(NOT_YET, &mut third).await.is_err(), "two are open");
    drop(second);
    let mut third = tokio::time::timeout(LONG, third).await.expect("its turn");
    third.ask(registration()).await;
    first.ask(heartbeat(1)).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_beyond_the_limit_are_refused() {
    let world = World::new();
    let running = start(&world, "{}").await;
    let tls = world.client_tls(&world.authority);
    let channel = connect(running.local_addr(), tls).await.unwrap();
    let health = async |header: String| -> Result<(), Status> {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let codec = ProstCodec::<HealthRequest, HealthResponse>::default();
        let mut request = Request::new(HealthRequest::default());
        request.metadata_mut().insert("x-long", MetadataValue::try_from(header).unwrap());
        let path = PathAndQuery::from_static("/governance.v1.GovernanceStream/Health");
        grpc.unary(request, path, codec).await.map(drop)
    };
    health("x".repeat(12 * 1024)).await.unwrap();
    health("x".repeat(20 * 1024)).await.unwrap_err();
    let health: Result<HealthResponse, _> =
        unary(&channel, "/governance.v1.GovernanceStream/Health", HealthRequest::default()).await;
    health.expect("the connection is well");
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_has_an_end_whatever_the_clients_do() {
    let world = World::new();
    let running = start(&world, "handshake_timeout: 5m").await;
    let address = running.local_addr();
    let tls = world.client_tls(&world.authority);
    // One never speaks, one never introduces itself, one asks and never reads the answers.
    let _silent = tls_connect(address, tls.clone()).await.unwrap();
    let channel = connect(address, tls.clone()).await.unwrap();
    let _nameless = open_session(&channel).await;
    let channel = connect(address, tls).await.unwrap();
    let mut deaf = open_plain(&channel).await;
    deaf.ask(registration()).await;
    let full = async {
        for sequence in 1.. {
            let sent = deaf.requests.send(heartbeat(sequence));
            if tokio::time::timeout(NOT_YET, sent).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, full).await.expect("flow control stops it");
    let (begun, drain) = (tokio::time::Instant::now(), Duration::from_millis(500));
    tokio::time::timeout(LONG, running.shutdown(drain)).await.expect("the drain has a deadline");
    let took = begun.elapsed();
    // Streams have the drain, connections 2 s after it.
    assert!(took >= drain && took < Duration::from_secs(15), "{took:?}");
    TcpStream::connect(address).await.expect_err("nobody listens");
}

/// Set in the process that has few descriptors.
const FEW: &str = "ALYS_STREAM_TEST_FEW_DESCRIPTORS";

/// Runs itself again under a low limit of open files.
#[test]
fn without_descriptors_it_pauses_and_goes_on() {
    if std::env::var_os(FEW).is_some() {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(runs_out_of_descriptors());
        return;
    }
    let name = "limits::without_descriptors_it_pauses_and_goes_on";
    let child = Command::new("sh")
        .args(["-c", "ulimit -n 100 && exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().unwrap())
        .arg(name)
        .env(FEW, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && !child.stdout.is_empty(), "{text}");
}

/// Takes every descriptor of the process, also those that others give back, until it is told to
/// stop. Says when the first attempt failed.
fn hoard(stop: &AtomicBool, is_full: &mpsc::Sender<()>) {
    let mut held: Vec<File> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
                is_full.send(()).unwrap();
                std::thread::yield_now();
            }
        }
    }
}

async fn runs_out_of_descriptors() {
    let world = World::new();
    let running = world.start().await;
    let tls = TlsConnector::from(world.client_tls(&world.authority));
    // The client has its descriptor already; the server has none.
    let socket = TcpSocket::new_v4().unwrap();
    let (stop, (is_full, full)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
    let hoarder = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || hoard(&stop, &is_full))
    };
    full.recv().unwrap();
    let address = running.local_addr();
    let client = async move {
        let tcp = socket.connect(address).await?;
        tls.connect(ServerName::try_from("localhost").unwrap(), tcp).await
    };
    tokio::pin!(client);
    let early = tokio::time::timeout(Duration::from_secs(1), &mut client).await;
    stop.store(true, Ordering::Relaxed);
    hoarder.join().unwrap();
    match early {
        // It found a descriptor that something else gave back.
        Ok(stream) => drop(stream.unwrap()),
        Err(_) => {
            let late = tokio::time::timeout(LONG, client).await;
            drop(late.expect("it goes on").unwrap());
        }
    }
    // A pause is 200 ms: a spin would count thousands.
    let pauses = metric(running.admin_addr(), "accept_pauses_total").await;
    assert!((1..=20).contains(&pauses), "{pauses}");
    crate::world::stop(running).await;
}
