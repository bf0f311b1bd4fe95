//! `alys-stream dlq export`: dead letters with their payloads, as JSON lines.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
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
    let created = OpenOptions::new().write(true).create_new(true).open(path).map_err(failed)?;
    let mut out = BufWriter::new(created);
    let mut count = 0_u64;
    while let Some(page) = letters.next(source).await? {
        for letter in page {
            writeln!(out, "{}", show::json(&letter, true)).map_err(failed)?;
            count += 1;
        }
    }
    out.into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .map_err(failed)?;
    let path = path.display();
    if as_json {
        let file = path.to_string();
        return output::line(serde_json::json!({ "exported": count, "file": file }));
    }
    output::line(format_args!("wrote {count} dead letters to {path}"))
}
