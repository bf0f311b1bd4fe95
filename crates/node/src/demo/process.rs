//! The processes of the demo: started, killed, started again, stopped politely.
//!
//! Invariant: none outlives the demo (P1). Each is killed when its [`Process`] is dropped, and stops
//! by itself when its standard input ends, which no crash of the demo can prevent.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use crate::failure::Failure;
use crate::http;

/// Longest time until a process must be ready.
const START_MAX: Duration = Duration::from_secs(30);

/// Pause between two looks at a process that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Longest time for a polite stop; then it is killed.
const STOP_MAX: Duration = Duration::from_secs(35);

/// A subcommand of this program in a process of its own.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    log: PathBuf,
    admin: String,
    child: Child,
    /// Held open: its end is what tells the process that the demo is gone (P1).
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts `subcommand --config config`; its log is appended to `log`.
    ///
    /// # Errors
    ///
    /// When the program or its log cannot be opened.
    pub(crate) fn start(
        name: &str,
        subcommand: &str,
        config: &Path,
        log: PathBuf,
        admin: String,
    ) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::other(format_args!("cannot find this program: {error}")))?;
        let args: Vec<OsString> =
            vec![subcommand.into(), "--config".into(), config.into(), "--exit-with-stdin".into()];
        let (child, stdin) = spawn(&program, &args, &log)?;
        Ok(Self { name: name.to_owned(), program, args, log, admin, child, _stdin: stdin })
    }

    /// Waits until its admin port says that it is ready.
    ///
    /// # Errors
    ///
    /// When it ends, or takes too long.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        let give_up = tokio::time::Instant::now() + START_MAX;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("ended with {status}")));
            }
            let Err(error) = http::get(&self.admin, "/readyz").await else {
                return Ok(());
            };
            if tokio::time::Instant::now() > give_up {
                let seconds = START_MAX.as_secs();
                return Err(self.failed(&format!("is not ready after {seconds} s: {error}")));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// `kill -9`; resolves when it is gone.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().await.map_err(|error| self.failed(&format!("cannot be killed: {error}")))
    }

    /// Starts it again after it ended.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub(crate) fn start_again(&mut self) -> Result<(), Failure> {
        let (child, stdin) = spawn(&self.program, &self.args, &self.log)?;
        self.child = child;
        self._stdin = stdin;
        Ok(())
    }

    /// Asks it to stop and waits. `false` when it had ended before, did not stop in time, or did
    /// not end well.
    pub(crate) async fn stop(mut self) -> bool {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let Some(id) = id else { return false };
        if kill_process(id, Signal::TERM).is_err() {
            return false;
        }
        match tokio::time::timeout(STOP_MAX, self.child.wait()).await {
            Ok(Ok(status)) => status.success(),
            // Dropping it kills it.
            Ok(Err(_)) | Err(_) => false,
        }
    }

    /// The id that the system gave it; 0 when it has ended.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Waits until it is gone, after somebody killed it.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub(crate) async fn gone(&mut self) -> Result<(), Failure> {
        let waited = self.child.wait().await;
        waited.map(drop).map_err(|error| self.failed(&format!("cannot be waited for: {error}")))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What a person should read about it: the end of its log.
    pub(crate) fn failed(&self, what: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rfind(|line| !line.is_empty()).unwrap_or("it logged nothing");
        Failure::other(format_args!("{} {what}: {last} (keep its log with --keep DIR)", self.name))
    }
}

fn spawn(
    program: &Path,
    args: &[OsString],
    log: &Path,
) -> Result<(Child, Option<ChildStdin>), Failure> {
    let stderr = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|error| Failure::file("open", log, &error))?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(stderr)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::file("start", program, &error))?;
    let stdin = child.stdin.take();
    Ok((child, stdin))
}
