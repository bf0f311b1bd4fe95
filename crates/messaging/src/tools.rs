//! Offline tools for the directory of a buffer: look at it, dump it, repair it, adopt it.
//!
//! - [`inspect`]: counts, sizes, segments and corruption; reads every record and verifies it.
//! - [`dump`]: every readable record, one by one.
//! - [`repair`]: copies every valid record into a new directory.
//! - [`adopt`]: gives a restored copy an identity of its own.
//!
//! [`inspect`] and [`dump`] take no lock and write nothing, so they also work while a node runs on
//! the directory; [`holder`] and
//! [`Inspection::holder`] say so. [`repair`] and [`adopt`] refuse such a directory.
//!
//! Not here: words for people; whoever calls prints.

use std::path::PathBuf;

use crate::log::{OpenError, SegmentId};

mod change;
mod look;

pub use change::{Adopted, Repaired, adopt, repair};
pub use look::{Corruption, DumpedRecord, Holder, Inspection, SegmentInfo, dump, holder, inspect};

/// Why a tool did nothing, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The directory holds no log.
    #[error("{} holds no buffer: name the folder `buffer` inside the data folder", dir.display())]
    NotABuffer {
        /// The directory.
        dir: PathBuf,
    },
    /// The target of a repair has files.
    #[error("{} is not empty: name a folder that does not exist yet", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// The log cannot be read or written.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The directory changed while it was read.
    #[error(
        "segment {segment} changed while it was read: stop what writes to the folder, and try again"
    )]
    Changed {
        /// The segment.
        segment: SegmentId,
    },
}
