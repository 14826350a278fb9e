//! A certificate chain and its key, in two PEM files.
//!
//! Always true: what comes out fits together: the key belongs to the first certificate of the chain.

use std::io;
use std::path::{Path, PathBuf};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};

/// Where they lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The server's certificate first, then those up to the CA.
    pub cert: PathBuf,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// Why a pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// A file cannot be read.
    #[error("cannot read {path} ({setting}): {cause}")]
    Unreadable {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        cause: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} ({setting}) {what}")]
    Odd {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Two halves of different pairs.
    #[error(
        "the key in {key} does not belong to the certificate in {cert}; give both from one order, or make new ones with --tls auto"
    )]
    NoMatch {
        /// tls-cert.
        cert: PathBuf,
        /// tls-key.
        key: PathBuf,
    },
}

impl Pair {
    /// Reads both files.
    pub fn load(&self) -> Result<CertifiedKey, PairError> {
        let chain = certificates("tls-cert", &self.cert)?;
        let text = read("tls-key", &self.key)?;
        let odd = |what| PairError::Odd {
            setting: "tls-key",
            path: self.key.clone(),
            what,
        };
        // Never quote a parser here: its words may hold pieces of the key.
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|cause| match cause {
            pem::Error::NoItemsFound => {
                odd("holds no private key in PEM form that is not encrypted")
            }
            _ => odd("is not a readable PEM file"),
        })?;
        let key = any_supported_type(&key)
            .map_err(|_| odd("holds a key of a kind that is not supported; use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more"))?;
        let key = CertifiedKey::new(chain, key);
        match key.keys_match() {
            Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(key),
            Err(TlsError::InconsistentKeys(_)) => Err(PairError::NoMatch {
                cert: self.cert.clone(),
                key: self.key.clone(),
            }),
            Err(_) => Err(PairError::Odd {
                setting: "tls-cert",
                path: self.cert.clone(),
                what: "holds a certificate that cannot be read",
            }),
        }
    }
}

/// All certificates of a PEM file; none is an error.
pub fn certificates(
    setting: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let text = read(setting, path)?;
    let odd = |what| PairError::Odd {
        setting,
        path: path.to_owned(),
        what,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| odd("is not a readable PEM file"))?;
    if chain.is_empty() {
        return Err(odd("holds no certificate in PEM form"));
    }
    Ok(chain)
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, PairError> {
    std::fs::read(path).map_err(|cause| PairError::Unreadable {
        setting,
        path: path.to_owned(),
        cause,
    })
}
