//! The address of an endpoint.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::Uri;
use serde::{Deserialize, Serialize};

/// `https://host[:port]` or `http://host[:port]`, and nothing after it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EndpointUrl {
    tls: bool,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
}

/// A URL that does not name an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// No URL at all.
    #[error("{0:?} is not a URL; expected https://host:port")]
    Syntax(String),
    /// Another scheme.
    #[error("{0:?} has no usable scheme; expected https://host:port")]
    Scheme(String),
    /// Something behind the port.
    #[error("{0:?} has a path or a query; expected https://host:port and nothing after it")]
    Path(String),
    /// A user in front of the host. The URL is not repeated: it may hold a password.
    #[error(
        "the URL holds a user name; credentials do not belong there, expected https://host:port"
    )]
    UserInfo,
    /// Port 0, or above 65535.
    #[error(
        "{0:?} has no usable port (1 to 65535); expected https://host:port with the port the peer \
         listens on"
    )]
    Port(String),
}

impl EndpointUrl {
    /// Whether it asks for TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; 443 or 80 when the text had none.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether the host is this machine, by address or as `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().map_or_else(
            |_| self.host.eq_ignore_ascii_case("localhost"),
            |address| address.is_loopback(),
        )
    }

    /// `host:port`, as an HTTP authority has it.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for EndpointUrl {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidUrl::Syntax(text.to_owned()))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(InvalidUrl::Scheme(text.to_owned())),
        };
        let authority = uri.authority().ok_or_else(|| InvalidUrl::Syntax(text.to_owned()))?;
        if authority.as_str().contains('@') {
            return Err(InvalidUrl::UserInfo);
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
            return Err(InvalidUrl::Path(text.to_owned()));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // A port that is no number is no authority either, but a dangling colon is.
        if host.is_empty() || authority.as_str().ends_with(':') {
            return Err(InvalidUrl::Syntax(text.to_owned()));
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if port == 0 {
            return Err(InvalidUrl::Port(text.to_owned()));
        }
        // `http` takes any digits for a port, and then says that there is none.
        let behind_host = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        if authority.port_u16().is_none() && !behind_host.is_empty() {
            return Err(InvalidUrl::Port(text.to_owned()));
        }
        Ok(Self { tls, host, port })
    }
}

impl TryFrom<String> for EndpointUrl {
    type Error = InvalidUrl;

    fn try_from(text: String) -> Result<Self, InvalidUrl> {
        text.parse()
    }
}

impl From<EndpointUrl> for String {
    fn from(url: EndpointUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(text: &str, expect: &Expect) {
        let shown = match text.parse::<EndpointUrl>() {
            Ok(url) => format!("{url} loopback={}", url.is_loopback()),
            Err(error) => error.to_string(),
        };
        expect.assert_eq(&shown);
    }

    #[test]
    fn urls_are_read_or_refused_with_the_cure() {
        check("https://gov.example:7443", &expect!["https://gov.example:7443 loopback=false"]);
        check("https://gov.example/", &expect!["https://gov.example:443 loopback=false"]);
        check("http://127.0.0.1:80", &expect!["http://127.0.0.1:80 loopback=true"]);
        check("https://[::1]:9", &expect!["https://[::1]:9 loopback=true"]);
        check(
            "gov.example:7443",
            &expect![[r#""gov.example:7443" has no usable scheme; expected https://host:port"#]],
        );
        check(
            "ftp://gov.example",
            &expect![[r#""ftp://gov.example" has no usable scheme; expected https://host:port"#]],
        );
        check(
            "https://gov.example/x",
            &expect![[
                r#""https://gov.example/x" has a path or a query; expected https://host:port and nothing after it"#
            ]],
        );
        check(
            "https://me:pw@gov.example",
            &expect![
                "the URL holds a user name; credentials do not belong there, expected https://host:port"
            ],
        );
        check(
            "https://gov.example:0",
            &expect![[
                r#""https://gov.example:0" has no usable port (1 to 65535); expected https://host:port with the port the peer listens on"#
            ]],
        );
        check(
            "https://127.0.0.1:99999",
            &expect![[
                r#""https://127.0.0.1:99999" has no usable port (1 to 65535); expected https://host:port with the port the peer listens on"#
            ]],
        );
        check(
            "https://gov.example:",
            &expect![[r#""https://gov.example:" is not a URL; expected https://host:port"#]],
        );
        check(
            "https://gov.example:99999",
            &expect![[
                r#""https://gov.example:99999" has no usable port (1 to 65535); expected https://host:port with the port the peer listens on"#
            ]],
        );
        check("no url", &expect![[r#""no url" is not a URL; expected https://host:port"#]]);
    }
}
