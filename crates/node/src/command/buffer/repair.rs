//! `alys-stream buffer repair`: copies what is readable into a new directory.
//!
//! Invariant: whatever interrupts it, the damaged buffer is complete under its old name or beside it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use alys_stream_messaging::FileStorage;
use alys_stream_messaging::tools;

use super::{Dir, failure, show};
use crate::failure::Failure;
use crate::output;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    dir: Dir,
    /// The new directory; it must not exist yet, or be empty
    #[arg(long, value_name = "NEW_DIR", required_unless_present = "in_place")]
    to: Option<PathBuf>,
    /// Put the copy in the place of the damaged buffer, which is kept beside it as DIR.damaged
    #[arg(long, conflicts_with = "to")]
    in_place: bool,
}

/// Copies and reports.
///
/// # Errors
///
/// When a node runs on it, there is no buffer, the target has files, or the disk says no.
pub(super) fn run(args: &Args, as_json: bool) -> Result<(), Failure> {
    let from = args.dir.path();
    let to = args.to.clone().unwrap_or_else(|| beside(&from, ".repaired"));
    let kept = beside(&from, ".damaged");
    if args.in_place && kept.exists() {
        return Err(Failure::usage(format_args!(
            "{} exists: an earlier repair kept it (move it away first)",
            kept.display()
        )));
    }
    let repaired = tools::repair(&from, &to, &FileStorage).map_err(|error| failure(&error))?;
    if args.in_place {
        replace(&from, &to, &kept)?;
    }
    let shown = if args.in_place { &from } else { &to };
    let kept = args.in_place.then(|| kept.display().to_string());
    let dir = shown.display().to_string();
    if as_json {
        let value = show::repaired(&repaired, &dir, kept.as_deref());
        return output::line(format_args!("{value:#}"));
    }
    for corruption in &repaired.from.corruption {
        output::line(show::corruption(corruption))?;
    }
    output::line(format_args!(
        "{dir}: {} records, {} unsettled, {} lost",
        repaired.records,
        repaired.unsettled,
        repaired.lost.count()
    ))?;
    kept.map_or(Ok(()), |kept| output::line(format_args!("the damaged buffer is kept as {kept}")))
}

/// The name of the directory with something behind it.
fn beside(dir: &Path, suffix: &str) -> PathBuf {
    let mut name = dir.file_name().map_or_else(|| OsString::from("buffer"), OsString::from);
    name.push(suffix);
    dir.with_file_name(name)
}

fn replace(from: &Path, to: &Path, kept: &Path) -> Result<(), Failure> {
    fs::rename(from, kept).map_err(|error| Failure::file("rename", from, &error))?;
    fs::rename(to, from).map_err(|error| Failure::file("rename", to, &error))?;
    let parent = from.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    fs::File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(|error| Failure::file("sync", parent, &error))
}
