//! The only place of this crate that touches the file system, and only to read small files whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use alys_stream_transport::tls::ReadFile;

/// Largest file that is read, in bytes: configurations, certificates and keys are small, and what
/// is not small is something else.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What reads the files of the `tls` section, at the start and whenever they change: each whole, and
/// none above [`FILE_BYTES_MAX`].
#[must_use]
pub fn tls_files() -> ReadFile {
    Arc::new(|path: &Path| read(path))
}

/// Reads a file whole.
///
/// # Errors
///
/// When it cannot be read, or is larger than [`FILE_BYTES_MAX`].
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).is_ok_and(|read| read > FILE_BYTES_MAX) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// Whether something that is no folder stands where one is wanted. What does not exist is no
/// obstacle: it is made.
pub(crate) fn is_no_folder(path: &Path) -> bool {
    match std::fs::metadata(path) {
        Ok(found) => !found.is_dir(),
        // A file stands on the way to it.
        Err(error) => error.kind() == io::ErrorKind::NotADirectory,
    }
}
