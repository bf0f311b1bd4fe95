//! `alys-stream dlq`: dead letters of a node, running or not.
//!
//! [`which`] says which letters are meant, [`source`] where they are, [`show`] how they look; the
//! subcommands are here.

mod export;
mod offline;
mod replay;
mod show;
mod source;
mod which;

use std::path::PathBuf;

use alys_stream_protocol::submission::LookPurpose;
use clap::Subcommand;

use super::send::DEFAULT_NODE;
use crate::failure::{EXIT_CODES, Failure};
use crate::output;
use crate::submission::Address;
use source::Source;
use which::{Filter, Which};

const AFTER_HELP: &str = "\
Examples:
  alys-stream dlq list
  alys-stream dlq list --cause refused --endpoint governance-1 --newer-than 2h --json
  alys-stream dlq show 17
  alys-stream dlq replay --cause refused --dry-run
  alys-stream dlq replay 17 18
  alys-stream dlq purge --older-than 30d --yes
  alys-stream dlq export --dir dev/node/data --output letters.jsonl";

/// What the table of `list` and of `--dry-run` is followed by when nothing matches.
const NOTHING: &str = "no dead letters match";

#[derive(Debug, clap::Args)]
#[command(
    about = "See dead letters, send them again, remove them",
    long_about = "Messages that were refused, whose deadline passed, or that made room for others, are dead \
                  letters: kept with their payload, the cause and every refusal. This lists them, has them accepted \
                  again under a new number and their old identifier, or removes them for good.\n\n\
                  Asks a running node; with --dir, works on the data directory of a node that does \
                  not run. Every action, looking included, is written to the node's log (target \
                  alys_stream::audit), or to audit.log in that directory.",
    after_help = format!("{AFTER_HELP}\n\n{EXIT_CODES}")
)]
pub(crate) struct Args {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The node's local interface: unix:PATH or HOST:PORT
    #[arg(long, global = true, value_name = "ADDRESS", env = "ALYS_STREAM_NODE",
          default_value = DEFAULT_NODE)]
    node: Address,
    /// Work on the data directory of a node that does not run
    #[arg(long, global = true, value_name = "DATA_DIR")]
    dir: Option<PathBuf>,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them, oldest first
    List(List),
    /// Show one with everything that is known of it
    Show(Show),
    /// Have their messages accepted again, and remove them once that is on disk
    Replay(Replay),
    /// Remove them for good
    Purge(Purge),
    /// Write them, payloads included, as JSON lines
    Export(Export),
}

#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Its number in the list
    id: u64,
}

#[derive(Debug, clap::Args)]
struct Replay {
    #[command(flatten)]
    which: Which,
    /// Change nothing; show what would be sent again
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
struct Purge {
    #[command(flatten)]
    which: Which,
    /// Change nothing; show what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    filter: Filter,
    /// Write to a new file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Does what is asked.
///
/// # Errors
///
/// When no node answers, the directory is in use or cannot be read, or something that was asked for
/// was not done.
pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let Args { place, what } = args;
    // What is wrong on the command line is said before anything is opened.
    if let What::Purge(purge) = &what {
        purge.which.check()?;
        if !purge.yes && !purge.dry_run && !output::is_answered() {
            return Err(Failure::usage(
                "purge: nobody is there to confirm it: standard input is not a terminal (add --yes)",
            ));
        }
    }
    if let What::Replay(replay) = &what {
        replay.which.check()?;
    }
    let mut source = Source::open(&place.node, place.dir.as_deref()).await?;
    let done = match what {
        What::List(list) => {
            let which = Which::of(list.filter);
            show_all(&mut source, &which, LookPurpose::Unspecified, place.json).await
        }
        What::Show(show) => show_one(&mut source, show.id, place.json).await,
        What::Replay(Replay { which, dry_run: true }) => {
            show_all(&mut source, &which, LookPurpose::Choose, place.json).await
        }
        What::Replay(replay) => replay::run(&mut source, &replay.which, place.json).await,
        What::Purge(Purge { which, dry_run: true, .. }) => {
            show_all(&mut source, &which, LookPurpose::Choose, place.json).await
        }
        What::Purge(purge) => purge_them(&mut source, &purge, place.json).await,
        What::Export(export) => {
            let which = Which::of(export.filter);
            export::run(&mut source, &which, export.output.as_deref(), place.json).await
        }
    };
    source.close().await;
    done
}

async fn show_all(
    source: &mut Source,
    which: &Which,
    purpose: LookPurpose,
    as_json: bool,
) -> Result<(), Failure> {
    let mut letters = which.letters(purpose);
    let mut table = show::Table::new();
    while let Some(page) = letters.next(source).await? {
        for letter in page {
            if as_json {
                output::line(show::json(&letter, false))?;
            } else {
                table.add(&letter);
            }
        }
    }
    if !as_json {
        if table.is_empty() {
            output::line(NOTHING)?;
        } else {
            output::line(&table)?;
        }
    }
    Ok(())
}

async fn show_one(source: &mut Source, id: u64, as_json: bool) -> Result<(), Failure> {
    let which = Which::one(id);
    let mut letters = which.letters(LookPurpose::Show);
    while let Some(page) = letters.next(source).await? {
        let Some(letter) = page.first() else {
            continue;
        };
        return if as_json {
            output::line(show::json(letter, true))
        } else {
            output::line(show::page(letter))
        };
    }
    Err(Failure::other(format_args!("there is no dead letter {id} (`dlq list` shows them)")))
}

async fn purge_them(source: &mut Source, purge: &Purge, as_json: bool) -> Result<(), Failure> {
    let ids = purge.which.ids(source, true).await?;
    if ids.is_empty() {
        return nothing_done("purged", as_json);
    }
    let question = format!("Remove {} dead letters for good?", ids.len());
    if !purge.yes && !output::confirm(question)? {
        return Err(Failure::other("nothing was removed"));
    }
    let purged = source.purge(&ids).await?;
    if as_json {
        output::line(serde_json::json!({ "purged": purged }))?;
    } else {
        output::line(format_args!("removed {purged} dead letters"))?;
    }
    // Those that a filter found may have been removed by somebody else meanwhile; those that were
    // named should have been there.
    let missing = purge.which.named().saturating_sub(purged);
    if missing > 0 {
        return Err(Failure::other(format_args!("{missing} of {} were not there", ids.len())));
    }
    Ok(())
}

fn nothing_done(key: &str, as_json: bool) -> Result<(), Failure> {
    if as_json { output::line(serde_json::json!({ key: 0 })) } else { output::line(NOTHING) }
}
