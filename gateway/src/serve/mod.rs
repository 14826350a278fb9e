//! A running server, from the first line to the last: this file is its table of contents.
//!
//! Always true:
//! * nothing is answered before the store is recovered, and nothing after it is closed;
//! * whatever was started is ended in the reverse order, also when the next step fails;
//! * a failure to start names what is in the way and how to get on.
//!
//! Elsewhere: what may be started (`config::check`), how connections are let in (`listener`), how it ends (`shutdown`).

pub mod admission;
pub mod banner;
pub mod body;
pub mod credentials;
pub mod descriptors;
pub mod holder;
pub mod http_port;
pub mod keyring;
pub mod listener;
pub mod logging;
pub mod measure;
pub mod patience;
pub mod s3_port;
pub mod shutdown;
pub mod tls;

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{Either, select};
use minikv_core::env::Env;
use minikv_core::kv::{Credentials, KvError};
use minikv_core::log::LogError;
use minikv_core::node::{EngineKind, FsyncPolicy, Node, NodeOptions, StartError};
use tokio::net::TcpListener;

use crate::auth::principal::Principal;
use crate::config::{
    Config, ConfigError, Engine, Fsync, ListenAddr, Loaded, Secret, TlsMode, check,
};
use crate::http::access::Gate;
use crate::http::demo::{DEMO, Demo};
use crate::http::health::Probes;
use crate::http::metrics::Metrics;
use crate::http::{HttpState, router};
use crate::store::lifecycle::Calendar;
use admission::Admission;
use banner::Banner;
use credentials::CredentialsFile;
use http_port::HttpPort;
use keyring::KeyringError;
use s3_port::S3Port;
use shutdown::{Signals, stopper};
use tls::Tls;
use tls::authority::{self, Authority};
use tls::pair::Pair;
use tls::renew::{Source, SourceError, Watched};

/// Time for the last checkpoints after everybody was answered.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The settings are refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port is taken, or not ours to take.
    #[error("cannot listen on {addr} ({setting}): {cause}{}", in_the_way(cause, setting, *holder))]
    Listen {
        /// Which setting.
        setting: &'static str,
        /// Its address.
        addr: SocketAddr,
        /// Why not.
        #[source]
        cause: std::io::Error,
        /// The process that serves our data directory already.
        holder: Option<u32>,
    },
    /// Another process serves this directory.
    #[error("{dir} is served by another minikv already{}; stop that one, or choose another --data-dir", pid(*holder))]
    InUse {
        /// The directory.
        dir: String,
        /// The process, when it can be known.
        holder: Option<u32>,
    },
    /// The certificate of the ports.
    #[error(transparent)]
    Tls(#[from] SourceError),
    /// The store did not come up.
    #[error(transparent)]
    Start(StartError),
    /// The store came up and did not answer.
    #[error("the store does not answer: {0}")]
    Store(#[from] KvError),
    /// An fsync failed: nothing that is not on disk yet can be trusted, and nobody is told that it is.
    #[error("the disk failed, so the process ends; it recovers at its next start: {0}")]
    LogFailed(LogError),
    /// The key ring cannot be used.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// A file of ours could not be written.
    #[error("{what}: {cause}")]
    Io {
        /// Which, and for what.
        what: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

fn pid(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn in_the_way(cause: &std::io::Error, setting: &str, holder: Option<u32>) -> String {
    match (cause.kind(), holder) {
        (std::io::ErrorKind::AddrInUse, Some(pid)) => {
            format!("; process {pid} serves this data directory already: use that one, or stop it")
        }
        (std::io::ErrorKind::AddrInUse, None) => {
            format!("; stop what uses it, or choose another one: --{setting} 127.0.0.1:PORT")
        }
        (std::io::ErrorKind::PermissionDenied, _) => {
            "; ports below 1024 need privileges".to_owned()
        }
        _ => String::new(),
    }
}

/// Runs until told to stop. `json`: the line that says "ready" is one for programs.
pub async fn run(loaded: Loaded, json: bool) -> Result<(), ServeError> {
    let started = Instant::now();
    let config = &loaded.config;
    logging::start(&config.log, config.log_format, &loaded.origin("log"))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let signals = Signals::catch().map_err(|cause| ServeError::Io {
        what: "cannot catch signals".into(),
        cause,
    })?;
    // Looked at before anything is started: a wrong path is found by whoever typed it.
    let files = match (&config.tls_cert, &config.tls_key) {
        (Some(cert), Some(key)) => Some(Watched::begin(Source::Files(Pair {
            cert: cert.clone(),
            key: key.clone(),
        }))?),
        _ => None,
    };
    let descriptors = descriptors::raise_limit();
    // Taken first, accepted from last: a port that is in use is told before any recovery, and clients that come
    // during a recovery wait instead of failing.
    let s3 = listen("s3-addr", config.s3_addr, &config.data_dir).await?;
    let http = listen("http-addr", config.http_addr, &config.data_dir).await?;

    let node = start_node(config).await?;
    tracing::info!(data_dir = %config.data_dir.display(), descriptors, "store is up");
    let served = match certificate(config, files) {
        Ok(secure) => serve(config, &node, [s3, http], secure, signals, started, json).await,
        Err(error) => Err(error.into()),
    };
    if !matches!(served, Err(ServeError::LogFailed(_))) {
        node.shutdown(CLOSE_LIMIT).await;
    }
    match &served {
        Ok(()) => tracing::info!("stopped; the next start replays nothing"),
        Err(error) => tracing::error!(%error, "stopped"),
    }
    served
}

/// The certificate of both ports, and the CA that clients must trust for it when that is ours.
#[derive(Default)]
struct Secure {
    watched: Option<Watched>,
    ca_cert: Option<PathBuf>,
}

/// Our own CA is opened under the lock of the data directory, so that two servers do not make two.
fn certificate(config: &Config, files: Option<Watched>) -> Result<Secure, SourceError> {
    if config.tls != TlsMode::Auto {
        return Ok(Secure {
            watched: files,
            ca_cert: None,
        });
    }
    let authority = Authority::open(&config.data_dir, tls::renew::now())?;
    let ca_cert = Some(authority.ca_cert().to_owned());
    let watched = Watched::begin(Source::Auto(Box::new(authority), authority::names(config)))?;
    Ok(Secure {
        watched: Some(watched),
        ca_cert,
    })
}

async fn serve(
    config: &Config,
    node: &Arc<Node>,
    [s3, http]: [TcpListener; 2],
    secure: Secure,
    signals: Signals,
    started: Instant,
    json: bool,
) -> Result<(), ServeError> {
    let root = node.kv().root_credentials().await?;
    check::guarded(config, &root.access_key, &root.secret_key)?;
    check::known_users(config, Some(&root.access_key))?;
    let Secure { watched, ca_cert } = secure;
    let tls = match &watched {
        Some(watched) => Some(
            Tls::new(watched.current(), &config.limits).map_err(|cause| ServeError::Io {
                what: "cannot start TLS".into(),
                cause: std::io::Error::other(cause),
            })?,
        ),
        None => None,
    };
    let s3_endpoint = endpoint(&s3, config.s3_addr, tls.is_some());
    let http_endpoint = endpoint(&http, config.http_addr, tls.is_some());
    let ring = keyring::open(&config.data_dir, config.keyring.as_deref())?;

    let metrics = Arc::new(Metrics::default());
    let probes = Probes::new(node.clone());
    let admission = Admission::new(config.limits.requests_in_flight);
    let s3_port = S3Port::new(
        config,
        node.kv(),
        &root,
        ring,
        admission.clone(),
        metrics.clone(),
        probes.clone(),
    );
    let operations = s3_port.operations().clone();
    for user in &config.users {
        let tenant = node.kv().tenant(&user.tenant_name()).await?;
        let id = user.owner_id();
        let principal = Principal::user(&user.access_key, tenant, &id);
        let keys = operations.keys();
        keys.put(&user.access_key, user.secret_key.expose(), principal);
        keys.name(&id, user.name());
    }
    let ring = keyring::path(&config.data_dir, config.keyring.as_deref());
    tokio::spawn(keyring::watch(ring, operations.clone()));
    let gate = Gate::new(operations.keys().clone());
    let state = HttpState {
        probes: probes.clone(),
        metrics,
        admission,
        operations: operations.clone(),
        gate,
        started,
    };
    let demo = match config.demo {
        true => Some(Demo::new(operations, node.kv().tenant(DEMO).await?)),
        false => None,
    };
    let http_port = HttpPort(router(Arc::new(state), demo));

    let file = CredentialsFile {
        access_key: root.access_key.clone(),
        secret_key: Secret::new(&root.secret_key),
        s3_endpoint: s3_endpoint.clone(),
        http_endpoint: http_endpoint.clone(),
        ca_cert: ca_cert.clone(),
        server_cert: config.tls_cert.as_deref().map(absolute),
    };
    first_start(config, &s3_port, &root, &file).await?;

    let (s3_stopper, s3_stop) = stopper();
    let (http_stopper, http_stop) = stopper();
    if let Some(watched) = watched {
        tokio::spawn(watched.keep_fresh(s3_stop.clone()));
    }
    tokio::spawn(listener::serve(
        s3,
        s3_port,
        config.limits.clone(),
        tls.clone(),
        s3_stop,
    ));
    tokio::spawn(listener::serve(
        http,
        http_port,
        config.limits.clone(),
        tls,
        http_stop,
    ));
    let banner = Banner {
        config,
        s3: &s3_endpoint,
        http: &http_endpoint,
        ca_cert: ca_cert.as_deref(),
        access_key: &root.access_key,
        secret_key: std::io::stdout()
            .is_terminal()
            .then_some(root.secret_key.as_str()),
        demo_bucket: node
            .kv()
            .bucket("demo")
            .await
            .is_ok_and(|found| found.is_some()),
        took: started.elapsed(),
    };
    announce(&banner, json);

    let signal = match select(pin!(signals.first()), pin!(node.failed())).await {
        Either::Left((signal, _)) => signal,
        Either::Right((error, _)) => return Err(ServeError::LogFailed(error)),
    };
    tracing::info!(
        signal,
        drain_seconds = config.limits.drain_seconds,
        "stopping"
    );
    let stopping = Instant::now();
    probes.stop();
    if !s3_stopper.stop(config.limits.drain()).await {
        tracing::warn!("requests were cut: they took longer than the drain time");
    }
    // Probes are answered to the end, so that whoever watches sees "not ready" and not "gone".
    let left = config.limits.drain().saturating_sub(stopping.elapsed());
    http_stopper.stop(left.max(Duration::from_secs(1))).await;
    Ok(())
}

async fn listen(
    setting: &'static str,
    addr: ListenAddr,
    data_dir: &Path,
) -> Result<TcpListener, ServeError> {
    listener::bind(addr.0)
        .await
        .map_err(|cause| ServeError::Listen {
            setting,
            addr: addr.0,
            cause,
            holder: holder::of(data_dir),
        })
}

/// With the port that was really bound (a test may ask for port 0).
fn endpoint(listener: &TcpListener, configured: ListenAddr, tls: bool) -> String {
    let bound = listener.local_addr().map_or(configured, ListenAddr);
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{}", bound.for_clients())
}

/// Commands read it from another working directory.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

async fn start_node(config: &Config) -> Result<Arc<Node>, ServeError> {
    Node::start(Env::real(), node_options(config))
        .await
        .map_err(|error| match error {
            StartError::InUse { dir } => ServeError::InUse {
                dir,
                holder: holder::of(&config.data_dir),
            },
            error => ServeError::Start(error),
        })
}

fn node_options(config: &Config) -> NodeOptions {
    let mut options = NodeOptions::new(&config.data_dir);
    options.engine = match config.engine {
        Engine::Native => EngineKind::Native,
        Engine::Memory => EngineKind::Memory,
        Engine::Sled => EngineKind::Sled,
        Engine::Rocksdb => EngineKind::Rocksdb,
    };
    options.fsync = match config.fsync {
        Fsync::Always => FsyncPolicy::Always,
        Fsync::Interval => FsyncPolicy::Interval(Duration::from_millis(config.fsync_interval_ms)),
        Fsync::Never => FsyncPolicy::Never,
    };
    options.root = match (&config.root_access_key, &config.root_secret_key) {
        (Some(access_key), Some(secret_key)) => Some(Credentials {
            access_key: access_key.clone(),
            secret_key: secret_key.expose().to_owned(),
        }),
        _ => None,
    };
    let store = &config.store;
    if store.segment_mib > 0 {
        options.limits.segment_bytes = Some(store.segment_mib << 20);
    }
    options.limits.overlay_bytes = (store.overlay_mib as usize) << 20;
    options.limits.block_cache_bytes = (store.block_cache_mib as usize) << 20;
    options.limits.release_after = Duration::from_secs(store.release_after_seconds);
    options.limits.upload_expiry = Duration::from_secs(store.upload_expiry_days * 24 * 3600);
    options.limits.scrub_every = Duration::from_secs(store.scrub_days * 24 * 3600);
    let day = Duration::from_secs(store.lifecycle_day_seconds);
    if store.lifecycle_day_seconds < 86_400 {
        let seconds = store.lifecycle_day_seconds;
        tracing::warn!(
            seconds,
            "days of lifecycle rules are this short: for tests only"
        );
    }
    options.lifecycle = Some(Arc::new(Calendar::new(day)));
    options
}

/// Makes bucket `demo` at the first start, and keeps the credentials file true at each. The file is the mark that the
/// first start was completed: whoever deletes the bucket does not get it back.
async fn first_start(
    config: &Config,
    s3: &S3Port,
    root: &Credentials,
    file: &CredentialsFile,
) -> Result<(), ServeError> {
    let path = credentials::path(&config.data_dir);
    let cannot = |cause| ServeError::Io {
        what: format!("cannot keep {}", path.display()),
        cause,
    };
    if !path.try_exists().map_err(cannot)? {
        s3.make_first_bucket(root).await;
    }
    credentials::write(&config.data_dir, file).map_err(cannot)
}

fn announce(banner: &Banner<'_>, json: bool) {
    if json {
        println!("{}", banner.json());
    } else {
        print!("{}", banner.text());
    }
    let ready_ms = banner.took.as_millis() as u64;
    tracing::info!(s3 = banner.s3, http = banner.http, ready_ms, "ready");
}
