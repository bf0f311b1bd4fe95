//! A certificate authority for development, and what it issues.

use alys_stream_protocol::time::{SystemClock, WallClock as _};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};

use crate::failure::Failure;

/// How long certificates are valid, in years.
const VALID_YEARS: i32 = 10;

/// A self-signed authority.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(super) struct Identity {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
}

impl Authority {
    /// Makes one with a new key.
    pub(super) fn mint() -> Result<Self, Failure> {
        let mut params = params("alys-stream development CA", Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key()?).map_err(failed)?;
        Ok(Self { issuer })
    }

    pub(super) fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    pub(super) fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// For a server on this machine: valid for its name, `localhost` and the loopback addresses.
    pub(super) fn issue_server(&self, name: &str) -> Result<Identity, Failure> {
        let names = [name, "localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        self.issue(name, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// For a client: its name is its identity.
    pub(super) fn issue_client(&self, name: &str) -> Result<Identity, Failure> {
        self.issue(name, vec![name.to_owned()], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        name: &str,
        subject_names: Vec<String>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, Failure> {
        let mut params = params(name, subject_names)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

fn params(name: &str, subject_names: Vec<String>) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::new(subject_names).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let year = year(SystemClock.now().as_unix_seconds());
    // From a year ago, for machines whose clock is behind.
    params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + VALID_YEARS, 1, 1);
    Ok(params)
}

/// The year of a Unix time; a day off around new year does not matter here.
fn year(unix_seconds: i64) -> i32 {
    const MEAN_YEAR_SECONDS: i64 = 31_556_952;
    1970 + i32::try_from(unix_seconds / MEAN_YEAR_SECONDS).unwrap_or(0)
}

fn key() -> Result<KeyPair, Failure> {
    KeyPair::generate().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::other(format_args!("cannot make a certificate: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn years() {
        assert_eq!(year(0), 1970);
        assert_eq!(year(1_780_000_000), 2026);
    }

    #[test]
    fn issues_pem() {
        let authority = Authority::mint().unwrap();
        let identity = authority.issue_server("governance-1").unwrap();
        assert!(identity.certificate_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(identity.key_pem.contains("PRIVATE KEY"));
    }
}
