//! Peers that are not what they should be: each is named in the status, costs nobody else anything,
//! and loses nothing: once the right peer is there, it gets what was accepted meanwhile.

use std::path::Path;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_tests::deployment::{admin_of, listen_of, mint};
use alys_stream_tests::load;
use alys_stream_tests::process::{PATIENCE, Served};
use alys_stream_tests::submission::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Answers every connection with the same bytes, on the address of the governance node.
async fn answer_with(root: &Path, bytes: &'static [u8]) -> JoinSet<()> {
    let listener = TcpListener::bind(listen_of(&root.join("governance-1/governance.yaml")))
        .await
        .expect("the port is free");
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut first = [0; 64];
            // Whatever it was: the answer is the same.
            if stream.read(&mut first).await.is_ok() && stream.write_all(bytes).await.is_ok() {
                drop(stream.shutdown().await);
            }
        }
    });
    tasks
}

fn start_node(root: &Path) -> (Served, Client) {
    let config = root.join("node/node.yaml");
    let node = Served::start("node", &config, &admin_of(&config));
    (node, Client::new(root.join("node/node.sock")))
}

/// Waits until the only endpoint's last error contains `words`.
async fn blames(node: &Served, words: &str) {
    let look = async {
        loop {
            let status = node.json("/status").await;
            let error = status["endpoints"][0]["last_error"].as_str().unwrap_or("").to_owned();
            if error.contains(words) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(PATIENCE, look).await.is_err() {
        panic!("no error names {words:?}: {}", node.json("/status").await);
    }
}

/// A message that is accepted while the peer is wrong arrives once it is right.
async fn accepts(client: &Client) -> MessageId {
    let id = MessageId::mint();
    let pegin = load::pegin(&mut fastrand::Rng::with_seed(5), id);
    let accepted = client.submit(vec![pegin]).await.expect("accepted without any peer");
    assert_eq!(accepted.len(), 1);
    id
}

async fn delivers(root: &Path, node: Served, client: &Client, id: MessageId) {
    let config = root.join("governance-1/governance.yaml");
    let mut governance = Served::start("governance", &config, &admin_of(&config));
    governance.ready().await;
    let outcome = client.outcome(id).await;
    assert_eq!(outcome.state(), OutcomeState::Complete, "{}", outcome.reason);
    node.stop().await;
    governance.stop().await;
}

async fn wrong_bytes_are_blamed(bytes: &'static [u8], words: &str) {
    let folder = mint(1);
    let root = folder.path().join("d");
    let wrong = answer_with(&root, bytes).await;
    let (mut node, client) = start_node(&root);
    node.ready().await;
    let id = accepts(&client).await;
    blames(&node, words).await;
    drop(wrong);
    delivers(&root, node, &client, id).await;
}

#[tokio::test]
async fn a_peer_that_speaks_http_1_where_tls_is_expected() {
    wrong_bytes_are_blamed(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "TLS").await;
}

#[tokio::test]
async fn a_peer_that_speaks_garbage() {
    wrong_bytes_are_blamed(b"\x00\xff\x13\x37 is not a handshake", "TLS").await;
}

#[tokio::test]
async fn a_peer_that_speaks_http_1_in_plain_text() {
    let folder = mint(1);
    let root = folder.path().join("d");
    let config = root.join("node/node.yaml");
    let text = std::fs::read_to_string(&config).expect("a configuration");
    let address = listen_of(&root.join("governance-1/governance.yaml"));
    let plain = format!("url: http://{address}\n    insecure: plaintext");
    std::fs::write(&config, text.replace(&format!("url: https://{address}"), &plain))
        .expect("a configuration");
    let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    let _wrong = answer_with(&root, answer).await;
    let (mut node, client) = start_node(&root);
    node.ready().await;
    accepts(&client).await;
    blames(&node, "HTTP/1.1").await;
    node.kill().await;
}

#[tokio::test]
async fn a_peer_whose_certificate_is_of_another_authority() {
    let (folder, other) = (mint(1), mint(1));
    let (root, other) = (folder.path().join("d"), other.path().join("d"));
    let config = root.join("governance-1/governance.yaml");
    let right: Vec<_> = ["tls.pem", "tls-key.pem"]
        .map(|name| {
            let file = root.join("governance-1").join(name);
            let bytes = std::fs::read(&file).expect("minted");
            std::fs::copy(other.join("governance-1").join(name), &file).expect("copied");
            (file, bytes)
        })
        .into();
    let mut wrong = Served::start("governance", &config, &admin_of(&config));
    wrong.ready().await;
    let (mut node, client) = start_node(&root);
    node.ready().await;
    let id = accepts(&client).await;
    blames(&node, "certificate").await;
    wrong.stop().await;
    for (file, bytes) in right {
        std::fs::write(file, bytes).expect("restored");
    }
    delivers(&root, node, &client, id).await;
}
