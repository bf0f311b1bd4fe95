//! Keys and certificates made of numbers: the same numbers give the same bytes.

use std::collections::BTreeSet;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, PKCS_ED25519, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::Flaw;
use crate::clock::EPOCH_MS;
use crate::net::Machine;

/// What the PKCS#8 form of an Ed25519 key begins with; the 32 bytes of the key follow.
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The beginning of a run, since 1970.
const EPOCH: Duration = Duration::from_millis(EPOCH_MS);

/// How long before and after the beginning of a run everything is valid: more than any clock is
/// wrong.
const VALID: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What stands for a machine in the keys of authorities.
const AUTHORITIES: u8 = 255;

/// A key of a machine.
pub(super) fn key(machine: Machine, number: u8) -> KeyPair {
    key_of(machine.0, number)
}

fn key_of(owner: u8, number: u8) -> KeyPair {
    let mut bytes = PKCS8.to_vec();
    bytes.extend([[owner, number]; 16].concat());
    let key = PrivatePkcs8KeyDer::from(bytes);
    KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).expect("a key")
}

/// An authority, and its certificate as text.
pub(super) fn authority(number: u8) -> (Issuer<'static, KeyPair>, String) {
    let mut params = params(Vec::new(), &format!("authority {number}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.serial_number = Some(serial(Machine(AUTHORITIES), number));
    let key = key_of(AUTHORITIES, number);
    let pem = params.self_signed(&key).expect("a certificate").pem();
    (Issuer::new(params, key), pem)
}

/// The certificate that an authority issues for a key of a machine.
pub(super) fn certificate(by: u8, machine: Machine, number: u8, flaw: Option<Flaw>) -> Certificate {
    let name = match flaw {
        Some(Flaw::OtherName) => "gov-99".to_owned(),
        _ => machine.name(),
    };
    let mut params = params(vec![name.clone()], &name);
    params.serial_number = Some(serial(machine, number));
    let at = |time: Duration| date_time_ymd(1970, 1, 1) + time;
    if let Some(Flaw::Expires(seconds)) = flaw {
        params.not_after = at(EPOCH + Duration::from_secs(seconds));
    }
    if flaw == Some(Flaw::Early) {
        params.not_before = at(EPOCH + VALID / 2);
    }
    params.signed_by(&key(machine, number), &authority(by).0).expect("a certificate")
}

/// The revocation list of an authority, as text.
pub(super) fn list(by: u8, revoked: &BTreeSet<(Machine, u8)>, is_old: bool) -> String {
    let at = |time: Duration| date_time_ymd(1970, 1, 1) + time;
    let entry = |(machine, number): &(Machine, u8)| RevokedCertParams {
        serial_number: serial(*machine, *number),
        revocation_time: at(EPOCH),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: at(EPOCH - VALID),
        next_update: at(if is_old { EPOCH - VALID / 2 } else { EPOCH + VALID }),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = params.signed_by(&authority(by).0).expect("a list");
    list.pem().expect("a list as text")
}

fn params(names: Vec<String>, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(1970, 1, 1) + (EPOCH - VALID);
    params.not_after = date_time_ymd(1970, 1, 1) + (EPOCH + VALID);
    params
}

/// As long for every certificate.
fn serial(machine: Machine, number: u8) -> SerialNumber {
    SerialNumber::from_slice(&[1, machine.0, number, 1])
}
