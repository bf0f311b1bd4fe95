//! Processes of the binary under test.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

/// Longest time that anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The end of every head: one answer for each connection.
const CLOSING: &str = "Host: localhost\r\nConnection: close\r\n\r\n";

/// Pause between two looks at something that has no way to call back.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The binary under test, as built beside this one.
///
/// # Panics
///
/// When it was not built: `cargo build -p alys-stream-node`.
#[must_use]
pub fn binary() -> PathBuf {
    let here = std::env::current_exe().expect("a test has a path");
    let folder = here.ancestors().nth(2).expect("tests lie in a folder of the target folder");
    let binary = folder.join("alys-stream");
    assert!(binary.exists(), "build the binary first: cargo build -p alys-stream-node");
    binary
}

/// Runs the binary to its end.
///
/// # Panics
///
/// When it cannot be started.
pub fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    std::process::Command::new(binary())
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

/// What a process is started in.
#[derive(Debug, Clone, Default)]
pub struct Around {
    environment: Vec<(&'static str, OsString)>,
    /// Its network namespace, unless that of the test.
    network: Option<PathBuf>,
}

impl Around {
    /// With these variables too.
    pub(crate) const fn environment(environment: Vec<(&'static str, OsString)>) -> Self {
        Self { environment, network: None }
    }

    /// In the network namespace of this name.
    pub(crate) const fn network(name: PathBuf) -> Self {
        Self { environment: Vec::new(), network: Some(name) }
    }

    fn command(&self) -> Command {
        let Some(network) = &self.network else { return Command::new(binary()) };
        // It becomes the process itself.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", network.display())).arg("--").arg(binary());
        command
    }

    /// Connects to an address as whoever is in here does.
    async fn connect(&self, address: &str) -> io::Result<TcpStream> {
        let Some(network) = self.network.clone() else { return TcpStream::connect(address).await };
        let (address, (connected, connection)) = (address.to_owned(), oneshot::channel());
        // A socket belongs to where its thread is; this one goes there, and ends.
        std::thread::spawn(move || connected.send(connect_in(&network, &address)));
        let connection = connection.await.map_err(io::Error::other)??;
        connection.set_nonblocking(true)?;
        TcpStream::from_std(connection)
    }
}

fn connect_in(network: &Path, address: &str) -> io::Result<std::net::TcpStream> {
    let network = std::fs::File::open(network)?;
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    std::net::TcpStream::connect(address)
}

/// A process that serves until it is stopped; killed when dropped.
#[derive(Debug)]
pub struct Served {
    around: Around,
    args: Vec<String>,
    admin: String,
    log: PathBuf,
    child: Child,
    _stdin: Option<ChildStdin>,
}

impl Served {
    /// Starts a subcommand with a configuration file, its log beside that file.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(subcommand: &str, config: &Path, admin: &str) -> Self {
        Self::start_in(Around::default(), subcommand, config, admin)
    }

    /// The same, in something else than what the test is in.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start_in(around: Around, subcommand: &str, config: &Path, admin: &str) -> Self {
        let args = vec![
            subcommand.to_owned(),
            "--config".to_owned(),
            config.display().to_string(),
            "--exit-with-stdin".to_owned(),
        ];
        let log = config.with_extension("log");
        let (child, stdin) = spawn(&around, &args, &log);
        Self { around, args, admin: admin.to_owned(), log, child, _stdin: stdin }
    }

    /// Waits until its admin port says that it is ready.
    ///
    /// # Panics
    ///
    /// When it ends first, or takes longer than [`PATIENCE`].
    pub async fn ready(&mut self) {
        let waiting = async {
            while self.get("/readyz").await.is_none() {
                if let Ok(Some(status)) = self.child.try_wait() {
                    panic!("{:?} ended with {status}:\n{}", self.args, self.log());
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let done = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(done.is_ok(), "{:?} is not ready, see {}", self.args, self.log.display());
    }

    /// What it has written so far, over its restarts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its number.
    ///
    /// # Panics
    ///
    /// When it has ended.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// When the process cannot be waited for.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// SIGSTOP: it stands still, and its connections stay.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a number");
        kill_process(pid, signal).expect("it can be signalled");
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Starts it again after [`Served::kill`].
    pub fn restart(&mut self) {
        let (child, stdin) = spawn(&self.around, &self.args, &self.log);
        self.child = child;
        self._stdin = stdin;
    }

    /// Closes its standard input, which stops it politely, and waits for its end.
    ///
    /// # Panics
    ///
    /// When it does not end in time, or with an error.
    pub async fn stop(mut self) {
        drop(self._stdin.take());
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it stops in time").expect("it can be waited for");
        assert!(
            status.success(),
            "{:?} ended with {status}, see {}",
            self.args,
            self.log.display()
        );
    }

    /// A JSON document from its admin port.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn json(&self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(path).await).expect("it answers JSON")
    }

    /// What its admin port answers.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn text(&self, path: &str) -> String {
        self.get(path).await.expect("the admin port answers")
    }

    /// The body of a successful HTTP GET; `None` for anything else.
    async fn get(&self, path: &str) -> Option<String> {
        self.ask(&format!("GET {path} HTTP/1.1\r\n{CLOSING}")).await
    }

    /// The body of a successful answer; `None` for anything else.
    async fn ask(&self, request: &str) -> Option<String> {
        let mut stream = self.around.connect(&self.admin).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
    }

    /// Tells a governance node to misbehave, or to behave.
    ///
    /// # Panics
    ///
    /// When its admin port refuses.
    pub async fn misbehave(&self, how: &serde_json::Value) {
        let body = how.to_string();
        let length = body.len();
        let head = format!("POST /misbehave HTTP/1.1\r\nContent-Length: {length}\r\n");
        let answer = self.ask(&format!("{head}{CLOSING}{body}")).await;
        assert!(answer.is_some(), "{how} is refused");
    }
}

fn spawn(around: &Around, args: &[String], log: &Path) -> (Child, Option<ChildStdin>) {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
    let mut child = around
        .command()
        .args(args)
        .envs(around.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let stdin = child.stdin.take();
    (child, stdin)
}
