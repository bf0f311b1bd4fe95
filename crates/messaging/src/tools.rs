//! Offline tools for the directory of a buffer: look at it, dump it, repair it, adopt it.
//!
//! - [`inspect`]: counts, sizes, segments and corruption; reads every record and verifies it.
//! - [`dump`]: every readable record, one by one.
//! - [`repair`]: copies every valid record into a new directory; [`repair_in_place`] has the copy
//!   take the place of the buffer.
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
mod in_place;
mod look;

pub use change::{Adopted, Repaired, adopt, repair};
pub use in_place::{RepairedInPlace, is_cut_short, repair_in_place};
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
    /// A buffer that was repaired in place before is still kept.
    #[error("{} exists: an earlier repair kept it (move it away first)", dir.display())]
    Kept {
        /// The directory.
        dir: PathBuf,
    },
    /// There is no buffer, and what is beside its place is not all that a repair needs.
    #[error(
        "{} is missing, and there is no whole copy of {}: rename that to it, and repair it again",
        dir.display(),
        kept.display()
    )]
    NoCopy {
        /// Where the buffer should be.
        dir: PathBuf,
        /// The damaged buffer.
        kept: PathBuf,
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
