//! `alys-stream dlq export`: dead letters with their payloads, as JSON lines.
//!
//! A file has its name only once all of it is on the disk.

use std::fs::{File, Permissions};
use std::io::{self, BufWriter, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use alys_stream_protocol::submission::LookPurpose;

use super::show;
use super::source::Source;
use super::which::Which;
use crate::failure::Failure;
use crate::output;

/// Writes them to standard output, or to a file that does not exist yet.
///
/// # Errors
///
/// When they cannot be read, or the file exists or cannot be written.
pub(super) async fn run(
    source: &mut Source,
    which: &Which,
    file: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let mut letters = which.letters(LookPurpose::Export);
    let Some(path) = file else {
        while let Some(page) = letters.next(source).await? {
            for letter in page {
                output::line(show::json(&letter, true))?;
            }
        }
        return Ok(());
    };
    let failed = |error| Failure::file("write", path, &error);
    let mut out = BufWriter::new(beside(path).map_err(failed)?);
    let mut count = 0_u64;
    while let Some(page) = letters.next(source).await? {
        for letter in page {
            writeln!(out, "{}", show::json(&letter, true)).map_err(failed)?;
            count += 1;
        }
    }
    let written = out.into_inner().map_err(io::IntoInnerError::into_error);
    written.and_then(|written| put_in_place(written, path)).map_err(failed)?;
    let path = path.display();
    if as_json {
        let file = path.to_string();
        return output::line(serde_json::json!({ "exported": count, "file": file }));
    }
    output::line(format_args!("wrote {count} dead letters to {path}"))
}

/// A file without that name yet, in the same folder; it goes unless it is put in place.
fn beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    // Said before all of them are read.
    if path.symlink_metadata().is_ok() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    // As for any new file: the mask of the process takes its part.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".export-").suffix(".partial").permissions(Permissions::from_mode(0o666));
    builder.tempfile_in(folder(path))
}

/// Gives it its name, once all of it is on the disk. Nothing is replaced.
fn put_in_place(written: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    written.as_file().sync_all()?;
    written.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(folder(path))?.sync_all()
}

fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn names(dir: &Path) -> Vec<OsString> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("letters.jsonl");
        let mut cut_short = beside(&path).unwrap();
        cut_short.write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(cut_short);
        assert!(names(dir.path()).is_empty(), "nothing is left of it");

        let (mut first, second) = (beside(&path).unwrap(), beside(&path).unwrap());
        first.write_all(b"whole").unwrap();
        put_in_place(first, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        for refused in [put_in_place(second, &path), beside(&path).map(drop)] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        assert_eq!(names(dir.path()), ["letters.jsonl"]);
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
    }
}
