//! Files that cannot be read: what happened, and the cure, in words.

use std::io;
use std::path::Path;

use super::ConfigError;
use crate::files::FILE_BYTES_MAX;

/// The file at `path`, named by `key` (or, when that is empty, the configuration itself), could
/// not be read.
pub(crate) fn unreadable(key: &str, path: &Path, error: &io::Error) -> ConfigError {
    let shown = shown(path);
    let (what, cure) = if error.kind() == io::ErrorKind::NotFound {
        (format!("{shown}does not exist"), "correct the path, or create the file")
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        (format!("{shown}may not be read by this user"), "change its owner or its mode")
    } else if error.kind() == io::ErrorKind::IsADirectory {
        (format!("{shown}is a folder"), "name a file in it")
    } else if error.kind() == io::ErrorKind::FileTooLarge {
        (
            format!("{shown}is larger than {FILE_BYTES_MAX} bytes"),
            "name another file: this is not a configuration, a certificate or a key",
        )
    } else {
        (format!("{shown}cannot be read ({error})"), "check the file and its disk")
    };
    // The configuration itself is named in front of the line already.
    let what = if key.is_empty() { what.replacen(&shown, "", 1) } else { what };
    ConfigError::invalid(key, what, cure)
}

/// The configuration is not text.
pub(crate) fn not_text() -> ConfigError {
    ConfigError::invalid("", "not UTF-8 text", "name a YAML file, and save it as UTF-8")
}

/// Whoever pastes a key where its path belongs must not find it in a log (C3).
fn shown(path: &Path) -> String {
    let path = path.to_string_lossy();
    if path.contains("-----BEGIN") {
        "the value is not a path but the content of a file, which ".to_owned()
    } else {
        format!("{path} ")
    }
}
