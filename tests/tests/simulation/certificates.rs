//! The certificates of a simulated deployment: one authority, and who it vouches for.

use std::sync::Arc;

use alys_stream_transport::tls::{self, Authorities, Identity, Pem};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ServerConfig};

/// Vouches for every node of one simulation.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

struct Issued {
    certificate: String,
    key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of the simulation");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    fn as_pem(&self) -> Pem<'_> {
        Pem { label: "ca.pem", bytes: self.pem.as_bytes() }
    }

    /// How a node of this name dials.
    pub(crate) fn client(&self, name: &str) -> Arc<ClientConfig> {
        let issued = self.issue(name);
        let authorities = [self.as_pem()];
        tls::client_config(Authorities::Private(&authorities), Some(issued.identity())).unwrap()
    }

    /// How a governance node of this name listens.
    pub(crate) fn server(&self, name: &str) -> Arc<ServerConfig> {
        tls::server_config(self.issue(name).identity(), &[self.as_pem()]).unwrap()
    }
}

impl Issued {
    fn identity(&self) -> Identity<'_> {
        Identity {
            certificates: Pem { label: "tls.pem", bytes: self.certificate.as_bytes() },
            key: Pem { label: "tls-key.pem", bytes: self.key.as_bytes() },
        }
    }
}
