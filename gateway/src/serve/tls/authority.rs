//! `--tls auto`: a CA of our own, and certificates for this server.
//!
//! ```text
//!   DATA/tls/ca-key.pem   the CA's key, its owner's alone; made once
//!   DATA/tls/ca.pem       the CA's certificate: what clients are told to trust
//! ```
//! The server's own key lives in memory only, and is a new one at every start.
//!
//! Always true:
//! * the CA outlives restarts, changes of address, and the loss of `ca.pem`, which is written again from its key;
//! * the CA signs nothing but this server's certificates, and those hold no names that nobody set.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

use crate::config::Config;
use crate::object::dates;
use crate::object::etag::hex;

const DAY: u64 = 86_400;
/// Ten years: a local CA that ends sooner only makes work.
const CA_DAYS: u64 = 3_652;
/// Browsers refuse certificates that are good for longer.
pub const LEAF_DAYS: u64 = 397;

/// Why it cannot sign.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file of the CA.
    #[error("cannot keep the CA of --tls auto in {path}: {cause}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// The key is not one.
    #[error("{path} is not the key that --tls auto wrote; restore it, or remove the directory {dir} for a new CA (clients then need the new ca.pem)", dir = path.parent().unwrap_or(path).display())]
    OddKey {
        /// Which.
        path: PathBuf,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Sign(#[from] rcgen::Error),
    /// TLS does not take the key.
    #[error("cannot use the new key: {0}")]
    Key(#[from] rustls::Error),
}

/// A CA with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_cert: PathBuf,
}

impl Authority {
    /// The one of this data directory; made when there is none. `now`: seconds since 1970.
    pub fn open(data_dir: &Path, now: u64) -> Result<Authority, AuthorityError> {
        let dir = data_dir.join("tls");
        let io = |path: &Path| {
            let path = path.to_owned();
            move |cause| AuthorityError::Io { path, cause }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&dir)
            .map_err(io(&dir))?;
        let key_path = dir.join("ca-key.pem");
        let key = match std::fs::read_to_string(&key_path) {
            Ok(text) => KeyPair::from_pem(&text).map_err(|_| AuthorityError::OddKey {
                path: key_path.clone(),
            })?,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate()?;
                write_whole(&key_path, key.serialize_pem().as_bytes(), 0o600)
                    .map_err(io(&key_path))?;
                key
            }
            Err(cause) => return Err(io(&key_path)(cause)),
        };
        let params = ca_params(&key, now);
        let path = dir.join("ca.pem");
        if !path.try_exists().map_err(io(&path))? {
            let cert = params.self_signed(&key)?;
            write_whole(&path, cert.pem().as_bytes(), 0o644).map_err(io(&path))?;
        }
        let ca_cert = std::fs::canonicalize(&path).map_err(io(&path))?;
        Ok(Authority {
            issuer: Issuer::new(params, key),
            ca_cert,
        })
    }

    /// What clients must trust; an absolute path.
    pub fn ca_cert(&self) -> &Path {
        &self.ca_cert
    }

    /// A new key and a certificate for these names and addresses.
    pub fn issue(&self, names: &[String], now: u64) -> Result<CertifiedKey, AuthorityError> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("minikv server");
        valid_for(&mut params, now, LEAF_DAYS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Strict verifiers (Python 3.13) want to see which CA key signed.
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|what| rustls::Error::General(what.to_owned()))?;
        let key = any_supported_type(&key)?;
        Ok(CertifiedKey::new(vec![cert.der().clone()], key))
    }
}

fn ca_params(key: &KeyPair, now: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two stores on one machine have two CAs; verifiers find them by name, so the name differs with the key.
    let print = hex(&Sha256::digest(key.public_key_raw()));
    params.distinguished_name = named(&format!("minikv local CA {}", &print[..8]));
    valid_for(&mut params, now, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// From yesterday, for clients whose clock is behind, for so many days.
fn valid_for(params: &mut CertificateParams, now: u64, days: u64) {
    let at = |seconds| {
        let (year, month, day) = dates::civil_date(seconds);
        date_time_ymd(year, month, day)
    };
    params.not_before = at(now.saturating_sub(DAY));
    params.not_after = at(now + days * DAY);
}

/// Names and addresses under which this server can be asked for on this machine, and by those it listens for.
pub fn names(config: &Config) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "*.localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .into();
    for addr in [config.s3_addr.0, config.http_addr.0] {
        if addr.ip().is_unspecified() {
            let host = rustix::system::uname();
            names.extend(
                host.nodename()
                    .to_str()
                    .ok()
                    .filter(|h| is_name(h))
                    .map(str::to_owned),
            );
            names.extend(own_address(addr).map(|ip| ip.to_string()));
        } else {
            names.push(addr.ip().to_canonical().to_string());
        }
    }
    for domain in &config.domains {
        names.push(domain.clone());
        names.push(format!("*.{domain}"));
    }
    names.sort();
    names.dedup();
    names
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    !text.is_empty() && text.chars().all(fits)
}

/// The address that this machine would send from. Connecting a UDP socket asks the routing table and sends nothing.
fn own_address(listening: SocketAddr) -> Option<IpAddr> {
    let far = match listening.ip() {
        IpAddr::V4(_) => "192.0.2.1:9",
        IpAddr::V6(_) => "[2001:db8::1]:9",
    };
    let socket = UdpSocket::bind(SocketAddr::new(listening.ip(), 0)).ok()?;
    socket.connect(far).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified()).then_some(ip)
}

/// Written beside, then renamed: a crash leaves the whole file or none.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let beside = path.with_extension("pem.new");
    match std::fs::remove_file(&beside) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    /// Clients that trust the CA go on trusting it after a restart; its key is its owner's alone.
    #[test]
    fn ca_outlives_a_restart_and_keeps_its_key_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let first = Authority::open(dir.path(), NOW).unwrap();
        let pem = std::fs::read_to_string(first.ca_cert()).unwrap();
        assert!(first.ca_cert().is_absolute() && pem.contains("BEGIN CERTIFICATE"));
        let mode = |name: &str| {
            let path = dir.path().join("tls").join(name);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!(mode("ca-key.pem"), 0o600);
        let second = Authority::open(dir.path(), NOW + DAY).unwrap();
        assert_eq!(std::fs::read_to_string(second.ca_cert()).unwrap(), pem);
        let left: Vec<_> = std::fs::read_dir(dir.path().join("tls")).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    /// A key that somebody else put there is not replaced silently: clients would stop to trust us.
    #[test]
    fn broken_ca_key_is_told_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tls")).unwrap();
        std::fs::write(dir.path().join("tls/ca-key.pem"), "odd").unwrap();
        let words = Authority::open(dir.path(), NOW).err().unwrap().to_string();
        assert!(
            words.contains("ca-key.pem") && words.contains("restore"),
            "{words}"
        );
        assert_eq!(
            std::fs::read(dir.path().join("tls/ca-key.pem")).unwrap(),
            b"odd"
        );
    }

    /// The names that clients on this machine use are there in every case.
    #[test]
    fn certificate_names_this_machine_and_its_addresses() {
        let config = Config {
            s3_addr: "10.1.2.3:9000".parse().unwrap(),
            domains: vec!["s3.example.org".to_owned()],
            ..Config::default()
        };
        let names = names(&config);
        for name in [
            "localhost",
            "127.0.0.1",
            "::1",
            "10.1.2.3",
            "s3.example.org",
            "*.s3.example.org",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
        }
    }
}
