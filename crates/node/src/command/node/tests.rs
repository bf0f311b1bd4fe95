//! A node and governance nodes over TLS on this machine, while their files change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_actor::status::LinkStatus;
use alys_stream_actor::{Status, StreamConfig, StreamSystem};
use alys_stream_config::NodeConfig;
use alys_stream_governance::{GovernanceConfig, GovernanceNode, Running};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority};
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::SystemClock;
use alys_stream_telemetry::metrics::Metrics;
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// How long anything in these tests may take before it counts as never.
const LONG: Duration = Duration::from_secs(30);

/// How often something is looked at again.
const LOOK: Duration = Duration::from_millis(5);

/// Changed files are noticed at once.
const RELOAD: &str = "reload: {poll: 20ms, debounce: 20ms}";

/// A folder with an authority, and everything that it issued.
struct World {
    folder: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl World {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        let key = KeyPair::generate().unwrap();
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let world = Self { folder: tempfile::tempdir().unwrap(), authority };
        world.write("ca.pem", &world.authority.pem());
        world.revoke("servers.crl", &[]);
        world.revoke("clients.crl", &[]);
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Writes a certificate with this serial number, and its key.
    fn issue(&self, name: &str, serial: u64) {
        let names = [name, "localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}-key.pem"), &key.serialize_pem());
    }

    /// Writes a list that revokes these serial numbers.
    fn revoke(&self, file: &str, serials: &[u64]) {
        let entry = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        self.write(file, &params.signed_by(&self.authority).unwrap().pem().unwrap());
    }

    async fn governance(&self, name: &str, serial: u64) -> Running {
        self.issue(name, serial);
        let file = format!("{name}.yaml");
        let yaml = format!(
            "id: {name}\ndata_dir: data-{name}\nkeys: keys-{name}\ngenerate_keys: true\n\
             tls: {{certificate: {name}.pem, key: {name}-key.pem, client_ca: ca.pem, \
             crls: {{files: [clients.crl]}}, {RELOAD}}}\n"
        );
        self.write(&file, &yaml);
        let config = GovernanceConfig::load(&self.path(&file)).unwrap();
        GovernanceNode::start(config).await.unwrap()
    }

    async fn node(&self, serial: u64, governance: &[(&str, &Running)]) -> Node {
        self.issue("node", serial);
        let endpoints: String = governance
            .iter()
            .map(|(name, running)| {
                format!("  - {{name: {name}, url: 'https://{}'}}\n", running.local_addr())
            })
            .collect();
        let yaml = format!(
            "node: {{id: node}}\ndata_dir: data\nendpoints:\n{endpoints}\
             tls: {{ca: ca.pem, certificate: node.pem, key: node-key.pem, \
             crls: {{files: [servers.crl]}}, {RELOAD}}}\n\
             transport: {{backoff: {{first: 20ms, backoff_max: 100ms}}}}\n"
        );
        self.write("node.yaml", &yaml);
        let loaded = NodeConfig::load(&self.path("node.yaml")).unwrap();
        let config = StreamConfig::from_loaded(loaded, "test/1");
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::new(SystemClock);
        let system = StreamSystem::start(config, Arc::clone(&metrics), clock).await.unwrap();
        Node { system, metrics }
    }
}

struct Node {
    system: StreamSystem,
    metrics: Arc<Metrics>,
}

impl Node {
    /// Waits until the status is as it should be.
    async fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let handle = self.system.handle();
        let mut looks = tokio::time::interval(LOOK);
        let reached = async {
            loop {
                let status = handle.status();
                if is_so(&status) {
                    return status;
                }
                looks.tick().await;
            }
        };
        let reached = tokio::time::timeout(LONG, reached).await;
        reached.unwrap_or_else(|_| panic!("never {what}: {:#?}", self.system.handle().status()))
    }

    /// A message to any endpoint is delivered.
    async fn deliver(&self, id: u8) {
        let message = Message {
            id: MessageId::new([id; 16]),
            kind: MessageKind(1000),
            priority: Priority::Normal,
            deadline: None,
            ordering_key: None,
            traceparent: None,
            payload: Bytes::from_static(b"hello"),
        };
        let handle = self.system.handle();
        let accepted = handle.send(message).await.unwrap();
        let mut follow = handle.follow(accepted.id).await.unwrap().unwrap();
        let outcome = tokio::time::timeout(LONG, follow.finished_outcome()).await.unwrap();
        assert_eq!(outcome.unwrap().state(), OutcomeState::Complete);
    }

    fn metric(&self, name: &str) -> Option<String> {
        self.system.handle().refresh_metrics();
        let text = self.metrics.encode();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(str::to_owned)
    }
}

fn link<'a>(status: &'a Status, name: &str) -> &'a LinkStatus {
    status.endpoints.iter().find(|link| link.connection.name == name).unwrap()
}

fn is_live(status: &Status, name: &str) -> bool {
    link(status, name).connection.is_live()
}

fn generation(status: &Status) -> u64 {
    status.tls.as_ref().unwrap().generation
}

fn is_stale(status: &Status) -> bool {
    status.tls.as_ref().unwrap().error.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_governance_node_that_is_revoked_is_dropped_and_the_others_stay() {
    let world = World::new();
    let (one, two) = (world.governance("gov-1", 11).await, world.governance("gov-2", 12).await);
    let node = world.node(1, &[("gov-1", &one), ("gov-2", &two)]).await;
    let both = |status: &Status| is_live(status, "gov-1") && is_live(status, "gov-2");
    let status = node.until("connected", both).await;
    assert_eq!((generation(&status), is_stale(&status)), (1, false));
    let (first, attempts) = (link(&status, "gov-1"), link(&status, "gov-2").connection.attempts);
    assert!(first.connection.certificate_expires_at.is_some());

    world.revoke("servers.crl", &[11]);
    let is_revoked = |status: &Status| {
        let connection = &link(status, "gov-1").connection;
        connection.last_error.as_ref().is_some_and(|error| error.contains("revoked"))
    };
    let status = node.until("revoked", is_revoked).await;
    assert_eq!(generation(&status), 2);
    assert!(!is_live(&status, "gov-1"));
    let other = &link(&status, "gov-2").connection;
    assert!(other.is_live(), "{other:?}");
    assert_eq!((other.attempts, &other.last_error), (attempts, &None), "it stayed");
    node.deliver(1).await;

    for name in ["{certificate=\"own\"}", "{certificate=\"authority\"}"] {
        let name = format!("alys_stream_certificate_expiry_timestamp_seconds{name}");
        assert!(node.metric(&name).is_some(), "{name}");
    }
    let peer = "alys_stream_peer_certificate_expiry_timestamp_seconds{endpoint=\"gov-2\"}";
    assert!(node.metric(peer).is_some());
    assert_eq!(node.metric("alys_stream_tls_generation").as_deref(), Some("2"));
    assert_eq!(node.metric("alys_stream_tls_reload_stale").as_deref(), Some("0"));

    // What is not usable changes nothing, and is told.
    world.write("servers.crl", "not a list");
    let status = node.until("stale", is_stale).await;
    assert_eq!((generation(&status), is_live(&status, "gov-2")), (2, true));
    assert_eq!(node.metric("alys_stream_tls_reload_stale").as_deref(), Some("1"));

    // Who is not revoked any more is dialled as ever.
    world.revoke("servers.crl", &[]);
    let status = node.until("connected again", both).await;
    assert_eq!((generation(&status), is_stale(&status)), (3, false));
    assert_eq!(link(&status, "gov-2").connection.attempts, attempts);
    node.system.shutdown(Duration::from_secs(1)).await;
    for running in [one, two] {
        running.shutdown(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_of_the_node_is_for_new_connections_and_the_old_stream_goes_on() {
    let world = World::new();
    let governance = world.governance("gov-1", 11).await;
    let node = world.node(1, &[("gov-1", &governance)]).await;
    let live = |status: &Status| is_live(status, "gov-1");
    let status = node.until("connected", live).await;
    let session = link(&status, "gov-1").connection.session_id.clone();

    world.issue("node", 2);
    let status = node.until("reloaded", |status| generation(status) == 2).await;
    node.deliver(1).await;
    let after = &link(&status, "gov-1").connection;
    assert_eq!((after.attempts, &after.session_id), (1, &session), "the old stream goes on");

    // Governance cuts who came with the old certificate, and lets in who comes with the new one.
    world.revoke("clients.crl", &[1]);
    let again = |status: &Status| live(status) && link(status, "gov-1").connection.attempts > 1;
    node.until("connected with the new certificate", again).await;
    node.deliver(2).await;
    node.system.shutdown(Duration::from_secs(1)).await;
    governance.shutdown(Duration::from_secs(1)).await;
}
