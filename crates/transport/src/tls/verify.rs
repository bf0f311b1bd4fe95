//! The verifier of servers: validation as ever, then pins.
//!
//! Invariants:
//! - T21: pins come after validation, never instead of it, and signatures are always checked by the
//!   library.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::peer::key_sha256;
use super::pin::Pin;

/// A valid server with another key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the public key {presented} is not pinned")]
pub(super) struct NotPinned {
    pub(super) presented: Pin,
}

/// Validates a server, then compares its key.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    inner: Arc<WebPkiServerVerifier>,
    /// Empty: any key of a valid certificate.
    pins: Vec<Pin>,
}

impl ServerVerifier {
    pub(super) const fn new(inner: Arc<WebPkiServerVerifier>, pins: Vec<Pin>) -> Self {
        Self { inner, pins }
    }

    fn check_pins(&self, end_entity: &CertificateDer<'_>) -> Result<(), Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let presented = key_sha256(end_entity)
            .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let presented = Pin::new(presented);
        if self.pins.contains(&presented) {
            return Ok(());
        }
        let other = OtherError(Arc::new(NotPinned { presented }));
        Err(Error::InvalidCertificate(CertificateError::Other(other)))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let valid = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.check_pins(end_entity)?;
        Ok(valid)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}
