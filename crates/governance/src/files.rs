//! The few files this crate reads or writes itself: configuration, certificates, member keys.
//!
//! Not the data directory: logs belong to `alys_stream_messaging`.

use std::io;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use secrecy::SecretString;

/// Largest file that is read whole, in bytes: configurations, certificates and keys are small.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a file whole.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!(
            "{bytes} bytes are too many (at most {FILE_BYTES_MAX})"
        )));
    }
    std::fs::read(path)
}

/// Reads a text whole.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::other("not UTF-8 text"))
}

/// Reads a text that must not be shown.
pub(crate) fn read_secret(path: &Path) -> io::Result<SecretString> {
    read_text(path).map(SecretString::from)
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

/// Writes a file that only its owner may read; it must not exist yet.
pub(crate) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
