//! Revocation lists: who is on one, whose is missing, which is old.

use rcgen::{
    CertificateRevocationList, CertificateRevocationListParams, KeyIdMethod, RevocationReason,
    RevokedCertParams, date_time_ymd,
};

use super::disk::{Disk, client_settings, disk, server_settings, shake};
use super::*;

/// A list of `authority` that names `revoked`, with its next one due in the year `due`.
pub(super) fn list(
    authority: &Authority,
    revoked: &[&Issued],
    due: i32,
) -> CertificateRevocationList {
    let entry = |issued: &&Issued| RevokedCertParams {
        serial_number: issued.serial.clone(),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(due, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.iter().map(entry).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority.issuer).unwrap()
}

const FAR: i32 = 4000;
const PAST: i32 = 2021;

pub(super) fn lists(names: &[&str]) -> Revocation {
    Revocation { files: names.iter().map(|name| (*name).into()).collect(), ..Default::default() }
}

async fn client_checks(disk: &Disk, crls: Revocation) -> Outcome {
    let settings = ClientSettings { crls, ..client_settings() };
    shake(disk, &settings, &server_settings()).await.0
}

#[tokio::test]
async fn a_revoked_server_is_refused_and_others_are_not() {
    let world = world();
    let disk = disk(&world);
    disk.write("crl.pem", list(&world.authority, &[&world.server], FAR).pem().unwrap());
    disk.write("crl.der", list(&world.authority, &[&world.server], FAR).der());
    disk.write("other", list(&world.authority, &[&world.client], FAR).pem().unwrap());
    for form in ["crl.pem", "crl.der"] {
        assert_eq!(client_checks(&disk, lists(&[form])).await, Err(TlsFault::Revoked), "{form}");
    }
    assert_eq!(client_checks(&disk, lists(&["other"])).await, Ok(()));
}

#[tokio::test]
async fn a_revoked_client_is_refused() {
    let world = world();
    let disk = disk(&world);
    disk.write("crl", list(&world.authority, &[&world.client], FAR).pem().unwrap());
    let settings = ServerSettings { crls: lists(&["crl"]), ..server_settings() };
    let (client, server) = shake(&disk, &client_settings(), &settings).await;
    assert_eq!(server, Err(TlsFault::Revoked));
    assert_eq!(client, Err(TlsFault::ClientCertificateRefused("CertificateRevoked".into())));
}

#[tokio::test]
async fn the_list_of_another_authority_leaves_doubt() {
    let (world, other) = (world(), world_of("Other CA"));
    let disk = disk(&world);
    disk.write("crl", list(&other.authority, &[], FAR).pem().unwrap());
    assert_eq!(client_checks(&disk, lists(&["crl"])).await, Err(TlsFault::RevocationUnknown));
    let lenient = Revocation { unknown: Doubt::Accept, ..lists(&["crl"]) };
    assert_eq!(client_checks(&disk, lenient).await, Ok(()));
    // A list that another authority of the same name signed is no list of this one.
    disk.write("crl", list(&world_of("Test CA").authority, &[], FAR).pem().unwrap());
    let seen = client_checks(&disk, lists(&["crl"])).await;
    assert_eq!(seen, Err(TlsFault::RevocationListUnusable("BadSignature".into())));
}

#[tokio::test]
async fn an_old_list_holds_unless_told_otherwise() {
    let world = world();
    let disk = disk(&world);
    disk.write("crl", list(&world.authority, &[], PAST).pem().unwrap());
    let strict = || Revocation { expired: Doubt::Refuse, ..lists(&["crl"]) };
    assert_eq!(client_checks(&disk, lists(&["crl"])).await, Ok(()));
    assert_eq!(client_checks(&disk, strict()).await, Err(TlsFault::RevocationListExpired));
    disk.write("crl", list(&world.authority, &[&world.server], PAST).pem().unwrap());
    assert_eq!(client_checks(&disk, lists(&["crl"])).await, Err(TlsFault::Revoked));
    let settings = ClientSettings { crls: lists(&["crl"]), ..client_settings() };
    let facts = ClientTls::load(&settings, &disk.reader()).unwrap().facts();
    assert_eq!(facts.revocation_due_at, Some(1_609_459_200), "2021-01-01");
    assert_eq!(facts.revocation_lists, 1);
}

/// What `openssl ca -gencrl` makes without `crl_extensions`.
const FIRST_VERSION: &str = "-----BEGIN X509 CRL-----
MIGpMFAwCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCY2EXDTI2MTEyNDAzMDcwNloX
DTI2MTIyNDAzMDcwNlowFTATAgIQAhcNMjYxMTI0MDMwNzA1WjAKBggqhkjOPQQD
AgNJADBGAiEAvELEpTBGzLo7jnx/kNxT1DTJPWe4ymh+2XVrA1QkinQCIQD4ik1A
q2Nq3tgWXQRzwHPtbLqCrXC1PZ45Ck9Y43Bt9g==
-----END X509 CRL-----
";

#[test]
fn a_damaged_list_is_named() {
    let world = world();
    let disk = disk(&world);
    let settings = ClientSettings { crls: lists(&["crl"]), ..client_settings() };
    let shown = |bytes: &[u8]| {
        disk.write("crl", bytes);
        let error = ClientTls::load(&settings, &disk.reader()).unwrap_err();
        assert_eq!(error.key(), "tls.crls");
        error.to_string()
    };
    expect_test::expect!["tls.crls crl holds no usable certificate revocation list (no BEGIN X509 CRL section); export it again in PEM or DER form"]
        .assert_eq(&shown(world.authority.pem.as_bytes()));
    let der = list(&world.authority, &[], FAR).der().to_vec();
    assert!(shown(&der[..40]).contains("no usable certificate revocation list"));
    assert!(shown(&[&der[..], b"x"].concat()).contains("something follows it"));
    let first_version = shown(FIRST_VERSION.as_bytes());
    assert!(first_version.contains("only complete lists of version 2"), "{first_version}");
    disk.remove("crl");
    let error = ClientTls::load(&settings, &disk.reader()).unwrap_err().to_string();
    assert!(error.starts_with("tls.crls crl cannot be read (entity not found)"), "{error}");
}
