//! What the operator says: one tree of settings, from flags, environment, file and defaults.
//!
//! Always true:
//! * flag beats environment, environment beats file, file beats default, for each setting by itself;
//! * a name nobody knows is an error that tells the nearest known one; no value is half understood;
//! * a `Config` that came out of `load` may be started (`check` has refused what would be unsafe).
//!
//! Adding a setting: add a documented field with its default here, and use it. Flag, variable, `--help` text
//! and `config.example.toml` follow (`cargo test -p minikv example` says how to write the file anew).
//!
//! Elsewhere: what single values look like (`value`), where they come from (`sources`), what is refused (`check`).

pub mod check;
pub mod documented;
pub mod error;
pub mod example;
pub mod nearest;
pub mod settings;
pub mod sources;
pub mod users;
pub mod value;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use sources::{Environment, Loaded, Origin, load};
pub use value::{Engine, Fsync, ListenAddr, LogFormat, Secret, TlsMode};

pub use users::User;

use documented::documented;

documented! {
    /// Everything a minikv server can be told.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct Config {
        /// Directory that holds all data; made when it does not exist.
        ///
        /// Under systemd the default is $STATE_DIRECTORY.
        pub data_dir: PathBuf,
        /// Address of the S3 port.
        ///
        /// `:9000` listens on every interface. Beyond this machine only with root credentials that cannot be guessed.
        pub s3_addr: ListenAddr,
        /// Address of the HTTP port: health, metrics, administration.
        pub http_addr: ListenAddr,
        /// Address under which other nodes will reach this one. A single node opens no such port.
        pub rpc_addr: ListenAddr,
        /// Names of this server. A request for BUCKET.NAME is one for the bucket (virtual-host style).
        pub domains: Vec<String>,
        /// Where the certificate of both ports comes from: files (tls-cert and tls-key; without them the ports speak
        /// plain http) or auto.
        ///
        /// With auto a local CA is made in DATA-DIR/tls, and its path is printed: clients must trust it.
        pub tls: TlsMode,
        /// PEM file of the certificate chain, the server's own first. With it both ports speak https.
        ///
        /// When the files change, the new pair is taken into use within seconds; a bad one is not.
        pub tls_cert: Option<PathBuf>,
        /// PEM file of the key of that certificate, not encrypted.
        pub tls_key: Option<PathBuf>,
        /// Access key of the root user.
        ///
        /// Without it a random one is made at the first start and kept. Given, it replaces the kept one.
        pub root_access_key: Option<String>,
        /// Secret key of the root user. Better given by MINIKV_ROOT_SECRET_KEY_FILE than written here.
        pub root_secret_key: Option<Secret>,
        /// Where rows live: native (on disk), memory (rebuilt at every start; for small stores), sled, or rocksdb (in builds with it).
        ///
        /// May be changed between starts: the log is the truth.
        pub engine: Engine,
        /// When a write reaches the disk: always (before it is acknowledged), interval or never.
        ///
        /// With interval and never a power cut loses writes that were acknowledged.
        pub fsync: Fsync,
        /// Milliseconds between two fsyncs when fsync is interval.
        pub fsync_interval_ms: u64,
        /// File with the master keys of server-side encryption (`minikv key add` makes one).
        ///
        /// Without it keyring.toml in the data directory, made at the first start: then whoever steals the disk has both.
        pub keyring: Option<PathBuf>,
        /// Takes keys of SSE-C over plain http, where everybody on the way reads them: for tests only.
        pub sse_c_over_http: bool,
        /// Opens an anonymous demo tenant under /s3/ on the HTTP port. Only with loopback addresses.
        pub demo: bool,
        /// What to log: error, warn, info, debug, trace, or a filter such as info,minikv::s3=debug.
        pub log: String,
        /// What log lines look like: auto (pretty on a terminal, json otherwise), pretty, json.
        pub log_format: LogFormat,
        /// People and programs beside root: access-key, secret-key, and if you like canonical-id, display-name, email
        /// and tenant. One [[users]] block for each, at the end of the file.
        ///
        /// What one of them owns is closed to the others. Without tenant a user has a tenant of its own.
        pub users: Vec<User>,
        /// What clients may take up, and how long they may dawdle.
        pub limits: Limits,
        /// Sizes and times of the store itself.
        pub store: Store,
    }
}

documented! {
    /// What clients may take up, and how long they may dawdle.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct Limits {
        /// Connections to one port at a time; further ones are answered SlowDown and closed.
        pub connections: u32,
        /// S3 requests worked on at a time; further ones wait a tenth of a second for a place and are then answered SlowDown.
        ///
        /// A request that waits for a slow client is not counted.
        pub requests_in_flight: u32,
        /// TLS handshakes at a time; further ones wait.
        pub handshakes: u32,
        /// Seconds a client may take to send the head of a request, and for its TLS handshake.
        pub header_timeout_seconds: u64,
        /// Seconds a connection may stay open without a request.
        pub idle_timeout_seconds: u64,
        /// A client that sends less of its body than this, for half a minute, is cut off.
        pub slowest_upload_bytes_per_second: u64,
        /// A client that takes nothing of its answer for so many seconds is cut off.
        pub stalled_download_seconds: u64,
        /// Seconds that requests in flight may still take when the server is told to stop.
        pub drain_seconds: u64,
    }
}

documented! {
    /// Sizes and times of the store itself.
    #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    pub struct Store {
        /// Size of a log segment; 0 chooses it by the disk: a 64th of it, at most 256.
        pub segment_mib: u32,
        /// Memory for rows that are in no checkpoint yet.
        pub overlay_mib: u32,
        /// Memory for rows read from checkpoints; as much again for what finds them, about two bytes for each object.
        pub block_cache_mib: u32,
        /// Seconds after which the room of deleted objects is given back. Reads that began before may take so long.
        pub release_after_seconds: u64,
        /// Days after which an unfinished multipart upload is aborted.
        pub upload_expiry_days: u64,
        /// Days in which everything on the disk is read once, whoever asks for it or not, and what is bad is mended.
        pub scrub_days: u64,
        /// Length of a day in lifecycle rules, in seconds; shorter than 86400 for tests only.
        ///
        /// What clients are told (x-amz-expiration) stays in real days.
        pub lifecycle_day_seconds: u64,
    }
}

impl Default for Store {
    fn default() -> Store {
        Store {
            segment_mib: 0,
            overlay_mib: 64,
            block_cache_mib: 64,
            release_after_seconds: 900,
            upload_expiry_days: 7,
            scrub_days: 14,
            lifecycle_day_seconds: 86_400,
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            data_dir: PathBuf::from("./minikv-data"),
            s3_addr: ListenAddr::loopback(9000),
            http_addr: ListenAddr::loopback(9001),
            rpc_addr: ListenAddr::loopback(9002),
            domains: vec!["localhost".to_owned()],
            tls: TlsMode::default(),
            tls_cert: None,
            tls_key: None,
            root_access_key: None,
            root_secret_key: None,
            engine: Engine::default(),
            fsync: Fsync::default(),
            fsync_interval_ms: 100,
            keyring: None,
            sse_c_over_http: false,
            demo: false,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            users: Vec::new(),
            limits: Limits::default(),
            store: Store::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 16_384,
            requests_in_flight: 512,
            handshakes: 256,
            header_timeout_seconds: 10,
            idle_timeout_seconds: 75,
            slowest_upload_bytes_per_second: 64,
            stalled_download_seconds: 60,
            drain_seconds: 10,
        }
    }
}

impl Config {
    /// Whether both ports speak https.
    pub fn speaks_tls(&self) -> bool {
        self.tls == TlsMode::Auto || self.tls_cert.is_some()
    }
}

impl Limits {
    /// Time for requests in flight once the server is told to stop.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}
