//! Why a configuration was refused. Every message says what is wrong, where it stands, and what to write instead.

use std::io;
use std::path::PathBuf;

use super::sources::Origin;

/// Ends the process with exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the config file {path}: {cause}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not valid TOML: {what}")]
    NotToml {
        /// Which file.
        path: PathBuf,
        /// The parser's words, with line and column.
        what: String,
    },
    /// A key that nobody reads: better an error now than a setting that silently does nothing.
    #[error("{origin}: unknown key `{key}`{}", did_you_mean(nearest))]
    UnknownKey {
        /// As it stands there.
        key: String,
        /// Where.
        origin: Origin,
        /// What was probably meant.
        nearest: Option<String>,
    },
    /// A value that its setting cannot take.
    #[error("{origin}: `{key}` cannot be {value}: {what}")]
    BadValue {
        /// The setting.
        key: String,
        /// The value, unless it is a secret.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// Why not.
        what: String,
    },
    /// A `…_FILE` variable names a file that cannot be read.
    #[error("{variable} names {path}, which cannot be read: {cause}")]
    ValueFile {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// Both forms of one variable.
    #[error("both {variable} and {variable}_FILE are set; unset one of them")]
    BothForms {
        /// The variable without `_FILE`.
        variable: String,
    },
    /// One half of the root credentials.
    #[error("root-{given}-key is given without root-{missing}-key; give both or none")]
    HalfCredentials {
        /// "access" or "secret".
        given: &'static str,
        /// The other one.
        missing: &'static str,
    },
    /// Somebody beside root.
    #[error("user {number} of [[users]]: {what}")]
    User {
        /// From 1.
        number: usize,
        /// What is wrong.
        what: String,
    },
    /// One half of a pair.
    #[error("tls-{given} is given without tls-{missing}; give both, or neither")]
    HalfTls {
        /// "cert" or "key".
        given: &'static str,
        /// The other one.
        missing: &'static str,
    },
    /// Two sources of one certificate.
    #[error(
        "tls = auto makes its own certificate, and tls-cert or tls-key is given too; leave out one of them"
    )]
    TlsTwice,
    /// The file's content where its path belongs.
    #[error(
        "{setting} must be the path of a PEM file, and what was given is the PEM text itself (a variable that ends in \
         _FILE names a file that holds the value, which here is a path)"
    )]
    PemForPath {
        /// Which setting.
        setting: &'static str,
    },
    /// An access key that SigV4 cannot carry.
    #[error(
        "root-access-key must be 3 to 128 letters, digits or any of `-_.@+`; it is part of a header where other signs have a meaning"
    )]
    OddAccessKey,
    /// No host name.
    #[error(
        "`{name}` in domains is no host name; write it in lower case, without port: s3.example.org"
    )]
    OddDomain {
        /// As given.
        name: String,
    },
    /// A secret nobody can sign with.
    #[error("root-secret-key is empty; give one of at least 8 characters")]
    EmptySecret,
    /// Guessable credentials on an address others can reach.
    #[error(
        "{setting} = {addr} can be reached from other machines, and the {whose} are weak: {why}. \
         Give a secret of at least 8 characters that is nobody's default (MINIKV_ROOT_SECRET_KEY, or none at all: \
         then random ones are made), or listen on 127.0.0.1"
    )]
    WeakCredentials {
        /// Which address.
        setting: &'static str,
        /// The address.
        addr: String,
        /// Whose they are, in words.
        whose: String,
        /// What is weak.
        why: &'static str,
    },
    /// The demo lets everybody in.
    #[error(
        "demo = true lets everybody write without a key, and {setting} = {addr} can be reached from other machines; \
         set demo = false, or {setting} = \"127.0.0.1:PORT\""
    )]
    DemoExposed {
        /// Which address.
        setting: &'static str,
        /// The address.
        addr: String,
    },
    /// Two ports at one address.
    #[error("{first} and {second} are both {addr}; give one of them another port")]
    SameAddress {
        /// A setting.
        first: &'static str,
        /// Another one.
        second: &'static str,
        /// Their address.
        addr: String,
    },
    /// A number that makes no sense.
    #[error("`{key}` must be {range}")]
    OutOfRange {
        /// The setting.
        key: &'static str,
        /// What it may be.
        range: &'static str,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!("; did you mean `{name}`?"),
        None => "; `minikv config example` prints all keys".to_owned(),
    }
}
