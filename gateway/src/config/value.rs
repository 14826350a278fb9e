//! The types of single settings: addresses, secrets and choices, with their spelling in files, variables and flags.
//!
//! Always true:
//! * what `Display` writes, `FromStr` reads back;
//! * a `Secret` never prints itself, not in `Debug` and not through serde.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address to listen on: `IP:PORT`, `localhost:PORT`, or `:PORT` for every interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenAddr(pub SocketAddr);

impl ListenAddr {
    /// On 127.0.0.1.
    pub const fn loopback(port: u16) -> ListenAddr {
        ListenAddr(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }

    /// Host and port that a client on this machine can use: an unspecified address is replaced by the loopback one.
    pub fn for_clients(&self) -> String {
        let ip = match self.0.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, self.0.port()).to_string()
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("`{text}` has no port; write it as 127.0.0.1:9000"))?;
        let port: u16 = port
            .parse()
            .map_err(|_| format!("`{port}` is no port (0 to 65535)"))?;
        let ip = match host {
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .parse()
                .map_err(|_| {
                    format!("`{host}` is no IP address; use one of this machine's, or localhost")
                })?,
        };
        Ok(ListenAddr(SocketAddr::new(ip, port)))
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A secret given by the operator.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes it in.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(SecretString::from(text.into()))
    }

    /// Lets it out; the caller takes care where it goes.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        use subtle::ConstantTimeEq;
        self.expose()
            .as_bytes()
            .ct_eq(other.expose().as_bytes())
            .into()
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// Which engine holds the rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Engine {
    /// Sorted runs on disk under an overlay in memory.
    #[default]
    Native,
    /// Everything in memory, rebuilt from checkpoint and log at every start.
    Memory,
    /// sled, under an overlay in memory.
    Sled,
    /// RocksDB, under an overlay in memory; only in builds with the feature `rocksdb`.
    Rocksdb,
}

/// When a write is forced to disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fsync {
    /// Before it is acknowledged.
    #[default]
    Always,
    /// Every `fsync-interval-ms`.
    Interval,
    /// When the operating system likes.
    Never,
}

/// Where the certificate of the ports comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TlsMode {
    /// From `tls-cert` and `tls-key`; without them the ports speak plain http.
    #[default]
    Files,
    /// From a CA of our own.
    Auto,
}

/// What log lines look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LogFormat {
    /// `pretty` on a terminal, `json` otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// A choice is written as one word out of a fixed list; another word is refused with the list.
macro_rules! words {
    ($type:ident { $($word:literal => $variant:ident),+ $(,)? }) => {
        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($type::$variant),)+
                    other => Err(format!("`{other}` is not one of {}", [$($word),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $($type::$variant => $word,)+
                })
            }
        }
    };
}

words!(Engine { "native" => Native, "memory" => Memory, "sled" => Sled, "rocksdb" => Rocksdb });
words!(Fsync { "always" => Always, "interval" => Interval, "never" => Never });
words!(TlsMode { "files" => Files, "auto" => Auto });
words!(LogFormat { "auto" => Auto, "pretty" => Pretty, "json" => Json });

/// In files these types are strings.
macro_rules! as_string {
    ($($type:ident),+) => {
        $(
            impl Serialize for $type {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    serializer.collect_str(self)
                }
            }

            impl<'de> Deserialize<'de> for $type {
                fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                }
            }
        )+
    };
}

as_string!(ListenAddr, Engine, Fsync, TlsMode, LogFormat);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The spellings people use for an address, and what is open to the network.
    #[test]
    fn listen_address_says_who_can_reach_it() {
        let parsed = |text: &str| text.parse::<ListenAddr>().unwrap();
        assert!(parsed("127.0.0.1:9000").is_loopback());
        assert!(parsed("localhost:9000").is_loopback());
        assert!(parsed("[::1]:9000").is_loopback());
        assert!(parsed("[::ffff:127.0.0.1]:9000").is_loopback());
        assert!(!parsed(":9000").is_loopback());
        assert!(!parsed("0.0.0.0:9000").is_loopback());
        assert_eq!(parsed("0.0.0.0:9000").for_clients(), "127.0.0.1:9000");
        assert!("9000".parse::<ListenAddr>().is_err());
        assert!("example.org:9000".parse::<ListenAddr>().is_err());
    }

    /// A config that is logged must not give its secret away.
    #[test]
    fn secret_does_not_print() {
        let secret = Secret::new("very-secret-indeed");
        assert!(!format!("{secret:?}").contains("very"));
        assert!(!serde_json::to_string(&secret).unwrap().contains("very"));
    }
}
