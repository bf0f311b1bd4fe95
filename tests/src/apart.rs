//! Tests that run in namespaces of their own: what they mount and what they do to networks is nobody
//! else's, and is gone with them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// Is there in the process that is apart.
const VARIABLE: &str = "ALYS_STREAM_TEST_IS_APART";

/// How there are namespaces to be had: as root of the machine, or as root of a user namespace.
const WAYS: [&[&str]; 2] =
    [&["--mount", "--net"], &["--mount", "--net", "--user", "--map-root-user"]];

/// Runs a test again, by its name in its binary, in mount and network namespaces of its own.
///
/// Where there are none, or where the test finds that something else that it needs is missing, the
/// reason is printed and the test passes.
///
/// # Panics
///
/// When the test fails.
#[expect(clippy::print_stdout, reason = "reasons are shown")]
pub fn apart<F: Future<Output = Result<(), String>>>(name: &str, test: impl FnOnce() -> F) {
    let done = if std::env::var_os(VARIABLE).is_some() {
        inside(test)
    } else {
        way().map(|way| outside(way, name))
    };
    if let Err(reason) = done {
        println!("skipped: {reason}");
    }
}

fn inside<F: Future<Output = Result<(), String>>>(test: impl FnOnce() -> F) -> Result<(), String> {
    // A new network namespace has a loopback interface that is down.
    command("ip", &["link", "set", "lo", "up"])?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(test())
}

#[expect(clippy::print_stdout, reason = "what the test says is shown")]
fn outside(way: &[&str], name: &str) {
    let binary = std::env::current_exe().expect("a test has a path");
    let mut child = Command::new("unshare")
        .args(way)
        .arg("--")
        .arg(binary)
        .args(["--exact", name, "--nocapture"])
        .env(VARIABLE, "")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it was there just now");
    // A name that no test has would pass too.
    let mut is_passed = false;
    for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("tests write text");
        is_passed |= line.starts_with("test result: ok. 1 passed");
        println!("{line}");
    }
    let status = child.wait().expect("it ends");
    assert!(status.success() && is_passed, "{name} ended with {status} in its namespaces");
}

/// The first way that this machine allows; what it says to each, otherwise.
fn way() -> Result<&'static [&'static str], String> {
    let mut reasons = Vec::new();
    for way in WAYS {
        match command("unshare", &[way, &["--", "true"]].concat()) {
            Ok(()) => return Ok(way),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(reasons.join("; "))
}

/// Runs a command of the system.
///
/// # Errors
///
/// What it says when it fails, or that it is not there.
pub fn command(program: &str, args: &[&str]) -> Result<(), String> {
    let said = |error: String| format!("`{program} {}`: {error}", args.join(" "));
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| said(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(said(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
