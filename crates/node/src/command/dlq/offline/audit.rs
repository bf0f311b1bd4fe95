//! `audit.log` of a data directory: what was done there without a node, a line each.
//!
//! Invariant: what an action is about is on the disk before the action changes anything, so that one
//! that a crash ends leaves a line, too.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use alys_stream_actor::letters;
use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_protocol::time::{SystemClock, WallClock as _};

use crate::failure::Failure;
use crate::{moment, output};

/// Gets a line for every action.
const AUDIT_LOG: &str = "audit.log";

/// The file, which is made with its first line.
#[derive(Debug)]
pub(super) struct AuditLog {
    dir: PathBuf,
}

impl AuditLog {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// An action begins that is to change these letters.
    ///
    /// # Errors
    ///
    /// When that cannot be written down; then nothing may be changed.
    pub(super) fn begin(&self, action: &str, letters: &[DeadLetterId]) -> Result<(), Failure> {
        let named = letters::in_words(letters);
        self.write(&[format!("action={action} begun=true dead_letters={named:?}")]).map(drop)
    }

    /// It did not come to its end; gives the reason back.
    pub(super) fn fail(
        &self,
        action: &str,
        letters: &[DeadLetterId],
        done: usize,
        error: Failure,
    ) -> Failure {
        let (named, words) = (letters::in_words(letters), error.to_string());
        let line = format!("action={action} done={done} dead_letters={named:?} error={words:?}");
        // That it began is there, and that is not all that went wrong.
        if let Err(unwritten) = self.write(&[line]) {
            output::note(format_args!("warning: {unwritten}"));
        }
        error
    }

    /// Appends lines, and waits until they are on the disk; gives them back as they stand there.
    ///
    /// # Errors
    ///
    /// When they cannot be written.
    pub(super) fn write(&self, actions: &[String]) -> Result<Vec<String>, Failure> {
        let now = moment::utc(SystemClock.now());
        let lines: Vec<_> = actions.iter().map(|action| format!("{now} {action}")).collect();
        let path = self.dir.join(AUDIT_LOG);
        self.append(&path, &lines).map_err(|error| Failure::file("append to", &path, &error))?;
        Ok(lines)
    }

    fn append(&self, path: &Path, lines: &[String]) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        let is_new = file.metadata()?.len() == 0;
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        if is_new { File::open(&self.dir)?.sync_all() } else { Ok(()) }
    }
}
