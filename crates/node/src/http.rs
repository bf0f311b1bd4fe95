//! A GET over HTTP/1.0 without a body and without reuse: enough to read an admin port.
//!
//! HTTP/1.0 on purpose: the answer then ends with the connection, and needs no chunk decoding.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest time for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Why a GET has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    /// Nobody there, or the connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It took longer than the limit.
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    TimedOut,
    /// What came is not an HTTP answer.
    #[error("the answer is not HTTP")]
    NotHttp,
    /// The server said no.
    #[error("answered {code}: {body}")]
    Status {
        /// The HTTP status.
        code: u16,
        /// What it said.
        body: String,
    },
}

/// Fetches `path` from `address` (host and port).
///
/// # Errors
///
/// When there is no answer in time, or it is not a success.
pub(crate) async fn get(address: &str, path: &str) -> Result<String, GetError> {
    let bytes = tokio::time::timeout(ANSWER_MAX, fetch(address, path))
        .await
        .map_err(|_| GetError::TimedOut)??;
    parse(&bytes)
}

async fn fetch(address: &str, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn parse(answer: &[u8]) -> Result<String, GetError> {
    let text = std::str::from_utf8(answer).map_err(|_| GetError::NotHttp)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(GetError::NotHttp)?;
    let mut words = head.split_ascii_whitespace();
    let version = words.next().unwrap_or_default();
    let code: u16 = words.next().and_then(|word| word.parse().ok()).ok_or(GetError::NotHttp)?;
    if !version.starts_with("HTTP/1.") {
        return Err(GetError::NotHttp);
    }
    if !(200..300).contains(&code) {
        return Err(GetError::Status { code, body: body.trim().to_owned() });
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_answer_gives_its_body() {
        let body = parse(b"HTTP/1.0 200 OK\r\nx: y\r\n\r\n{}").unwrap();
        assert_eq!(body, "{}");
    }

    #[test]
    fn a_refusal_says_why() {
        let error = parse(b"HTTP/1.1 503 Service Unavailable\r\n\r\nbuffer full\n").unwrap_err();
        assert_eq!(error.to_string(), "answered 503: buffer full");
    }

    #[test]
    fn garbage_is_not_http() {
        for bytes in [&b"SSH-2.0-x\r\n\r\n"[..], b"", b"HTTP/1.1 abc\r\n\r\n", b"\xff\xfe"] {
            assert!(matches!(parse(bytes), Err(GetError::NotHttp)), "{bytes:?}");
        }
    }
}
