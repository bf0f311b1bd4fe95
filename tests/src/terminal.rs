//! A terminal with somebody in front of it who types, for commands that ask.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::process::binary;

/// What came of a command on a terminal.
#[derive(Debug)]
pub struct Shown {
    /// Its exit code.
    pub code: Option<i32>,
    /// All that the terminal showed, what was typed included.
    pub screen: String,
}

/// Runs the binary on a terminal, on which `typed` is typed.
///
/// # Panics
///
/// When there are no terminals here, or the binary does not start.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>, typed: &str) -> Shown {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("it is ours");
    unlockpt(&ours).expect("it can be opened");
    let name = ptsname(&ours, Vec::new()).expect("it has a name");
    let theirs = || {
        let path = OsStr::from_bytes(name.as_bytes());
        let file = OpenOptions::new().read(true).write(true).open(path);
        Stdio::from(file.expect("its other side"))
    };
    let mut child = Command::new(binary())
        .args(args)
        .stdin(theirs())
        .stdout(theirs())
        .stderr(theirs())
        .spawn()
        .expect("the binary starts");
    let mut ours = File::from(ours);
    ours.write_all(typed.as_bytes()).expect("it can be typed on");
    let mut screen = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match ours.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => screen.extend_from_slice(bytes.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The other side is closed: the kernel says EIO.
            Err(_) => break,
        }
    }
    let status = child.wait().expect("it ends");
    Shown { code: status.code(), screen: String::from_utf8_lossy(&screen).into_owned() }
}
