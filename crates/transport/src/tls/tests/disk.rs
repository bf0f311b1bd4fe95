//! Files in memory, and settings that name them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::*;

/// Files in memory.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<BTreeMap<PathBuf, Vec<u8>>>>);

impl Disk {
    pub(super) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        self.0.lock().unwrap().insert(path.into(), bytes.as_ref().to_vec());
    }

    pub(super) fn remove(&self, path: &str) {
        self.0.lock().unwrap().remove(Path::new(path));
    }

    pub(super) fn reader(&self) -> ReadFile {
        let files = Arc::clone(&self.0);
        Arc::new(move |path: &Path| {
            files.lock().unwrap().get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }
}

pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from(name)
}

/// Writes the files of both sides.
pub(super) fn disk(world: &World) -> Disk {
    let disk = Disk::default();
    disk.write("ca", &world.authority.pem);
    disk.write("client.crt", &world.client.certificate);
    disk.write("client.key", &world.client.key);
    disk.write("server.crt", &world.server.certificate);
    disk.write("server.key", &world.server.key);
    disk
}

pub(super) fn client_settings() -> ClientSettings {
    ClientSettings {
        ca: Some(path("ca")),
        certificate: Some(path("client.crt")),
        key: Some(path("client.key")),
        ..ClientSettings::default()
    }
}

pub(super) fn server_settings() -> ServerSettings {
    ServerSettings {
        certificate: "server.crt".into(),
        key: "server.key".into(),
        client_ca: "ca".into(),
        crls: Revocation::default(),
        reload: ReloadConfig::default(),
    }
}

/// One handshake of what the settings say now.
pub(super) async fn shake(
    disk: &Disk,
    client: &ClientSettings,
    server: &ServerSettings,
) -> (Outcome, Outcome) {
    let client = ClientTls::load(client, &disk.reader()).unwrap();
    let server = ServerTls::load(server, &disk.reader()).unwrap();
    handshake(Arc::clone(client.config()), Arc::clone(server.config()), "gov.test").await
}

pub(super) fn chain(issued: &Issued) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    certificates(Pem { label: "x", bytes: issued.certificate.as_bytes() }).unwrap()
}

pub(super) fn pin(issued: &Issued) -> Pin {
    Pin::new(peer_identity(&chain(issued)[0]).unwrap().key_sha256)
}
