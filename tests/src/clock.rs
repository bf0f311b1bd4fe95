//! Wall clocks of processes that tests set at any time, as `settimeofday` would on a machine of the
//! process's own: wall time moves, intervals stay true.
//!
//! The binary has no seam for it: a shared object (`tests/clock`) is preloaded, and adds to what the
//! kernel says an offset that it reads from a file. Files keep the times that the kernel gives them.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};

use crate::process::Around;

/// What the shared object finds its file by.
const VARIABLE: &str = "ALYS_STREAM_TEST_CLOCK";

/// Built beside the tests, because they depend on it.
const SHARED_OBJECT: &str = "libalys_stream_test_clock.so";

/// How far a clock is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skew {
    /// It is right.
    None,
    /// It shows a later time.
    Ahead(Duration),
    /// It shows an earlier time.
    Behind(Duration),
}

/// The wall clock of a process, over its restarts.
#[derive(Debug)]
pub struct Clock {
    path: PathBuf,
    file: File,
    skew: Skew,
}

impl Clock {
    /// A clock that is right, told to its process by a new file.
    ///
    /// # Errors
    ///
    /// Why clocks of processes cannot be set here.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn try_new(path: &Path) -> Result<Self, String> {
        if !cfg!(target_os = "linux") {
            return Err("only on Linux is there something to preload".to_owned());
        }
        if !shared_object().exists() {
            return Err(format!("{} was not built", shared_object().display()));
        }
        let file = File::create_new(path).expect("a file for the offset");
        let mut this = Self { path: path.to_owned(), file, skew: Skew::None };
        this.set(Skew::None);
        Ok(this)
    }

    /// Sets it, from the next look at it on.
    ///
    /// # Panics
    ///
    /// When the file cannot be written, or after 292 years.
    pub fn set(&mut self, skew: Skew) {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).expect("292 years at most");
        let offset = match skew {
            Skew::None => 0,
            Skew::Ahead(time) => nanos(time),
            Skew::Behind(time) => -nanos(time),
        };
        // One write of eight aligned bytes: whoever reads sees all of it, or nothing yet.
        self.file.write_all_at(&offset.to_ne_bytes(), 0).expect("the offset can be written");
        self.skew = skew;
    }

    /// How far it is off.
    #[must_use]
    pub const fn skew(&self) -> Skew {
        self.skew
    }

    /// What it shows now.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        let now = SystemClock.now();
        match self.skew {
            Skew::None => now,
            Skew::Ahead(time) => now.saturating_add(time),
            Skew::Behind(time) => UnixMillis(now.0.saturating_sub(millis(time))),
        }
    }

    /// What a process is started in that goes by it.
    #[must_use]
    pub fn around(&self) -> Around {
        let file = self.path.clone().into_os_string();
        Around::environment(vec![("LD_PRELOAD", shared_object().into()), (VARIABLE, file)])
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("292 years at most")
}

fn shared_object() -> PathBuf {
    let here = std::env::current_exe().expect("a test has a path");
    here.with_file_name(SHARED_OBJECT)
}
