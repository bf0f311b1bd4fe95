//! Runs the built program.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_alys-stream");

/// A finished run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn succeeded(&self) {
        assert_eq!(self.code, 0, "{self:?}");
    }
}

/// Runs it to its end.
pub(crate) fn alys<A: AsRef<OsStr>>(args: impl AsRef<[A]>) -> Run {
    let output = Command::new(PROGRAM)
        .args(args.as_ref())
        .env_remove("ALYS_STREAM_NODE")
        .env_remove("ALYS_STREAM_ADMIN")
        .stdin(Stdio::null())
        .output()
        .expect("the program runs");
    Run {
        code: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout).expect("output is text"),
        stderr: String::from_utf8(output.stderr).expect("errors are text"),
    }
}

/// The last line of `stderr` is the error: one line, with all of `parts`, and nothing of Rust's own.
#[track_caller]
pub(crate) fn check_error(run: &Run, code: i32, parts: &[&str]) {
    assert_eq!(run.code, code, "{run:?}");
    let errors: Vec<&str> = run.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors.as_slice() else { panic!("one error line: {run:?}") };
    for part in parts {
        assert!(error.contains(part), "{part:?} in {error:?}");
    }
    for foreign in ["panicked", "RUST_BACKTRACE", "Os {", "Some(", "Error {"] {
        assert!(!run.stderr.contains(foreign), "{foreign:?} in {run:?}");
    }
}

/// The files of `init` in a temporary folder.
#[derive(Debug)]
pub(crate) struct Federation {
    dir: tempfile::TempDir,
}

impl Federation {
    pub(crate) fn init() -> Self {
        Self::init_with(&[])
    }

    pub(crate) fn init_with(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("alys-").tempdir().expect("a temporary folder");
        let federation = Self { dir };
        let folder = federation.path("");
        let mut args = vec!["init", "--free-ports", "--dir", &folder];
        args.extend(options);
        alys(args).succeeded();
        federation
    }

    pub(crate) fn path(&self, name: &str) -> String {
        let path: PathBuf = self.dir.path().join("f").join(name);
        path.to_str().expect("temporary folders have plain names").to_owned()
    }

    pub(crate) fn node_config(&self) -> String {
        self.path("node/node.yaml")
    }

    /// How `--node` names the node of these files.
    pub(crate) fn submission(&self) -> String {
        format!("unix:{}", self.path("node/node.sock"))
    }

    /// What follows `key` on its line.
    pub(crate) fn value(&self, name: &str, key: &str) -> String {
        let text = std::fs::read_to_string(self.path(name)).expect("the file is there");
        let (_, rest) = text.split_once(key).expect("the key is there");
        rest.lines().next().unwrap_or_default().to_owned()
    }

    /// Replaces the first `from`.
    pub(crate) fn edit(&self, name: &str, from: &str, to: &str) {
        let path = self.path(name);
        let text = std::fs::read_to_string(&path).expect("the file is there");
        assert!(text.contains(from), "{from:?} in {text}");
        std::fs::write(&path, text.replacen(from, to, 1)).expect("the file can be written");
    }
}

/// A run that goes on until its standard input is closed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    log: BufReader<std::process::ChildStderr>,
}

impl Running {
    /// Starts it and waits until it has logged `word`.
    pub(crate) fn start(args: &[&str], word: &str) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdin = child.stdin.take();
        let log = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let mut running = Self { child, stdin, log };
        running.logged(word);
        running
    }

    /// Starts the node of `federation`.
    pub(crate) fn node(federation: &Federation) -> Self {
        Self::start(
            &["node", "--exit-with-stdin", "--config", &federation.node_config()],
            "the node runs",
        )
    }

    /// Reads the log up to a line with `word`; what it read.
    #[track_caller]
    pub(crate) fn logged(&mut self, word: &str) -> String {
        let mut log = String::new();
        while !log.contains(word) {
            let read = self.log.read_line(&mut log).expect("the log is text");
            assert!(read > 0, "{word:?} was never logged: {log}");
        }
        log
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Sends SIGTERM and waits; its exit code.
    pub(crate) fn terminate(self) -> Option<i32> {
        self.signalled(Signal::TERM)
    }

    /// Sends SIGINT, as Ctrl-C does, and waits; its exit code.
    pub(crate) fn interrupt(self) -> Option<i32> {
        self.signalled(Signal::INT)
    }

    /// Sends SIGHUP, and reads the log up to a line with `word`; what it read.
    #[track_caller]
    pub(crate) fn hang_up(&mut self, word: &str) -> String {
        self.signal(Signal::HUP);
        self.logged(word)
    }

    fn signalled(self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.ended()
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("it has an id"), signal).expect("it runs");
    }

    /// Closes its standard input and waits; its exit code.
    pub(crate) fn close(mut self) -> Option<i32> {
        drop(self.stdin.take());
        self.ended()
    }

    fn ended(mut self) -> Option<i32> {
        // Its log is read to the end, so that it never waits for a reader.
        std::io::copy(&mut self.log, &mut std::io::sink()).expect("the log ends");
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
