//! Why a TLS handshake failed, classified once, in words an operator can act on.

use std::io;

use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use super::pin::Pin;
use super::verify::NotPinned;

/// Why a TLS handshake, or what follows it, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// Nobody configured vouches for the peer.
    #[error(
        "the peer's certificate is not signed by a configured CA; add its CA, or check that this is the right peer"
    )]
    UnknownAuthority,
    /// The certificate is another host's.
    #[error(
        "the peer's certificate is not for {expected} but for {presented}; set server_name, or use the right address"
    )]
    WrongName {
        /// The name that was asked for.
        expected: String,
        /// The names in the certificate.
        presented: String,
    },
    /// Past its end.
    #[error("the peer's certificate has expired; it needs a new one (or a clock is wrong)")]
    Expired,
    /// Before its start.
    #[error("the peer's certificate is not valid yet; check the clocks of both machines")]
    NotYetValid,
    /// Revoked.
    #[error("the peer's certificate is revoked")]
    Revoked,
    /// Valid, with a key that is not pinned.
    #[error(
        "the peer's certificate is valid but its public key {presented} is not pinned; pin it if the peer really has a new key"
    )]
    NotPinned {
        /// Its key.
        presented: Pin,
    },
    /// No revocation list says anything about it.
    #[error(
        "no revocation list of the issuer of the peer's certificate is configured; name one for each authority, or accept unknown ones (tls.crls.unknown)"
    )]
    RevocationUnknown,
    /// The revocation list is old.
    #[error(
        "the revocation list of the issuer of the peer's certificate is past its next update; install the new one"
    )]
    RevocationListExpired,
    /// The revocation list is not usable.
    #[error(
        "the revocation list of the issuer of the peer's certificate is not usable: {0}; get it again from the authority"
    )]
    RevocationListUnusable(String),
    /// Otherwise unusable.
    #[error("the peer's certificate is not usable: {0}")]
    BadCertificate(String),
    /// Only older versions.
    #[error("the peer does not speak TLS 1.3; older versions are refused")]
    Version,
    /// No TLS.
    #[error(
        "the peer does not speak TLS (its first bytes are no TLS record); check scheme and port"
    )]
    NotTls,
    /// ALPN did not choose `h2`.
    #[error("the peer did not agree to HTTP/2 (ALPN h2); check that it is a gRPC server")]
    NoHttp2,
    /// A client without a certificate.
    #[error("a client certificate is required and none was shown; configure certificate and key")]
    ClientCertificateMissing,
    /// A client whose certificate is not accepted.
    #[error(
        "the peer does not accept our certificate (alert {0}); it must be signed by a CA that the peer trusts"
    )]
    ClientCertificateRefused(String),
    /// Any other alert.
    #[error("the peer refused the TLS handshake (alert {0})")]
    Alert(String),
    /// The connection ended in the middle of it.
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    /// Anything else.
    #[error("TLS failed: {0}")]
    Other(String),
}

impl TlsFault {
    /// Classifies what a TLS stream returned; `None` when the error is not about TLS.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(Self::from(inner))
    }
}

impl TlsFault {
    /// One word for it, for labels of metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::UnknownAuthority => "unknown_authority",
            Self::WrongName { .. } => "wrong_name",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::NotPinned { .. } => "not_pinned",
            Self::RevocationUnknown => "revocation_unknown",
            Self::RevocationListExpired => "revocation_list_expired",
            Self::RevocationListUnusable(_) => "revocation_list_unusable",
            Self::BadCertificate(_) => "bad_certificate",
            Self::Version => "version",
            Self::NotTls => "not_tls",
            Self::NoHttp2 => "alpn",
            Self::ClientCertificateMissing => "client_certificate_missing",
            Self::ClientCertificateRefused(_) => "client_certificate_refused",
            Self::Alert(_) => "alert",
            Self::Closed => "closed",
            Self::Other(_) => "other",
        }
    }
}

impl From<&rustls::Error> for TlsFault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn from(error: &rustls::Error) -> Self {
        use rustls::Error;
        match error {
            Error::InvalidCertificate(certificate) => Self::from(certificate),
            Error::InvalidCertRevocationList(list) => {
                Self::RevocationListUnusable(format!("{list:?}"))
            }
            Error::AlertReceived(alert) => Self::from(*alert),
            Error::PeerIncompatible(
                PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => Self::Version,
            Error::InvalidMessage(_) => Self::NotTls,
            Error::NoCertificatesPresented => Self::ClientCertificateMissing,
            Error::NoApplicationProtocol => Self::NoHttp2,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<&CertificateError> for TlsFault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn from(error: &CertificateError) -> Self {
        match error {
            // A bad signature is what an authority of the same name with another key leaves.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownAuthority
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus => Self::RevocationUnknown,
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::RevocationListExpired,
            CertificateError::Other(other) => match other.0.downcast_ref::<NotPinned>() {
                Some(NotPinned { presented }) => Self::NotPinned { presented: *presented },
                None => Self::BadCertificate(other.to_string()),
            },
            CertificateError::NotValidForName => Self::WrongName {
                expected: "the name asked for".to_owned(),
                presented: "others".to_owned(),
            },
            CertificateError::NotValidForNameContext { expected, presented } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: presented.join(", "),
            },
            other => Self::BadCertificate(other.to_string()),
        }
    }
}

impl From<AlertDescription> for TlsFault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum that grows")]
    fn from(alert: AlertDescription) -> Self {
        let text = format!("{alert:?}");
        match alert {
            AlertDescription::ProtocolVersion => Self::Version,
            AlertDescription::NoApplicationProtocol => Self::NoHttp2,
            AlertDescription::CertificateRequired => Self::ClientCertificateMissing,
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => Self::ClientCertificateRefused(text),
            _ => Self::Alert(text),
        }
    }
}
