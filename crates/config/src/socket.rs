//! Where a local interface is.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Unix socket (`unix:PATH`), or a host and a port (`HOST:PORT`, `[IPV6]:PORT`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SocketSpec {
    /// The file of a Unix socket.
    Unix(PathBuf),
    /// A TCP port.
    Tcp {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// 0 takes a free one.
        port: u16,
    },
}

/// A text that is no [`SocketSpec`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address (write unix:PATH or HOST:PORT)")]
pub struct InvalidSocket(String);

impl SocketSpec {
    /// Whether only this machine can reach it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }
}

impl FromStr for SocketSpec {
    type Err = InvalidSocket;

    fn from_str(text: &str) -> Result<Self, InvalidSocket> {
        parse(text).ok_or_else(|| InvalidSocket(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<SocketSpec> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return (!path.is_empty() && !path.contains('\0')).then(|| SocketSpec::Unix(path.into()));
    }
    let (host, port) = text.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bracketed {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        }
    };
    let port = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok())??;
    is_host.then(|| SocketSpec::Tcp { host: bracketed.unwrap_or(host).to_owned(), port })
}

impl TryFrom<String> for SocketSpec {
    type Error = InvalidSocket;

    fn try_from(text: String) -> Result<Self, InvalidSocket> {
        text.parse()
    }
}

impl From<SocketSpec> for String {
    fn from(socket: SocketSpec) -> Self {
        socket.to_string()
    }
}

impl fmt::Display for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable() {
        for (text, shown, local) in [
            ("unix:/run/a.sock", "unix:/run/a.sock", true),
            ("unix:///run/a.sock", "unix:/run/a.sock", true),
            ("unix:a.sock", "unix:a.sock", true),
            ("127.0.0.1:9600", "127.0.0.1:9600", true),
            ("localhost:0", "localhost:0", true),
            ("[::1]:9600", "[::1]:9600", true),
            ("[2001:db8::1]:9600", "[2001:db8::1]:9600", false),
            ("0.0.0.0:9600", "0.0.0.0:9600", false),
            ("node-1.example:9600", "node-1.example:9600", false),
        ] {
            let socket: SocketSpec = text.parse().unwrap();
            assert_eq!(socket.to_string(), shown);
            assert_eq!(socket.is_local(), local, "{text}");
            assert_eq!(shown.parse(), Ok(socket));
        }
    }

    #[test]
    fn unreadable() {
        for text in [
            "",
            "unix:",
            "unix://",
            "9600",
            ":9600",
            "host:port",
            "host:70000",
            "host:+1",
            "a/b:1",
            "::1:9600",
            "[::1:9600",
            "[host]:1",
            "http://a:1",
            "a b:1",
            "ünix:1",
        ] {
            assert!(text.parse::<SocketSpec>().is_err(), "{text}");
        }
    }
}
