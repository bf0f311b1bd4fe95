//! `alys-stream buffer repair`: copies what is readable into a new directory.
//!
//! Invariant: whatever interrupts it, the damaged buffer is complete under its old name or beside it.

use std::fs;
use std::path::{Path, PathBuf};

use alys_stream_messaging::FileStorage;
use alys_stream_messaging::tools::{self, Repaired, RepairedInPlace};

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
    /// Put the copy in the place of the damaged buffer, which is kept beside it as DIR.damaged; also
    /// finishes one that was cut short
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
    let Some(to) = &args.to else {
        return in_place(&from, as_json);
    };
    let repaired = tools::repair(&from, to, &FileStorage).map_err(|error| failure(&error))?;
    report(&repaired, to, None, as_json)
}

fn in_place(dir: &Path, as_json: bool) -> Result<(), Failure> {
    // The names beside it are made of its own, which `.` has not.
    let named = dir.file_name().is_none().then(|| fs::canonicalize(dir).ok()).flatten();
    let dir = named.unwrap_or_else(|| dir.to_owned());
    let done = tools::repair_in_place(&dir, &FileStorage).map_err(|error| failure(&error))?;
    let RepairedInPlace { repaired, kept, is_resumed } = done;
    if is_resumed {
        output::note("a repair that was cut short is finished: the copy that it made is in place");
    }
    report(&repaired, &dir, Some(&kept), as_json)
}

fn report(
    repaired: &Repaired,
    dir: &Path,
    kept: Option<&Path>,
    as_json: bool,
) -> Result<(), Failure> {
    let kept = kept.map(|kept| kept.display().to_string());
    let dir = dir.display().to_string();
    if as_json {
        let value = show::repaired(repaired, &dir, kept.as_deref());
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
