//! An end of a link in a process of its own: orders go in as lines of JSON, answers come out.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;

use super::load::Load;
use super::pace::Pace;
use super::usage::Usage;
use crate::failure::Failure;
use crate::output;

/// Longest wait for an answer beyond what the order itself takes.
const ANSWER_MAX: Duration = Duration::from_secs(1800);

/// Orders that wait; they come one after the other.
const ORDERS_MAX: usize = 4;

/// What the end is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Load: answered with [`super::load::Loaded`].
    Load(Load),
    /// A steady rate: answered with [`super::pace::Paced`].
    Pace(Pace),
    /// Messages that are accepted and not waited for: answered with [`super::load::Loaded`].
    Fill { messages: u64, payload: usize },
    /// Messages of the memory class: answered with how many were offered.
    Blast(Load),
    /// Wait until nothing is owed: answered with [`super::load::Loaded`].
    Drain,
    /// Wait until so many endpoints are up: answered with how long it took.
    AwaitUp { endpoints: usize },
    /// Kill the process behind the endpoint with the most under way, while load is on: answered with
    /// [`super::failover::Struck`].
    Strike { pids: Vec<u32>, rate: u32, payload: usize },
    /// What was heard of halts since the last time: answered with [`super::halt::Heard`].
    Heard,
    /// How it is: answered with [`Stat`].
    Stat,
}

/// How an end is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Stat {
    /// Messages accepted.
    pub(super) accepted: u64,
    /// Their identifiers, combined in two ways that do not depend on the order.
    pub(super) ids: Digest,
    /// Accepted and not acknowledged.
    pub(super) owed: u64,
    /// Messages that became dead letters.
    pub(super) dead: u64,
    /// How often its log synced, and for how many entries.
    pub(super) syncs: u64,
    pub(super) synced: u64,
    /// Seconds spent in those.
    pub(super) sync_seconds: f64,
}

/// A set of identifiers in two numbers that do not depend on their order: a message that is missing,
/// or there twice, changes the sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digest {
    high: u64,
    low: u64,
}

impl Digest {
    /// Adds one.
    pub(super) fn add(&mut self, id: &[u8; 16]) {
        let number = u128::from_be_bytes(*id);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
        let (high, low) = ((number >> 64) as u64, number as u64);
        self.high = self.high.wrapping_add(high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low);
        self.low = self.low.wrapping_add(low.wrapping_mul(0xc2b2_ae3d_27d4_eb4f) ^ high);
    }

    /// Adds all of another.
    pub(super) const fn merge(&mut self, other: Self) {
        self.high = self.high.wrapping_add(other.high);
        self.low = self.low.wrapping_add(other.low);
    }
}

/// The end as its parent sees it.
#[derive(Debug)]
pub(super) struct End {
    name: &'static str,
    pid: u32,
    log: PathBuf,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl End {
    /// Starts `bench KIND ARGS` and waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or ends before it is ready.
    pub(super) async fn start(
        name: &'static str,
        args: Vec<OsString>,
        log: &Path,
    ) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::other(format_args!("the process for the {name}: {why}"))
        };
        let stderr = OpenOptions::new().create(true).append(true).open(log);
        let stderr = stderr.map_err(|error| Failure::file("open", log, &error))?;
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut child = Command::new(program)
            .arg("bench")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(&error))?;
        let missing = || failed(&"it has no pipes");
        let orders = child.stdin.take().ok_or_else(missing)?;
        let answers = child.stdout.take().ok_or_else(missing)?;
        let pid = child.id().ok_or_else(missing)?;
        let answers = BufReader::new(answers).lines();
        let mut end = Self { name, pid, log: log.to_owned(), child, orders, answers };
        end.answer::<String>().await?;
        Ok(end)
    }

    /// Has it do something.
    ///
    /// # Errors
    ///
    /// When it does not succeed, or takes far too long.
    pub(super) async fn ask<T: DeserializeOwned>(&mut self, order: &Order) -> Result<T, Failure> {
        let mut line = serde_json::to_string(order).map_err(|error| self.failed(&error))?;
        line.push('\n');
        let written = self.orders.write_all(line.as_bytes()).await;
        if let Err(error) = written {
            return Err(self.failed(&error));
        }
        self.answer().await
    }

    async fn answer<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let line = tokio::time::timeout(ANSWER_MAX, self.answers.next_line()).await;
        match line {
            Err(_) => Err(self.failed(&"it does not answer")),
            Ok(Err(error)) => Err(self.failed(&error)),
            Ok(Ok(None)) => Err(self.failed(&"it ended")),
            Ok(Ok(Some(line))) => serde_json::from_str(&line).map_err(|error| self.failed(&error)),
        }
    }

    /// What it uses.
    pub(super) fn usage(&self) -> Usage {
        Usage::of(self.pid)
    }

    /// Lets it close what it has, and waits for its end.
    pub(super) async fn stop(mut self) {
        drop(self.orders);
        if tokio::time::timeout(ANSWER_MAX, self.child.wait()).await.is_err() {
            drop(self.child.kill().await);
        }
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
        Failure::other(format_args!("the process for the {}: {why}; last said: {last}", self.name))
    }
}

/// The orders of the parent, in the process of the end; they end with it.
#[derive(Debug)]
pub(super) struct Orders(mpsc::Receiver<Order>);

impl Orders {
    /// Says that the end is ready, and reads on.
    ///
    /// # Errors
    ///
    /// When standard output is closed, or a thread cannot be started.
    pub(super) fn begin() -> Result<Self, Failure> {
        let (send, orders) = mpsc::channel(ORDERS_MAX);
        // A thread, not a task: its read must not hold up the end of the process.
        std::thread::Builder::new()
            .name("orders".to_owned())
            .spawn(move || {
                for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                    let Ok(order) = serde_json::from_str(&line) else { return };
                    if send.blocking_send(order).is_err() {
                        return;
                    }
                }
            })
            .map_err(|error| Failure::other(format_args!("a thread for orders: {error}")))?;
        answer(&"ready")?;
        Ok(Self(orders))
    }

    /// The next one; `None` when the parent has no more.
    pub(super) async fn next(&mut self) -> Option<Order> {
        self.0.recv().await
    }
}

/// Answers an order.
///
/// # Errors
///
/// When standard output is closed.
pub(super) fn answer(value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(value);
    output::line(line.map_err(|error| Failure::other(format_args!("an answer: {error}")))?)
}

/// An order that this end does not take: the parent is of another version.
pub(super) fn unknown(order: &Order) -> Failure {
    Failure::usage(format_args!("this end cannot do {order:?}"))
}
