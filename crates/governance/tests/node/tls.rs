//! TLS of the server over real sockets: who is refused, and what a reload does to whom.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_governance::{GovernanceConfig, GovernanceNode, Running};
use alys_stream_protocol::governance::stream_response::Payload;
use alys_stream_transport::tls::{
    self, Authorities, Pem, ReloadConfig, TlsFault, check_alpn, peer_identity,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::admin::{get, http};
use crate::client::{connect, open_plain};
use crate::requests::{heartbeat, registration};
use crate::world::{Authority, LONG, NODE_ID, World, stop};

/// The value of one line of the metrics; 0 when it is not there.
pub(crate) async fn metric(admin: SocketAddr, name: &str) -> u64 {
    let text = http(admin, "GET", "/metrics", "").await.1;
    let line = text.lines().find_map(|line| {
        line.strip_prefix("alys_stream_governance_")?.strip_prefix(name)?.strip_prefix(' ')
    });
    line.map_or(0, |value| value.parse().unwrap())
}

/// Waits until a metric has a value.
pub(crate) async fn until_metric(admin: SocketAddr, name: &str, expected: u64) {
    let reached = async { while metric(admin, name).await != expected {} };
    tokio::time::timeout(LONG, reached).await.unwrap_or_else(|_| panic!("{name} is {expected}"));
}

pub(crate) async fn tls_connect(
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(tls).connect(ServerName::try_from("localhost").unwrap(), tcp).await
}

/// What a client meets that does not get in: TLS 1.3 tells it after its own handshake.
async fn refusal(address: SocketAddr, tls: Arc<rustls::ClientConfig>) -> TlsFault {
    let refused = async {
        let mut stream = tls_connect(address, tls).await?;
        stream.read_u8().await
    };
    let error = tokio::time::timeout(LONG, refused).await.unwrap().unwrap_err();
    TlsFault::from_io(&error).unwrap_or_else(|| panic!("{error:?}"))
}

/// Fast reload, and a revocation list.
fn reloading(world: &World) -> GovernanceConfig {
    world.write("crl", &world.authority.revoke(&[]));
    let mut config = world.config();
    let tls = config.tls.as_mut().unwrap();
    tls.crls.files = vec![world.path("crl")];
    tls.reload =
        ReloadConfig { poll: Duration::from_millis(20), debounce: Duration::from_millis(20) };
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_without_a_good_certificate_are_refused_and_counted() {
    let world = World::new();
    let config = reloading(&world);
    world.write("crl", &world.authority.revoke(&[7]));
    let running = GovernanceNode::start(config).await.unwrap();
    let (address, admin) = (running.local_addr(), running.admin_addr());
    let refused = |word| format!("refused_connections_total{{reason=\"{word}\"}}");

    let ca = world.authority.pem();
    let ca = [Pem { label: "ca.crt", bytes: ca.as_bytes() }];
    let anonymous = tls::client_config(Authorities::Private(&ca), None).unwrap();
    assert_eq!(refusal(address, anonymous).await, TlsFault::ClientCertificateMissing);
    until_metric(admin, &refused("client_certificate_missing"), 1).await;

    let stranger = world.client_tls(&Authority::new());
    let fault = refusal(address, stranger).await;
    assert!(matches!(fault, TlsFault::ClientCertificateRefused(_)), "{fault}");
    until_metric(admin, &refused("unknown_authority"), 1).await;

    let revoked = world.client_tls_of(world.authority.issue_as(NODE_ID, Some(7)));
    let fault = refusal(address, revoked).await;
    assert_eq!(fault, TlsFault::ClientCertificateRefused("CertificateRevoked".into()));
    until_metric(admin, &refused("revoked"), 1).await;

    let mut old = (*world.client_tls(&world.authority)).clone();
    old.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert_eq!(refusal(address, Arc::new(old)).await, TlsFault::NoHttp2);
    until_metric(admin, &refused("alpn"), 1).await;

    let good = tls_connect(address, world.client_tls(&world.authority)).await.unwrap();
    check_alpn(good.get_ref().1.alpn_protocol()).unwrap();
    until_metric(admin, "accepted_connections_total", 1).await;
    assert!(
        metric(admin, "certificate_expiry_timestamp_seconds{certificate=\"client\"}").await > 0
    );
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_1_2_client_is_refused_with_an_alert() {
    let world = World::new();
    let running = world.start().await;
    let mut stream = TcpStream::connect(running.local_addr()).await.unwrap();
    // ClientHello of TLS 1.2: one cipher suite, groups, signatures, and no supported_versions.
    let mut hello = vec![3, 3];
    hello.extend([9; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    hello.extend([0, 18, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 6, 0, 4, 0, 29, 0, 23]);
    let length = u8::try_from(hello.len()).unwrap();
    let record = [&[22, 3, 1, 0, length + 4, 1, 0, 0, length], &hello[..]].concat();
    stream.write_all(&record).await.unwrap();
    let mut alert = [0; 7];
    tokio::time::timeout(LONG, stream.read_exact(&mut alert)).await.unwrap().unwrap();
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70), "fatal alert: protocol_version");
    let refused = "refused_connections_total{reason=\"version\"}";
    until_metric(running.admin_addr(), refused, 1).await;
    stop(running).await;
}

/// A node that asks again and again on one stream, and how many answers it has.
struct Busy {
    answers: watch::Receiver<u64>,
    task: JoinSet<()>,
}

impl Busy {
    async fn start(address: SocketAddr, tls: Arc<rustls::ClientConfig>) -> Self {
        let mut stream = open_plain(&connect(address, tls).await.unwrap()).await;
        stream.ask(registration()).await;
        let (count, answers) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn(async move {
            for sequence in 1.. {
                if stream.requests.send(heartbeat(sequence)).await.is_err() {
                    return;
                }
                let Ok(Some(answer)) = stream.responses.message().await else { return };
                assert!(matches!(answer.payload, Some(Payload::HeartbeatAck(_))));
                count.send_replace(sequence);
            }
        });
        Self { answers, task }
    }

    /// Waits for so many more answers on the same stream.
    async fn goes_on(&mut self, more: u64) {
        let until = *self.answers.borrow() + more;
        let reached = self.answers.wait_for(|answers| *answers >= until);
        tokio::time::timeout(LONG, reached).await.unwrap().expect("the stream lives");
    }

    async fn ends(&mut self) {
        tokio::time::timeout(LONG, self.task.join_next()).await.unwrap().unwrap().unwrap();
    }
}

async fn until_generation(running: &Running, generation: u64) {
    until_metric(running.admin_addr(), "tls_generation", generation).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_changes_new_connections_and_cuts_the_revoked_alone() {
    let world = World::new();
    let running = GovernanceNode::start(reloading(&world)).await.unwrap();
    let (address, admin) = (running.local_addr(), running.admin_addr());
    let (kept, revoked) = (
        world.client_tls_of(world.authority.issue_as(NODE_ID, Some(100))),
        world.client_tls_of(world.authority.issue_as("alys-2", Some(101))),
    );
    let mut good = Busy::start(address, Arc::clone(&kept)).await;
    let mut bad = Busy::start(address, Arc::clone(&revoked)).await;
    let server_name = async || {
        let stream = tls_connect(address, Arc::clone(&kept)).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap().to_vec();
        peer_identity(&chain[0]).unwrap().common_name.unwrap()
    };
    assert_eq!(server_name().await, "gov-1");

    // A certificate that does not fit: the last good one serves, and the node says so.
    let (certificate, key) = world.authority.issue("gov-1-next");
    world.write("server.crt", &certificate);
    until_metric(admin, "tls_reload_stale", 1).await;
    assert_eq!(server_name().await, "gov-1");
    let status = get(admin, "/status").await;
    let error = status["server"]["tls"]["error"].as_str().unwrap();
    assert!(error.contains("tls.key"), "{error}");

    // With its key it does: for new connections.
    world.write("server.key", &key);
    until_generation(&running, 2).await;
    assert_eq!(server_name().await, "gov-1-next");
    good.goes_on(100).await;
    bad.goes_on(100).await;
    assert_eq!(metric(admin, "tls_reload_stale").await, 0);

    // One is revoked: it alone ends, at once, and does not come back.
    world.write("crl", &world.authority.revoke(&[101]));
    bad.ends().await;
    assert_eq!(metric(admin, "cut_connections_total{reason=\"revoked\"}").await, 1);
    let fault = refusal(address, revoked).await;
    assert_eq!(fault, TlsFault::ClientCertificateRefused("CertificateRevoked".into()));
    good.goes_on(100).await;
    let mut again = Busy::start(address, kept).await;
    again.goes_on(10).await;

    // A list that is none revokes nobody else and pardons nobody.
    world.write("crl", "");
    until_metric(admin, "tls_reload_stale", 1).await;
    good.goes_on(10).await;
    assert_eq!(metric(admin, "tls_generation").await, 3);
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_an_authority_that_is_gone_are_cut() {
    let world = World::new();
    let mut config = reloading(&world);
    config.tls.as_mut().unwrap().crls.files.clear();
    let running = GovernanceNode::start(config).await.unwrap();
    let mut client = Busy::start(running.local_addr(), world.client_tls(&world.authority)).await;
    let other = Authority::new();
    world.write("ca.crt", &[world.authority.pem(), other.pem()].concat());
    until_generation(&running, 2).await;
    client.goes_on(100).await;
    world.write("ca.crt", &other.pem());
    client.ends().await;
    let cut = "cut_connections_total{reason=\"unknown_authority\"}";
    assert_eq!(metric(running.admin_addr(), cut).await, 1);
    until_metric(running.admin_addr(), "connections", 0).await;
    stop(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_revocation_list_does_not_start() {
    let world = World::new();
    let config = reloading(&world);
    world.write("crl", "nothing");
    let error = GovernanceNode::start(config).await.unwrap_err().to_string();
    assert!(error.starts_with("tls.crls ") && error.contains("revocation list"), "{error}");
}
