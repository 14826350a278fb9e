//! Where a server is: scheme, host and port.

use std::fmt;
use std::str::FromStr;

use crate::cli::exit::{Exit, Failure};

/// `http://host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    https: bool,
    host: String,
    port: u16,
}

impl Endpoint {
    /// Without brackets around an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS was asked for.
    pub fn is_https(&self) -> bool {
        self.https
    }

    /// `host:port`, as it stands in URLs and the Host header (without the scheme's own port, as clients do).
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.https, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl FromStr for Endpoint {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let odd = |what: &str| {
            Failure::new(Exit::Usage, format!("`{text}` is no endpoint: {what}"))
                .fix("write it as http://127.0.0.1:9000")
        };
        let (https, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((other, _)) => return Err(odd(&format!("scheme {other}"))),
            None => (false, text),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(odd("only scheme, host and port belong there"));
        }
        let default = if https { 443 } else { 80 };
        let (host, port) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
            Some((host, "")) => (host, default),
            Some((host, port)) => (
                host,
                port.strip_prefix(':')
                    .and_then(|p| p.parse().ok())
                    .ok_or_else(|| odd("port"))?,
            ),
            None => match rest.rsplit_once(':') {
                Some((host, port)) => (host, port.parse().map_err(|_| odd("port"))?),
                None => (rest, default),
            },
        };
        if host.is_empty() {
            return Err(odd("no host"));
        }
        Ok(Endpoint {
            https,
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "http{}://{}",
            if self.https { "s" } else { "" },
            self.authority()
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What people write, and what the Host header says then.
    #[test]
    fn endpoint_reads_what_people_write() {
        let parsed = |text: &str| text.parse::<Endpoint>().unwrap();
        assert_eq!(
            parsed("http://127.0.0.1:9000/").to_string(),
            "http://127.0.0.1:9000"
        );
        assert_eq!(parsed("localhost:9000").authority(), "localhost:9000");
        assert_eq!(parsed("http://example.org").authority(), "example.org");
        assert_eq!(parsed("http://[::1]:9000").host(), "::1");
        assert_eq!(parsed("http://[::1]:9000").authority(), "[::1]:9000");
        assert!(parsed("https://example.org").is_https());
        for odd in [
            "ftp://x",
            "http://",
            "http://x:port",
            "http://x/bucket",
            "http://a@b",
        ] {
            assert_eq!(
                odd.parse::<Endpoint>().unwrap_err().exit,
                Exit::Usage,
                "{odd}"
            );
        }
    }
}
