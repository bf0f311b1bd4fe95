//! Certificates, keys, a configuration, and the node itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_governance::{GovernanceConfig, GovernanceNode, Running};
use alys_stream_protocol::federation::{Federation, Member, ScriptKind};
use alys_stream_transport::tls::{self, Authorities, Identity, Pem};
use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

/// The name in the client certificate.
pub(crate) const NODE_ID: &str = "alys-1";

/// How long anything in these tests may take before it counts as never.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// An authority and one certificate of it, in PEM.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test CA");
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and its key.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        self.issue_as(name, None)
    }

    /// The same, with a serial number to revoke it by.
    pub(crate) fn issue_as(&self, name: &str, serial: Option<u64>) -> (String, String) {
        let names = [name, "localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = serial.map(SerialNumber::from);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

impl Authority {
    /// A revocation list, in PEM, that names these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> String {
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
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// Everything around one governance node; its files outlive it.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) authority: Authority,
    /// The keys of the federation; the node holds the first one.
    pub(crate) members: Vec<Keypair>,
    extra: String,
}

impl World {
    /// A node of a 2-of-3 federation.
    pub(crate) fn new() -> Self {
        Self::with_extra("")
    }

    /// The same, with more lines of configuration.
    pub(crate) fn with_extra(extra: &str) -> Self {
        let secp = Secp256k1::new();
        let members = (1..=3_u8)
            .map(|n| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[n; 32]).unwrap()))
            .collect();
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            authority: Authority::new(),
            members,
            extra: extra.to_owned(),
        };
        let (certificate, key) = world.authority.issue("gov-1");
        world.write("server.crt", &certificate);
        world.write("server.key", &key);
        world.write("ca.crt", &world.authority.pem());
        let secret = world.members[0].display_secret().to_string();
        world.write("keys", &secret);
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(world.path("keys"), private).unwrap();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.path("data")
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn federation(&self) -> Federation {
        let members = self
            .members
            .iter()
            .enumerate()
            .map(|(place, key)| Member {
                id: format!("gov-{}", place + 1),
                public_key: key.public_key(),
                weight: 1,
            })
            .collect();
        Federation::try_new(2, members, ScriptKind::P2wsh).unwrap()
    }

    pub(crate) fn config(&self) -> GovernanceConfig {
        let members: String = self
            .members
            .iter()
            .enumerate()
            .map(|(place, key)| {
                format!("    - {{ id: gov-{}, public_key: \"{}\" }}\n", place + 1, key.public_key())
            })
            .collect();
        let yaml = format!(
            "id: gov-1\nlisten: 127.0.0.1:0\ndata_dir: data\nkeys: keys\n\
             tls: {{ certificate: server.crt, key: server.key, client_ca: ca.crt }}\n\
             federation:\n  network: regtest\n  threshold: 2\n  members:\n{members}{}",
            self.extra
        );
        self.write("gov.yaml", &yaml);
        GovernanceConfig::load(&self.path("gov.yaml")).unwrap()
    }

    pub(crate) async fn start(&self) -> Running {
        GovernanceNode::start(self.config()).await.unwrap()
    }

    /// A TLS configuration of a client with a certificate of `authority`.
    pub(crate) fn client_tls(&self, authority: &Authority) -> Arc<rustls::ClientConfig> {
        self.client_tls_of(authority.issue(NODE_ID))
    }

    /// A TLS configuration of a client with this certificate and key.
    pub(crate) fn client_tls_of(
        &self,
        (certificate, key): (String, String),
    ) -> Arc<rustls::ClientConfig> {
        let ca = self.authority.pem();
        let identity = Identity {
            certificates: Pem { label: "client.crt", bytes: certificate.as_bytes() },
            key: Pem { label: "client.key", bytes: key.as_bytes() },
        };
        let ca = [Pem { label: "ca.crt", bytes: ca.as_bytes() }];
        tls::client_config(Authorities::Private(&ca), Some(identity)).unwrap()
    }
}

/// Stops a node within the time of a test.
pub(crate) async fn stop(running: Running) {
    tokio::time::timeout(LONG, running.shutdown(Duration::from_secs(1))).await.unwrap();
}
