//! What may not be started: half credentials, guessable ones on open addresses, an open demo.

use super::error::ConfigError;
use super::{Config, ListenAddr, TlsMode, users};

/// Shortest secret that may guard an address others can reach.
const SHORTEST_SECRET: usize = 8;

/// Secrets that everybody tries first.
const WELL_KNOWN: &[&str] = &[
    "minioadmin",
    "minio123",
    "minikv123",
    "minikvadmin",
    "rustfsadmin",
    "password",
    "password1",
    "password123",
    "passw0rd",
    "changeme",
    "changeit",
    "change-me",
    "secretkey",
    "secret123",
    "adminadmin",
    "admin123",
    "12345678",
    "123456789",
    "1234567890",
    "qwertyui",
    "s3cr3tkey",
    "accesskey",
    "letmein1",
    "example1",
    "test1234",
    "testtest",
    "wjalrxutnfemi/k7mdeng/bpxrficyexamplekey",
];

/// Whether a server may start with this.
pub fn startable(config: &Config) -> Result<(), ConfigError> {
    match (&config.root_access_key, &config.root_secret_key) {
        (Some(_), None) => {
            return Err(ConfigError::HalfCredentials {
                given: "access",
                missing: "secret",
            });
        }
        (None, Some(_)) => {
            return Err(ConfigError::HalfCredentials {
                given: "secret",
                missing: "access",
            });
        }
        (None, None) => {}
        (Some(access), Some(secret)) => {
            if !users::is_access_key(access) {
                return Err(ConfigError::OddAccessKey);
            }
            if secret.expose().is_empty() {
                return Err(ConfigError::EmptySecret);
            }
            guarded(config, access, secret.expose())?;
        }
    }
    for name in &config.domains {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        if name.is_empty() || name.starts_with('.') || !name.chars().all(fits) {
            return Err(ConfigError::OddDomain { name: name.clone() });
        }
    }
    known_users(config, config.root_access_key.as_deref())?;
    tls(config)?;
    if config.demo {
        for (setting, addr) in listening(config) {
            if !addr.is_loopback() {
                return Err(ConfigError::DemoExposed {
                    setting,
                    addr: addr.to_string(),
                });
            }
        }
    }
    if config.s3_addr == config.http_addr && config.s3_addr.0.port() != 0 {
        let addr = config.s3_addr.to_string();
        return Err(ConfigError::SameAddress {
            first: "s3-addr",
            second: "http-addr",
            addr,
        });
    }
    let limits = &config.limits;
    let at_least_one = [
        ("limits.connections", u64::from(limits.connections)),
        (
            "limits.requests-in-flight",
            u64::from(limits.requests_in_flight),
        ),
        ("limits.handshakes", u64::from(limits.handshakes)),
        (
            "limits.header-timeout-seconds",
            limits.header_timeout_seconds,
        ),
        ("limits.idle-timeout-seconds", limits.idle_timeout_seconds),
        (
            "limits.stalled-download-seconds",
            limits.stalled_download_seconds,
        ),
        ("fsync-interval-ms", config.fsync_interval_ms),
    ];
    for (key, value) in at_least_one {
        if value == 0 || value > 1_000_000_000 {
            return Err(ConfigError::OutOfRange {
                key,
                range: "between 1 and 1000000000",
            });
        }
    }
    if limits.drain_seconds > 3600 {
        return Err(ConfigError::OutOfRange {
            key: "limits.drain-seconds",
            range: "at most 3600",
        });
    }
    let store = &config.store;
    let sizes = [
        (
            "store.segment-mib",
            store.segment_mib,
            0,
            2048,
            "0, or at most 2048",
        ),
        (
            "store.overlay-mib",
            store.overlay_mib,
            1,
            65_536,
            "between 1 and 65536",
        ),
        (
            "store.block-cache-mib",
            store.block_cache_mib,
            1,
            1 << 20,
            "between 1 and 1048576",
        ),
    ];
    for (key, value, least, most, range) in sizes {
        if !(least..=most).contains(&value) {
            return Err(ConfigError::OutOfRange { key, range });
        }
    }
    if !(1..=3650).contains(&store.upload_expiry_days) {
        return Err(ConfigError::OutOfRange {
            key: "store.upload-expiry-days",
            range: "between 1 and 3650",
        });
    }
    if !(1..=365).contains(&store.scrub_days) {
        return Err(ConfigError::OutOfRange {
            key: "store.scrub-days",
            range: "between 1 and 365",
        });
    }
    if !(1..=86_400).contains(&store.lifecycle_day_seconds) {
        return Err(ConfigError::OutOfRange {
            key: "store.lifecycle-day-seconds",
            range: "between 1 and 86400",
        });
    }
    if store.release_after_seconds > 30 * 86_400 {
        return Err(ConfigError::OutOfRange {
            key: "store.release-after-seconds",
            range: "at most 2592000",
        });
    }
    Ok(())
}

/// Whether these users may stand beside root. Asked again with the root key that the store kept.
pub fn known_users(config: &Config, root: Option<&str>) -> Result<(), ConfigError> {
    users::check(&config.users, root)
        .map_err(|(number, what)| ConfigError::User { number, what })?;
    (1..).zip(&config.users).try_for_each(|(number, user)| {
        let whose = format!("credentials of user {number}");
        guarded_by(config, &whose, &user.access_key, user.secret_key.expose())
    })
}

fn tls(config: &Config) -> Result<(), ConfigError> {
    match (config.tls, &config.tls_cert, &config.tls_key) {
        (TlsMode::Auto, None, None) | (TlsMode::Files, None, None) => Ok(()),
        (TlsMode::Auto, ..) => Err(ConfigError::TlsTwice),
        (TlsMode::Files, Some(_), None) => Err(ConfigError::HalfTls {
            given: "cert",
            missing: "key",
        }),
        (TlsMode::Files, None, Some(_)) => Err(ConfigError::HalfTls {
            given: "key",
            missing: "cert",
        }),
        (TlsMode::Files, Some(cert), Some(key)) => {
            // MINIKV_TLS_CERT_FILE reads like "the certificate's file"; it names a file that holds the path.
            for (setting, path) in [("tls-cert", cert), ("tls-key", key)] {
                if path.to_string_lossy().contains("-----BEGIN") {
                    return Err(ConfigError::PemForPath { setting });
                }
            }
            Ok(())
        }
    }
}

/// Whether these root credentials may guard the addresses of this config. Asked again with the credentials that the
/// store kept from an earlier start, which no setting shows.
pub fn guarded(config: &Config, access_key: &str, secret_key: &str) -> Result<(), ConfigError> {
    guarded_by(config, "root credentials", access_key, secret_key)
}

/// Who is called by a number, never by the key: with weak credentials the secret is often the same word.
fn guarded_by(
    config: &Config,
    whose: &str,
    access_key: &str,
    secret_key: &str,
) -> Result<(), ConfigError> {
    let Some(why) = weakness(access_key, secret_key) else {
        return Ok(());
    };
    match listening(config)
        .into_iter()
        .find(|(_, addr)| !addr.is_loopback())
    {
        Some((setting, addr)) => Err(ConfigError::WeakCredentials {
            setting,
            addr: addr.to_string(),
            whose: whose.to_owned(),
            why,
        }),
        None => Ok(()),
    }
}

fn listening(config: &Config) -> [(&'static str, ListenAddr); 3] {
    [
        ("s3-addr", config.s3_addr),
        ("http-addr", config.http_addr),
        ("rpc-addr", config.rpc_addr),
    ]
}

fn weakness(access_key: &str, secret_key: &str) -> Option<&'static str> {
    if secret_key.len() < SHORTEST_SECRET {
        Some("the secret has fewer than 8 characters")
    } else if WELL_KNOWN.contains(&secret_key.to_ascii_lowercase().as_str()) {
        Some("the secret is a well-known default")
    } else if secret_key == access_key {
        Some("the secret is the access key")
    } else {
        None
    }
}
