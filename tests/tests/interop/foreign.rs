//! A plain governance node in Python on one side, a node of ours on the other, a proxy between them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use alys_stream_testkit::proxy::Proxy;
use alys_stream_tests::deployment::{admin_of, mint};
use alys_stream_tests::process::Served;
use alys_stream_tests::python::{interpreter, program, protos};
use alys_stream_tests::submission::Client;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Lines of the peer that may wait to be looked at: more than any of these tests causes.
const LINES_MAX: usize = 16 * 1024;

/// A plain governance node in Python, and a node of ours that knows no other.
pub(crate) struct Foreign {
    pub(crate) proxy: Proxy,
    pub(crate) node: Served,
    pub(crate) client: Client,
    /// How the operator's commands reach the node.
    pub(crate) node_address: String,
    _folder: tempfile::TempDir,
    _python: Child,
    /// What the peer prints: read at once, since it waits while its pipe is full.
    requests: mpsc::Receiver<String>,
    _reader: JoinSet<()>,
}

/// A request as the peer received it.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) id: String,
    /// The number of its stream, from 1.
    pub(crate) stream: u64,
    /// When, in milliseconds of the peer's clock.
    pub(crate) at_ms: u64,
}

impl Foreign {
    pub(crate) async fn start(options: &[&str]) -> Self {
        let folder = mint(1);
        let root = folder.path().join("d");
        let (python, mut requests) = serve(&root, options);
        let first: Value =
            serde_json::from_str(&requests.next_line().await.unwrap().unwrap()).unwrap();
        let port = u16::try_from(first["port"].as_u64().unwrap()).unwrap();
        let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
        let address = proxy.address();
        let config = root.join("node/node.yaml");
        let text: String = std::fs::read_to_string(&config)
            .unwrap()
            .lines()
            .map(|line| match line.split_once("url: ") {
                Some((indent, _)) => format!("{indent}url: https://{address}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        std::fs::write(&config, text).unwrap();
        let mut node = Served::start("node", &config, &admin_of(&config));
        node.ready().await;
        let client = Client::new(root.join("node/node.sock"));
        let (lines, printed) = mpsc::channel(LINES_MAX);
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            while let Ok(Some(line)) = requests.next_line().await {
                if lines.send(line).await.is_err() {
                    return;
                }
            }
        });
        let node_address = format!("unix:{}", root.join("node/node.sock").display());
        Self {
            proxy,
            node,
            client,
            node_address,
            _folder: folder,
            _python: python,
            requests: printed,
            _reader: reader,
        }
    }

    /// Every request of one kind that the peer has received since the last call, up to the first one
    /// for which `is_last` holds.
    pub(crate) async fn arrivals(
        &mut self,
        kind: &str,
        mut is_last: impl FnMut(&Arrival) -> bool,
    ) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        loop {
            let line = self.requests.recv().await.expect("the peer goes on");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["kind"] != kind {
                continue;
            }
            let arrival = Arrival {
                id: line["request_id"].as_str().unwrap().to_owned(),
                stream: line["stream"].as_u64().unwrap(),
                at_ms: line["at_ms"].as_u64().unwrap(),
            };
            let is_last = is_last(&arrival);
            arrivals.push(arrival);
            if is_last {
                return arrivals;
            }
        }
    }

    /// The requests of one kind, until there are `count` different ones.
    pub(crate) async fn received(&mut self, kind: &str, count: usize) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        self.arrivals(kind, |arrival| {
            ids.insert(arrival.id.clone());
            ids.len() == count
        })
        .await;
        ids
    }
}

fn serve(root: &Path, options: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut python = Command::new(interpreter())
        .arg(program("server.py"))
        .arg("--proto")
        .arg(protos())
        .arg("--ca")
        .arg(root.join("ca/ca.pem"))
        .arg("--certificate")
        .arg(root.join("governance-1/tls.pem"))
        .arg("--key")
        .arg(root.join("governance-1/tls-key.pem"))
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let stdout = python.stdout.take().unwrap();
    (python, BufReader::new(stdout).lines())
}
