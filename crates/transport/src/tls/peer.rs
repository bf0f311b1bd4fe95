//! Who the peer is, as its certificate says.

use sha2::{Digest, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a validated certificate says of its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// The DNS names of the subject.
    pub dns_names: Vec<String>,
    /// SHA-256 of the public key as the certificate holds it (SPKI).
    pub key_sha256: [u8; 32],
    /// Valid until, in Unix seconds.
    pub expires_at: i64,
}

impl PeerIdentity {
    /// The name to know the peer by: the common name, else the first DNS name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.common_name.as_deref().or_else(|| self.dns_names.first().map(String::as_str))
    }

    /// Whether the certificate was made for `name`, as common name or as DNS name.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        self.common_name.as_deref() == Some(name) || self.dns_names.iter().any(|dns| dns == name)
    }
}

/// A certificate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is not readable: {0}")]
pub struct InvalidCertificate(String);

/// Reads a certificate that TLS has already validated.
///
/// # Errors
///
/// When it is not X.509 in DER form.
pub fn peer_identity(certificate: &[u8]) -> Result<PeerIdentity, InvalidCertificate> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| InvalidCertificate(error.to_string()))?;
    let common_name = certificate
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .map(str::to_owned);
    let mut dns_names = Vec::new();
    let names = certificate
        .subject_alternative_name()
        .map_err(|error| InvalidCertificate(error.to_string()))?;
    if let Some(names) = names {
        for name in &names.value.general_names {
            if let GeneralName::DNSName(dns) = name {
                dns_names.push((*dns).to_owned());
            }
        }
    }
    Ok(PeerIdentity {
        common_name,
        dns_names,
        key_sha256: sha256_of_key(&certificate),
        expires_at: certificate.validity().not_after.timestamp(),
    })
}

/// SHA-256 of the public key of a certificate, as it holds it (SPKI).
pub(super) fn key_sha256(certificate: &[u8]) -> Result<[u8; 32], InvalidCertificate> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| InvalidCertificate(error.to_string()))?;
    Ok(sha256_of_key(&certificate))
}

/// Until when a certificate is valid, in Unix seconds.
pub(super) fn expires_at(certificate: &[u8]) -> Result<i64, InvalidCertificate> {
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|error| InvalidCertificate(error.to_string()))?;
    Ok(certificate.validity().not_after.timestamp())
}

fn sha256_of_key(certificate: &X509Certificate<'_>) -> [u8; 32] {
    Sha256::digest(certificate.public_key().raw).into()
}
