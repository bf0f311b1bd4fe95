//! The one function that Rust programs ask for wall time, before that of the C library.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use libc::{c_int, clockid_t, timespec};

/// Names the file: eight bytes, nanoseconds to add, in the byte order of the machine.
const VARIABLE: &str = "ALYS_STREAM_TEST_CLOCK";

const NANOS_PER_SECOND: i64 = 1_000_000_000;

static OFFSET: OnceLock<Option<&'static AtomicI64>> = OnceLock::new();

/// As that of the C library, moved.
///
/// # Safety
///
/// `at` is valid for a write, or null.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn clock_gettime(clock: clockid_t, at: *mut timespec) -> c_int {
    // SAFETY: the caller upholds what this call of the system asks for, and the kernel checks it.
    let outcome = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, at) };
    if outcome != 0 {
        return -1;
    }
    let is_wall_time = clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_COARSE;
    // SAFETY: the kernel has just written there, so it is no null and nobody else's.
    if is_wall_time && let Some(at) = unsafe { at.as_mut() } {
        let nanos = at.tv_nsec + offset();
        at.tv_sec += nanos.div_euclid(NANOS_PER_SECOND);
        at.tv_nsec = nanos.rem_euclid(NANOS_PER_SECOND);
    }
    0
}

fn offset() -> i64 {
    let offset = OFFSET.get_or_init(map);
    offset.map_or(0, |offset| offset.load(Ordering::Relaxed))
}

/// The file of the environment, mapped for as long as the process lives.
fn map() -> Option<&'static AtomicI64> {
    let path = CString::new(std::env::var_os(VARIABLE)?.as_bytes()).ok()?;
    // SAFETY: a string that ends with zero.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return None;
    }
    let length = size_of::<AtomicI64>();
    // SAFETY: a new mapping, which overlaps nothing.
    let mapped =
        unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_SHARED, file, 0) };
    // SAFETY: it is ours, and a mapping outlives the file that it was made from.
    unsafe { libc::close(file) };
    if mapped == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: a page, so aligned; mapped until the process ends; read atomically, because the test
    // writes to it meanwhile. The test makes the file with its eight bytes before it starts us.
    Some(unsafe { &*mapped.cast::<AtomicI64>() })
}
