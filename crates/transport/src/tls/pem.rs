//! Certificates and keys from PEM.

use std::fmt;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsConfigError;

/// PEM text with the name of where it came from.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// A file name or a configuration key, for errors.
    pub label: &'a str,
    /// The text.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Pem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // T22: it may be a private key.
        f.debug_struct("Pem").field("label", &self.label).field("bytes", &self.bytes.len()).finish()
    }
}

/// A certificate chain, leaf first, and its private key.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// The chain.
    pub certificates: Pem<'a>,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: Pem<'a>,
}

/// Who may vouch for a server.
#[derive(Debug, Clone, Copy)]
pub enum Authorities<'a> {
    /// These private authorities and nobody else.
    Private(&'a [Pem<'a>]),
    /// The public authorities of the Mozilla programme.
    Public,
}

impl Authorities<'_> {
    pub(super) fn roots(&self) -> Result<RootCertStore, TlsConfigError> {
        match self {
            Self::Private(pems) => root_store(pems),
            Self::Public => Ok(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }),
        }
    }
}

impl Identity<'_> {
    pub(super) fn read(
        self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsConfigError> {
        let chain = certificates(self.certificates)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.bytes).map_err(|error| {
            if matches!(error, pem::Error::NoItemsFound) {
                return TlsConfigError::NoKey { label: self.key.label.to_owned() };
            }
            pem_error(self.key, &error)
        })?;
        Ok((chain, key))
    }

    pub(super) fn refused(self, source: rustls::Error) -> TlsConfigError {
        TlsConfigError::Identity {
            certificates: self.certificates.label.to_owned(),
            key: self.key.label.to_owned(),
            source,
        }
    }
}

pub(super) fn root_store(pems: &[Pem<'_>]) -> Result<RootCertStore, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        for certificate in certificates(*pem)? {
            roots.add(certificate).map_err(|source| TlsConfigError::Authority {
                label: pem.label.to_owned(),
                source,
            })?;
        }
    }
    if roots.is_empty() { Err(TlsConfigError::NoAuthorities) } else { Ok(roots) }
}

pub(super) fn certificates(pem: Pem<'_>) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let chain = CertificateDer::pem_slice_iter(pem.bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| pem_error(pem, &error))?;
    if chain.is_empty() {
        return Err(TlsConfigError::NoCertificate { label: pem.label.to_owned() });
    }
    Ok(chain)
}

/// T22: the library's own text may quote a line of the input, which may be a key.
pub(super) fn pem_error(input: Pem<'_>, error: &pem::Error) -> TlsConfigError {
    use pem::Error;
    let problem = if matches!(error, Error::MissingSectionEnd { .. }) {
        "a section has no END line"
    } else if matches!(error, Error::IllegalSectionStart { .. }) {
        "a section starts wrong"
    } else if matches!(error, Error::Base64Decode(_)) {
        "a section is not base64"
    } else if matches!(error, Error::NoItemsFound) {
        "nothing is in it"
    } else {
        "it is damaged"
    };
    TlsConfigError::Pem { label: input.label.to_owned(), problem }
}
