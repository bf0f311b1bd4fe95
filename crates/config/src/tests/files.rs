//! What a configuration refers to.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;

use super::*;

const TLS: &str = "tls: {ca: ca.pem, certificate: tls.pem, key: tls-key.pem}\n";

/// A folder with a configuration, a certificate for itself, and its key.
struct Folder {
    dir: TempDir,
}

impl Folder {
    fn new() -> Self {
        let this = Self { dir: tempfile::tempdir().expect("a folder") };
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["node-1".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        this.write("ca.pem", &certificate);
        this.write("tls.pem", &certificate);
        this.write("tls-key.pem", key.serialize_pem());
        this.write("pins", "# none but those of the configuration\n");
        this.write("crl.pem", Self::empty_list());
        this.write("node.yaml", format!("{GOOD}{TLS}"));
        this
    }

    /// A revocation list of an authority that nobody uses.
    fn empty_list() -> String {
        let mut params = CertificateParams::new(Vec::new()).expect("no name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&authority).expect("a list").pem().expect("text")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    #[track_caller]
    fn check(&self, expected: Expect) {
        let line = match NodeConfig::load(&self.path("node.yaml")) {
            Ok(_) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        assert!(!line.contains('\n'), "{line}");
        expected.assert_eq(&line.replace(&self.dir.path().display().to_string(), "DIR"));
    }

    #[track_caller]
    fn check_with(&self, name: &str, text: impl AsRef<[u8]>, expected: Expect) {
        self.write(name, text);
        self.check(expected);
    }
}

#[test]
fn good_ones() {
    let folder = Folder::new();
    folder.check(expect!["ok"]);
    let loaded = NodeConfig::load(&folder.path("node.yaml")).expect("a configuration");
    assert!(loaded.tls.is_some_and(|tls| tls.client_auth_cert_resolver.has_certs()));
    folder.check_with("node.yaml", GOOD, expect!["ok"]);
}

#[test]
fn certificates_and_keys() {
    let folder = Folder::new();
    let key = std::fs::read(folder.path("tls-key.pem")).expect("a key");
    let certificate = std::fs::read(folder.path("tls.pem")).expect("a certificate");
    let other = KeyPair::generate().expect("a key").serialize_pem();
    folder.check_with("tls-key.pem", other, expect!["DIR/node.yaml: tls.key: DIR/tls.pem and DIR/tls-key.pem do not make an identity; use the key that the certificate was made for"]);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    folder.check_with("tls-key.pem", encrypted, expect!["DIR/node.yaml: tls.key: the key in DIR/tls-key.pem is encrypted; decrypt it (openssl pkey -in OLD -out NEW), and let only the node read it"]);
    folder.check_with("tls-key.pem", &certificate, expect!["DIR/node.yaml: tls.key: DIR/tls-key.pem holds no private key (PKCS#8, PKCS#1 or SEC1; encrypted keys are not read); name the file with the key"]);
    folder.check_with(
        "tls-key.pem",
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0",
        expect!["DIR/node.yaml: tls.key: DIR/tls-key.pem is not readable as PEM: a section has no END line; export it again in PEM form"],
    );
    folder.check_with("tls-key.pem", &key, expect!["ok"]);
    folder.check_with("tls.pem", "not PEM", expect!["DIR/node.yaml: tls.certificate: DIR/tls.pem holds no certificate (no BEGIN CERTIFICATE section); name a file with certificates"]);
    folder.check_with("tls.pem", &certificate, expect!["ok"]);
    folder.check_with("ca.pem", &key, expect!["DIR/node.yaml: tls.ca: DIR/ca.pem holds no certificate (no BEGIN CERTIFICATE section); name a file with certificates"]);
    let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    folder.check_with("ca.pem", damaged, expect!["DIR/node.yaml: tls.ca: DIR/ca.pem holds a certificate that cannot serve as an authority; name the file with the certificate of the authority"]);
    folder.check_with("ca.pem", vec![b'a'; 2 << 20], expect!["DIR/node.yaml: tls.ca: DIR/ca.pem is larger than 1048576 bytes; name another file: this is not a configuration, a certificate or a key"]);
    std::fs::remove_file(folder.path("ca.pem")).expect("a file");
    folder.check(expect![
        "DIR/node.yaml: tls.ca: DIR/ca.pem does not exist; correct the path, or create the file"
    ]);
    std::fs::create_dir(folder.path("ca.pem")).expect("a folder");
    folder.check(expect!["DIR/node.yaml: tls.ca: DIR/ca.pem is a folder; name a file in it"]);
    let pasted = format!("{GOOD}tls: {{ca: \"-----BEGIN CERTIFICATE----- c2VjcmV0\"}}\n");
    folder.check_with("node.yaml", pasted, expect!["DIR/node.yaml: tls.ca: the value is not a path but the content of a file, which does not exist; correct the path, or create the file"]);
}

#[test]
fn pins_and_revocation_lists() {
    let folder = Folder::new();
    let with = |more: &str| format!("{GOOD}{}", TLS.replace('}', more));
    folder.check_with(
        "node.yaml",
        with(", pins_file: pins, crls: {files: [crl.pem], unknown: accept}}"),
        expect!["ok"],
    );
    folder.check_with("pins", "sha256/short\n", expect!["DIR/node.yaml: tls.pins_file: DIR/pins has a line that is not a pin; write one sha256/BASE64 of 44 letters on each line, or # before a comment"]);
    folder.check_with("pins", "c0ffee", expect!["DIR/node.yaml: tls.pins_file: DIR/pins has a line that is not a pin; write one sha256/BASE64 of 44 letters on each line, or # before a comment"]);
    folder.check_with("pins", "", expect!["ok"]);
    folder.check_with("crl.pem", "not a list", expect!["DIR/node.yaml: tls.crls.files: DIR/crl.pem holds no usable certificate revocation list (no BEGIN X509 CRL section); export it again in PEM or DER form"]);
    std::fs::remove_file(folder.path("crl.pem")).expect("a file");
    folder.check(expect!["DIR/node.yaml: tls.crls.files: DIR/crl.pem does not exist; correct the path, or create the file"]);
}

#[test]
fn the_file_itself() {
    let folder = Folder::new();
    folder.check_with(
        "node.yaml",
        [0xff, 0xfe],
        expect!["DIR/node.yaml: not UTF-8 text; name a YAML file, and save it as UTF-8"],
    );
    std::fs::remove_file(folder.path("node.yaml")).expect("a file");
    folder.check(expect!["DIR/node.yaml: does not exist; correct the path, or create the file"]);
}

#[test]
fn plaintext_on_loopback_needs_no_tls() {
    let folder = Folder::new();
    let plaintext =
        GOOD.replace("'https://gov-1.example:9443'", "'http://127.0.0.1:1', insecure: plaintext");
    folder.write("node.yaml", plaintext);
    let loaded = NodeConfig::load(&folder.path("node.yaml")).expect("a configuration");
    assert!(loaded.tls.is_none());
}

#[test]
fn the_example_loads_and_shows_itself() {
    let folder = Folder::new();
    folder.write("node.yaml", include_str!("../../testdata/node.yaml"));
    let loaded = NodeConfig::load(&folder.path("node.yaml")).expect("a configuration");
    assert_eq!(loaded.federation.as_ref().map(|federation| federation.threshold()), Some(2));
    let shown = serde_json::to_string_pretty(&loaded.config.redacted_json()).expect("JSON");
    let shown = shown.replace(&folder.dir.path().display().to_string(), "DIR");
    expect_test::expect_file!["../../testdata/node.json"].assert_eq(&format!("{shown}\n"));
}

#[test]
fn every_key_is_in_the_reference() {
    let reference = include_str!("../../../../docs/configuration.md");
    let example = include_str!("../../testdata/node.yaml");
    let value: serde_json::Value = serde_yaml::from_str(example).expect("YAML");
    let mut missing = Vec::new();
    each_key("", &value, &mut |key| {
        if !reference.contains(&format!("`{key}`")) {
            missing.push(key.to_owned());
        }
    });
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
}

/// `endpoints[].name` for a key in a list; kinds of messages are `KIND`.
fn each_key(path: &str, value: &serde_json::Value, visit: &mut impl FnMut(&str)) {
    if let Some(map) = value.as_object() {
        for (key, value) in map {
            let key = if path == "router.kinds" { "KIND" } else { key };
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            each_key(&path, value, visit);
        }
    } else if let Some(list) = value.as_array() {
        list.iter().for_each(|value| each_key(&format!("{path}[]"), value, visit));
    } else {
        visit(path);
    }
}

#[test]
fn a_file_where_the_data_should_go() {
    let folder = Folder::new();
    let with = |dir: &str| format!("{}{TLS}", GOOD.replace("data_dir: data", dir));
    folder.check_with(
        "node.yaml",
        with("data_dir: ca.pem"),
        expect!["DIR/node.yaml: data_dir: DIR/ca.pem: a file stands where this folder should be; name a folder, it is made when missing"],
    );
    folder.check_with(
        "node.yaml",
        with("data_dir: ca.pem/below"),
        expect!["DIR/node.yaml: data_dir: DIR/ca.pem/below: a file stands where this folder should be; name a folder, it is made when missing"],
    );
}
