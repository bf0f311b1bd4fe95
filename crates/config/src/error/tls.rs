//! What the transport says of TLS settings and files, as key, problem and cure.

use std::path::Path;

use alys_stream_transport::tls::{TlsConfigError, TlsLoadError};

use super::{ConfigError, unreadable};

/// The keys that name files of the `tls` section, as the transport labels what it read.
const LABELS: [&str; 5] = ["tls.ca", "tls.certificate", "tls.key", "tls.pins_file", "tls.crls"];

/// Settings or files of TLS cannot be used.
pub(crate) fn tls_error(error: &TlsLoadError) -> ConfigError {
    let key = error.key().to_owned();
    let shown = key_of(&key);
    match error {
        TlsLoadError::Unreadable { label, source } => {
            let path = label.strip_prefix(&format!("{key} ")).unwrap_or(label);
            unreadable(shown, Path::new(path), source)
        }
        TlsLoadError::HalfIdentity { present, .. } => {
            let what = format!("missing, while there is a `{present}`");
            let file = if key == "tls.key" { "key" } else { "certificate" };
            let cure = format!("name the file with its {file}, or remove both");
            ConfigError::invalid(shown, what, cure)
        }
        TlsLoadError::Config(config) => {
            let (key, cure) = config_cure(config, shown);
            let text = without_keys(error);
            // The cure may be a part of the text already.
            let what = text.strip_suffix(&format!("; {cure}")).unwrap_or(&text);
            ConfigError::invalid(key, what, cure)
        }
        TlsLoadError::TooMany { .. } | TlsLoadError::Interval { .. } => {
            let text = error.to_string();
            split(shown, text.strip_prefix(&format!("{key} ")).unwrap_or(&text))
        }
        TlsLoadError::Pin { label, .. } => {
            // The line is not quoted: whoever names the file of a key must not find it in a log (C3).
            let path = label.strip_prefix(&format!("{key} ")).unwrap_or(label);
            let cure = "write one sha256/BASE64 of 44 letters on each line, or # before a comment";
            ConfigError::invalid(shown, format!("{path} has a line that is not a pin"), cure)
        }
        TlsLoadError::RevocationList { .. } | _ => split(shown, &without_keys(error)),
    }
}

/// The key in the file.
fn key_of(label: &str) -> &str {
    if label == "tls.crls" { "tls.crls.files" } else { label }
}

fn config_cure<'a>(error: &TlsConfigError, key: &'a str) -> (&'a str, &'static str) {
    match error {
        TlsConfigError::Pem { .. } => (key, "export it again in PEM form"),
        TlsConfigError::NoCertificate { .. } => (key, "name a file with certificates"),
        TlsConfigError::NoKey { .. } => ("tls.key", "name the file with the key"),
        TlsConfigError::Authority { .. } | TlsConfigError::NoAuthorities => {
            ("tls.ca", "name the file with the certificate of the authority")
        }
        TlsConfigError::Identity { .. } => {
            ("tls.key", "use the key that the certificate was made for")
        }
        TlsConfigError::Parameters(_) => ("tls", "use another certificate and key"),
    }
}

/// The text with paths alone: the key is in front of the line already.
fn without_keys(error: &TlsLoadError) -> String {
    LABELS.iter().fold(error.to_string(), |text, key| text.replace(&format!("{key} "), ""))
}

/// These texts end with their cure.
fn split(key: &str, text: &str) -> ConfigError {
    let (what, cure) = text.rsplit_once("; ").unwrap_or((text, "correct it"));
    ConfigError::invalid(key, what, cure)
}
