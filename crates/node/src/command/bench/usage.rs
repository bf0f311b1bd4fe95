//! What a process uses, as the system counts it.

use std::fs;

/// Ticks of `/proc` in a second: `USER_HZ`, which Linux keeps at 100 whatever it counts inside.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used so far; zeroes where the system does not say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Usage {
    /// Microseconds of the processor, in user and system mode.
    pub(super) cpu_us: u64,
    /// Resident now, in KiB.
    pub(super) rss_kib: u64,
    /// The most that was ever resident, in KiB.
    pub(super) peak_kib: u64,
}

impl Usage {
    /// Of the process with this id.
    pub(super) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
        };
        Self {
            cpu_us: cpu_us(pid).unwrap_or(0),
            rss_kib: kib("VmRSS:").unwrap_or(0),
            peak_kib: kib("VmHWM:").unwrap_or(0),
        }
    }

    /// Resident now, in MiB.
    pub(super) fn rss_mib(&self) -> f64 {
        mib(self.rss_kib)
    }

    /// The most that was ever resident, in MiB.
    pub(super) fn peak_mib(&self) -> f64 {
        mib(self.peak_kib)
    }
}

fn mib(kib: u64) -> f64 {
    (super::stats::float(kib) / 1024.0 * 10.0).round() / 10.0
}

fn cpu_us(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold spaces; it ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * 1_000_000 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        let usage = Usage::of(std::process::id());
        assert!(!cfg!(target_os = "linux") || usage.rss_mib() > 0.0 && usage.peak_mib() > 0.0);
    }
}
