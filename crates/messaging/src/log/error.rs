//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::SegmentId;

/// A directory that cannot be opened as a log. Each message is one line: what, where, the cure.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{} is in use by another process{}: stop it, or name another directory",
        dir.display(),
        pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that holds it, when it is known.
        pid: Option<u32>,
    },
    /// It cannot be created or written.
    #[error(
        "{} cannot be written: give this user the right to write there, or name another directory",
        path.display()
    )]
    NotWritable {
        /// The path.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// A newer version of this software wrote it.
    #[error(
        "{} has format version {found}, this program reads up to {}: use the newer program",
        path.display(),
        super::format::FORMAT_VERSION
    )]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A file belongs to another log.
    #[error("{} belongs to another log: move it out of the directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// Damage was found, and the configuration says to halt.
    #[error(
        "{} is damaged at offset {offset}: set on_corruption to quarantine to go on without it",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
    },
    /// A file that was there is gone, and the configuration says to halt.
    #[error(
        "{} is missing: bring it back, or set on_corruption to quarantine to go on without it",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing, and what was there seems to lie beside it.
    #[error(
        "{} is missing while {} is there: finish the repair that was cut short (`alys-stream buffer \
         repair {} --in-place`), or move that away to begin with an empty buffer",
        dir.display(),
        aside.display(),
        dir.display()
    )]
    Aside {
        /// Where it should be.
        dir: PathBuf,
        /// What is beside it.
        aside: PathBuf,
    },
    /// The disk is full.
    #[error("no space left for {}: free some", path.display())]
    DiskFull {
        /// The path.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Anything else that the file system said.
    #[error("{operation} {} did not work: check the disk", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The machine refused a thread.
    #[error("no thread for the log could be started: raise the limit of threads")]
    Thread(#[source] io::Error),
}

impl OpenError {
    /// Classifies what the file system said about `path`.
    pub(crate) fn from_io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        if crate::storage::is_storage_full(&source) {
            return Self::DiskFull { path, source };
        }
        if matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::NotADirectory
                | io::ErrorKind::AlreadyExists
        ) {
            return Self::NotWritable { path, source };
        }
        Self::Io { operation, path, source }
    }
}

/// Something that will not become durable.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DurabilityError {
    /// Writing failed, and so did writing again to a new file. The log takes nothing more.
    #[error("the log in {} cannot be written any more: check the disk and restart", dir.display())]
    Failed {
        /// The directory.
        dir: PathBuf,
        /// What the file system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The log was closed first.
    #[error("the log was closed before this became durable")]
    Closed,
}

/// An entry that cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its checksum does not hold, or its segment is gone.
    #[error(
        "the entry at offset {offset} of segment {segment} is damaged: it is lost, all others remain"
    )]
    Damaged {
        /// The segment.
        segment: SegmentId,
        /// Where in it.
        offset: u64,
    },
    /// The file system said no.
    #[error("segment {segment} cannot be read at offset {offset}: check the disk")]
    Io {
        /// The segment.
        segment: SegmentId,
        /// Where in it.
        offset: u64,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
}
