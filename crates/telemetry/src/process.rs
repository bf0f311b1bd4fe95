//! What the operating system says about this process, read at every scrape.
//!
//! Processor time and the limit of descriptors come from system calls. Memory and open
//! descriptors come from `/proc/self`; where there is none, those two series are absent, because
//! an absent series is honest and a zero is not.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of `/proc/self/statm`: seven numbers of at most twenty digits.
const STATM_BYTES_MAX: usize = 160;

/// Reads the process at every scrape.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        counter(
            &mut encoder,
            "alys_stream_process_cpu_seconds",
            "Processor time used, by the process and the kernel for it.",
            cpu_seconds(),
        )?;
        gauge(
            &mut encoder,
            "alys_stream_process_resident_memory_bytes",
            "Memory of the process that is in RAM.",
            resident_bytes(),
        )?;
        gauge(
            &mut encoder,
            "alys_stream_process_open_fds",
            "Open file descriptors, sockets among them.",
            open_fds(),
        )?;
        gauge(
            &mut encoder,
            "alys_stream_process_max_fds",
            "How many file descriptors the process may open.",
            getrlimit(Resource::Nofile).current,
        )
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let counter = ConstCounter::new(value);
    counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: Option<u64>,
) -> fmt::Result {
    let Some(value) = value else {
        return Ok(());
    };
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(used.tv_nsec).unwrap_or_default();
    std::time::Duration::new(seconds, nanos).as_secs_f64()
}

fn resident_bytes() -> Option<u64> {
    let file =
        rustix::fs::open("/proc/self/statm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .ok()?;
    let mut bytes = [0; STATM_BYTES_MAX];
    let length = rustix::io::read(&file, &mut bytes).ok()?;
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    resident_pages(bytes.get(..length)?)?.checked_mul(page_bytes)
}

/// The second number of `/proc/self/statm`.
fn resident_pages(statm: &[u8]) -> Option<u64> {
    std::str::from_utf8(statm).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn open_fds() -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open("/proc/self/fd", flags, Mode::empty()).ok()?;
    let entries = Dir::new(folder).ok()?.filter_map(Result::ok);
    let numbered = entries.filter(|entry| {
        entry.file_name().to_bytes() != b"." && entry.file_name().to_bytes() != b".."
    });
    // The descriptor that lists them is one of them.
    u64::try_from(numbered.count()).ok()?.checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statm_is_read_by_position() {
        assert_eq!(resident_pages(b"5000 321 200 1 0 300 0\n"), Some(321));
        assert_eq!(resident_pages(b"5000"), None);
        assert_eq!(resident_pages(b"5000 many"), None);
        assert_eq!(resident_pages(&[0xff, 0xfe]), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_descriptors() {
        assert!(resident_bytes().expect("statm") > 100_000);
        let before = open_fds().expect("descriptors");
        assert!(before >= 3, "{before}");
        assert!(cpu_seconds() > 0.0);
    }
}
