//! What a process holds, as the kernel counts it.

use std::fs;
use std::path::PathBuf;

/// What a process holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Open file descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
}

impl Footprint {
    /// What a process holds now.
    ///
    /// # Panics
    ///
    /// When there is no such process, or no `/proc`.
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let count = |name| fs::read_dir(folder.join(name)).expect("it runs").count();
        let status = fs::read_to_string(folder.join("status")).expect("it runs");
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kib| kib.parse().ok());
        Self {
            descriptors: count("fd"),
            threads: count("task"),
            resident_kib: resident.expect("the kernel counts resident memory"),
        }
    }
}
