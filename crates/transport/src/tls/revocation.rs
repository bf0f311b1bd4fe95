//! Certificate revocation lists: which files, and what holds when they do not say.
//!
//! The default of each policy, and why:
//!
//! - a certificate whose issuer has no list is *refused*, once there are lists at all: whoever names
//!   lists wants them checked, and a missing one shows at the first handshake;
//! - a list that is past its `nextUpdate` is *used*, with a warning: it still names what was
//!   revoked, and refusing everyone when an authority is late would cut the link that carries an
//!   emergency halt.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use super::error::TlsLoadError;
use super::pem::{Pem, pem_error};
use super::provider;
use super::settings::CRL_FILES_MAX;

/// Which certificates are valid no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Revocation {
    /// Files with certificate revocation lists, PEM (any number in one file) or DER, at most
    /// [`CRL_FILES_MAX`]. Default: none, and nothing is revoked. Each certificate of a chain is
    /// checked, except the authority at its end.
    pub files: Vec<PathBuf>,
    /// What becomes of a certificate whose issuer has none of the lists. Default `refuse`: name a
    /// list for each authority, intermediate ones included.
    #[serde(default = "refuse")]
    pub unknown: Doubt,
    /// What becomes of certificates when the list of their issuer is past its `nextUpdate`.
    /// Default `accept`: the old list holds, with a warning. `refuse` cuts every peer of that
    /// authority off until a new list is there.
    #[serde(default = "accept")]
    pub expired: Doubt,
}

/// What to do in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Believe the certificate.
    Accept,
    /// Refuse it.
    Refuse,
}

const fn refuse() -> Doubt {
    Doubt::Refuse
}

const fn accept() -> Doubt {
    Doubt::Accept
}

impl Default for Revocation {
    fn default() -> Self {
        Self { files: Vec::new(), unknown: refuse(), expired: accept() }
    }
}

impl Revocation {
    pub(super) fn resolve(&mut self, folder: &Path) {
        for path in &mut self.files {
            *path = folder.join(&*path);
        }
    }

    pub(super) const fn check(&self) -> Result<(), TlsLoadError> {
        let count = self.files.len();
        if count > CRL_FILES_MAX {
            return Err(TlsLoadError::TooMany { key: "tls.crls.files", count, max: CRL_FILES_MAX });
        }
        Ok(())
    }
}

/// One list, and when its next one is due, in Unix seconds.
#[derive(Debug)]
pub(super) struct RevocationList {
    pub(super) der: CertificateRevocationListDer<'static>,
    pub(super) due_at: Option<i64>,
}

/// Reads the lists of one file, PEM or DER.
pub(super) fn read(input: Pem<'_>) -> Result<Vec<RevocationList>, TlsLoadError> {
    let unusable =
        |problem: String| TlsLoadError::RevocationList { label: input.label.to_owned(), problem };
    // DER begins with a SEQUENCE, text does not.
    let ders = if input.bytes.first() == Some(&0x30) {
        vec![CertificateRevocationListDer::from(input.bytes.to_vec())]
    } else {
        CertificateRevocationListDer::pem_slice_iter(input.bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| pem_error(input, &error))?
    };
    if ders.is_empty() {
        return Err(unusable("no BEGIN X509 CRL section".to_owned()));
    }
    let list = |der: CertificateRevocationListDer<'static>| {
        let (rest, parsed) = CertificateRevocationList::from_der(&der)
            .map_err(|error| unusable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(unusable("something follows it".to_owned()));
        }
        let due_at = parsed.next_update().map(|at| at.timestamp());
        check(&der).map_err(unusable)?;
        Ok(RevocationList { der, due_at })
    };
    ders.into_iter().map(list).collect()
}

/// Asks the library that will search the list whether it can, while the file it came from is known.
fn check(der: &CertificateRevocationListDer<'static>) -> Result<(), String> {
    let anyone = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(anyone), provider());
    builder.with_crls([der.clone()]).build().map(drop).map_err(|error| {
        format!("{error}; only complete lists of version 2, with a number, are read")
    })
}
