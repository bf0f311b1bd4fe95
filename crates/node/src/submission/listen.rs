//! Opens the socket of the submission interface.
//!
//! Invariants: a socket file is removed only when nobody listens on it (L1); it is never open to
//! other users, not even for a moment (L2).

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::Address;
use crate::failure::Failure;

const WHAT: &str = "submission interface";

/// Who may connect: the owner of the process.
const SOCKET_MODE: u32 = 0o600;

/// A socket that is listened on.
#[derive(Debug)]
pub(crate) enum Listener {
    /// A Unix socket and its file.
    Unix(UnixListener, SocketFile),
    /// A port.
    Tcp(TcpListener),
}

/// Removes the file of a socket at the end.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever starts next removes a file that stayed.
        drop(std::fs::remove_file(&self.0));
    }
}

impl Listener {
    /// Listens on `address`.
    ///
    /// # Errors
    ///
    /// When somebody else does, or the path or port cannot be used.
    pub(crate) async fn bind(address: &Address) -> Result<Self, Failure> {
        match address {
            Address::Unix(path) => {
                let socket = bind_unix(path)
                    .await
                    .map_err(|error| Failure::listen(WHAT, address, &error))?;
                Ok(Self::Unix(socket, SocketFile(path.clone())))
            }
            Address::Tcp { host, port } => TcpListener::bind((host.as_str(), *port))
                .await
                .map(Self::Tcp)
                .map_err(|error| Failure::listen(WHAT, address, &error)),
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    refuse_occupied(path).await?;
    // Under another name first, so that the file has its mode before anyone can find it (L2); the
    // rename then replaces a stale one (L1).
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let fresh = path.with_file_name(name);
    let socket = UnixListener::bind(&fresh)?;
    let placed = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(SOCKET_MODE))
        .and_then(|()| std::fs::rename(&fresh, path));
    if let Err(error) = placed {
        drop(std::fs::remove_file(&fresh));
        return Err(error);
    }
    Ok(socket)
}

async fn refuse_occupied(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => match UnixStream::connect(path).await {
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
        },
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the file is not a socket (choose another path)",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        // Left behind, as a killed process does: the listener is gone, its file is not.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let address = Address::Unix(path.clone());
        let live = Listener::bind(&address).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let failure = Listener::bind(&address).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Unavailable);
        drop(live);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious.txt");
        std::fs::write(&path, "x").unwrap();
        let failure = Listener::bind(&Address::Unix(path.clone())).await.unwrap_err();
        assert_eq!(failure.exit(), Exit::Config);
        assert!(path.exists());
    }
}
