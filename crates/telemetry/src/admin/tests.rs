//! The port over a real socket.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use expect_test::{Expect, expect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;

#[derive(Default)]
struct Source {
    full: AtomicBool,
    metrics: Arc<Metrics>,
}

impl AdminSource for Source {
    fn status(&self) -> Value {
        json!({ "endpoints": [] })
    }

    fn ready(&self) -> Result<(), String> {
        if self.full.load(Ordering::Relaxed) {
            return Err("the buffer is full".to_owned());
        }
        Ok(())
    }

    fn config(&self) -> Value {
        json!({ "node": { "id": "node-1" } })
    }

    fn refresh(&self) {
        self.metrics.in_flight("gov-1", 5);
    }
}

struct Port {
    address: SocketAddr,
    source: Arc<Source>,
    stop: oneshot::Sender<()>,
    tasks: JoinSet<io::Result<()>>,
}

impl Port {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let source = Arc::new(Source::default());
        let (stop, stopped) = oneshot::channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(
            listener,
            Arc::clone(&source.metrics),
            Arc::clone(&source),
            async move { drop(stopped.await) },
        ));
        Self { address, source, stop, tasks }
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let request = format!("{request}Host: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    async fn check(&self, path: &str, expected: Expect) {
        let answer = self.ask(&format!("GET {path} HTTP/1.1\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        expected.assert_eq(&format!("{}: {}", head.lines().next().expect("a line"), body.trim()));
    }
}

#[tokio::test]
async fn every_path_answers() {
    let port = Port::open().await;
    port.check("/healthz", expect!["HTTP/1.1 200 OK: alive"]).await;
    port.check("/health", expect!["HTTP/1.1 200 OK: alive"]).await;
    port.check("/readyz", expect!["HTTP/1.1 200 OK: ready"]).await;
    port.source.full.store(true, Ordering::Relaxed);
    port.check(
        "/ready",
        expect!["HTTP/1.1 503 Service Unavailable: not ready: the buffer is full"],
    )
    .await;
    port.check("/status", expect![[r#"HTTP/1.1 200 OK: {"endpoints":[]}"#]]).await;
    port.check("/config", expect![[r#"HTTP/1.1 200 OK: {"node":{"id":"node-1"}}"#]]).await;
    port.check(
        "/version",
        expect![[r#"HTTP/1.1 200 OK: {"name":"alys-stream","version":"0.1.0"}"#]],
    )
    .await;
    port.check("/etc/passwd", expect!["HTTP/1.1 404 Not Found: not found: try /metrics, /healthz, /readyz, /status, /config or /version"]).await;
    let refused = port.ask("POST /status HTTP/1.1\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 405"), "{refused}");
}

#[tokio::test]
async fn a_scrape_is_fresh_and_in_the_format_asked_for() {
    let port = Port::open().await;
    let text = port.ask("GET /metrics HTTP/1.1\r\n").await;
    assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
    assert!(text.contains("# TYPE alys_stream_gaps_total counter\n"), "{text}");
    assert!(text.contains("alys_stream_in_flight_messages{endpoint=\"gov-1\"} 5\n"), "{text}");
    let asked = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n";
    let text = port.ask(asked).await;
    assert!(text.contains("content-type: application/openmetrics-text"), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_client_that_says_nothing() {
    let mut port = Port::open().await;
    port.check("/healthz", expect!["HTTP/1.1 200 OK: alive"]).await;
    let _silent = TcpStream::connect(port.address).await.expect("a connection");
    drop(port.stop);
    let ended = port.tasks.join_next().await.expect("a task").expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
    assert!(TcpStream::connect(port.address).await.is_err());
}
