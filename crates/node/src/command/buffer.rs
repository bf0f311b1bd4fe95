//! `alys-stream buffer`: looks into the buffer of a node, and repairs it, offline.
//!
//! What a buffer is and how it is read belongs to the messaging layer; here are the words for it.

mod repair;
mod show;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use alys_stream_messaging::FileStorage;
use alys_stream_messaging::log::OpenError;
use alys_stream_messaging::tools::{self, Holder, Inspection, ToolError};
use clap::Subcommand;

use crate::failure::{EXIT_CODES, Exit, Failure};
use crate::output;

const AFTER_HELP: &str = "\
Examples:
  alys-stream buffer stat dev/node/data
  alys-stream buffer verify dev/node/data/buffer --json
  alys-stream buffer dump dev/node/data --unsettled | jq .kind_name
  alys-stream buffer repair dev/node/data --to repaired
  alys-stream buffer adopt dev/node/data

DIR is the data directory of a node, or the folder `buffer` in it.";

/// The folder of the buffer in a data directory.
const BUFFER: &str = "buffer";

#[derive(Debug, clap::Args)]
#[command(
    about = "Look into the buffer of a node, repair it, adopt a restored copy",
    long_about = "Works on the files of a buffer. `stat`, `verify` and `dump` write nothing and may be \
                  used while the node runs; `repair` and `adopt` need it to be stopped.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Counts, sizes, the oldest message, segments
    Stat(Dir),
    /// Read and check every byte; exit code 1 when something is damaged
    Verify(Dir),
    /// Print every readable record as JSON, one object per line
    Dump(Dump),
    /// Copy everything that is readable into a new directory
    Repair(repair::Args),
    /// Give a restored copy a new identity, so that peers accept what it sends
    Adopt(Dir),
}

#[derive(Debug, clap::Args)]
struct Dir {
    /// The data directory of a node, or the folder `buffer` in it
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Dump {
    #[command(flatten)]
    dir: Dir,
    /// Only what is not settled
    #[arg(long)]
    unsettled: bool,
    /// Payloads too, as hexadecimal
    #[arg(long)]
    payload: bool,
}

/// Does what is asked.
///
/// # Errors
///
/// When there is no buffer, it is damaged (`verify`), or the disk says no.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let Args { json, what } = args;
    match what {
        What::Stat(dir) => stat(&dir.path(), json),
        What::Verify(dir) => verify(&dir.path(), json),
        What::Dump(dump) => dump_all(&dump),
        What::Repair(args) => repair::run(&args, json),
        What::Adopt(dir) => adopt(&dir.path(), json),
    }
}

impl Dir {
    fn path(&self) -> PathBuf {
        let inside = self.dir.join(BUFFER);
        let is_inside = inside.is_dir() || tools::is_cut_short(&inside, &FileStorage);
        if is_inside { inside } else { self.dir.clone() }
    }
}

fn stat(dir: &Path, as_json: bool) -> Result<(), Failure> {
    let found = inspect(dir)?;
    if as_json {
        return output::line(format_args!("{:#}", show::json(&found)));
    }
    output::line(show::page(&found))
}

fn verify(dir: &Path, as_json: bool) -> Result<(), Failure> {
    let found = inspect(dir)?;
    if as_json {
        output::line(format_args!("{:#}", show::json(&found)))?;
    } else {
        for corruption in &found.corruption {
            output::line(show::corruption(corruption))?;
        }
    }
    if found.is_sound() {
        return if as_json { Ok(()) } else { output::line(show::sound(&found)) };
    }
    Err(Failure::other(show::unsound(&found)))
}

/// Reads everything, and says when damage may only be somebody who writes there meanwhile.
fn inspect(dir: &Path) -> Result<Inspection, Failure> {
    let found = tools::inspect(dir, &FileStorage).map_err(|error| failure(&error))?;
    if let (Holder::Process { pid }, false) = (found.holder, found.is_sound()) {
        let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
        output::note(format_args!(
            "warning: a process{pid} is using it: damage in the newest segment may be an entry that \
             is being written (look again)"
        ));
    }
    Ok(found)
}

/// Refuses a buffer with damage that no start has reported: whoever opens it sets the damage aside,
/// and the next start would take it for known. Reads everything, and writes nothing.
///
/// # Errors
///
/// When there is such damage, somebody has the buffer open, or it cannot be read.
pub(super) fn refuse_unreported(dir: &Path) -> Result<(), Failure> {
    let found = tools::inspect(dir, &FileStorage).map_err(|error| failure(&error))?;
    if let Holder::Process { pid } = found.holder {
        let locked = OpenError::Locked { dir: dir.to_path_buf(), pid };
        return Err(Failure::new(Exit::Io, locked));
    }
    if found.unreported().next().is_none() {
        return Ok(());
    }
    Err(Failure::other(show::unreported(&found)))
}

fn dump_all(dump: &Dump) -> Result<(), Failure> {
    let mut result = Ok(());
    let visited = tools::dump(&dump.dir.path(), &FileStorage, &mut |record| {
        if !(dump.unsettled && record.is_settled) {
            result = output::line(show::record(&record, dump.payload));
        }
        if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    visited.map_err(|error| failure(&error))?;
    result
}

fn adopt(dir: &Path, as_json: bool) -> Result<(), Failure> {
    let adopted = tools::adopt(dir, &FileStorage).map_err(|error| failure(&error))?;
    if as_json {
        return output::line(format_args!("{:#}", show::adopted(&adopted)));
    }
    output::line(format_args!(
        "{}: log {} is now log {}, epoch {}; {} unsettled messages will be sent under it",
        dir.display(),
        adopted.former,
        adopted.log_id,
        adopted.epoch.0,
        adopted.unsettled
    ))
}

fn failure(error: &ToolError) -> Failure {
    let exit = match error {
        ToolError::NotEmpty { .. } | ToolError::Kept { .. } => Exit::Usage,
        ToolError::NotABuffer { .. }
        | ToolError::NoCopy { .. }
        | ToolError::Open(_)
        | ToolError::Changed { .. } => Exit::Io,
    };
    Failure::new(exit, error)
}
