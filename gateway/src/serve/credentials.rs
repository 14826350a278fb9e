//! The root credentials as they lie in the data directory, for people and for `minikv put` and its siblings.
//!
//! The truth is the first entry of group 0. This file is a copy that its owner alone can read, written again at every
//! start, with the addresses under which the server can be reached.
//!
//! Always true:
//! * nobody but the owner can read it, from its first byte on;
//! * it appears whole or not at all (written beside, then renamed).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::Secret;

const HEAD: &str = "\
# The root credentials of this minikv, and where it listened when it was last started.
# Whoever can read this file owns every object. It is written anew at every start; a change here changes nothing.
";

/// What stands in the file.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CredentialsFile {
    /// Public half.
    pub access_key: String,
    /// Secret half.
    pub secret_key: Secret,
    /// `http://127.0.0.1:9000`.
    pub s3_endpoint: String,
    /// `http://127.0.0.1:9001`.
    pub http_endpoint: String,
    /// With `--tls auto`: the CA to trust.
    pub ca_cert: Option<PathBuf>,
    /// With `--tls-cert`: that file. On this machine the server is known by the very certificate, whatever address it
    /// is reached under.
    pub server_cert: Option<PathBuf>,
}

/// As it is written: `Secret` itself never serializes its text.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Written<'a> {
    access_key: &'a str,
    secret_key: &'a str,
    s3_endpoint: &'a str,
    http_endpoint: &'a str,
    ca_cert: Option<&'a Path>,
    server_cert: Option<&'a Path>,
}

/// Where it lies.
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("credentials.toml")
}

/// The file; `None` when there is none.
pub fn read(data_dir: &Path) -> io::Result<Option<CredentialsFile>> {
    match std::fs::read_to_string(path(data_dir)) {
        Ok(text) => toml::from_str(&text).map(Some).map_err(|cause| {
            io::Error::new(io::ErrorKind::InvalidData, cause.message().to_owned())
        }),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(cause),
    }
}

/// Writes it, unless it says so already.
pub fn write(data_dir: &Path, file: &CredentialsFile) -> io::Result<()> {
    if matches!(read(data_dir), Ok(Some(there)) if there == *file) {
        return Ok(());
    }
    let written = Written {
        access_key: &file.access_key,
        secret_key: file.secret_key.expose(),
        s3_endpoint: &file.s3_endpoint,
        http_endpoint: &file.http_endpoint,
        ca_cert: file.ca_cert.as_deref(),
        server_cert: file.server_cert.as_deref(),
    };
    let text = format!(
        "{HEAD}\n{}",
        toml::to_string(&written).map_err(io::Error::other)?
    );
    let target = path(data_dir);
    let beside = target.with_extension("toml.new");
    // One left by a crash may have other permissions than ours will have.
    match std::fs::remove_file(&beside) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    let mut out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&beside, &target)?;
    File::open(data_dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Other users of the machine must not be able to read the root credentials.
    #[test]
    fn credentials_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = CredentialsFile {
            access_key: "AK".into(),
            secret_key: Secret::new("with \"quotes\" and \\"),
            s3_endpoint: "http://127.0.0.1:9000".into(),
            http_endpoint: "http://127.0.0.1:9001".into(),
            ca_cert: None,
            server_cert: Some("/etc/cert.pem".into()),
        };
        write(dir.path(), &file).unwrap();
        assert_eq!(read(dir.path()).unwrap().unwrap(), file);
        let mode = std::fs::metadata(path(dir.path()))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        // A second start with another address.
        let moved = CredentialsFile {
            s3_endpoint: "http://127.0.0.1:1".into(),
            ..file
        };
        write(dir.path(), &moved).unwrap();
        assert_eq!(read(dir.path()).unwrap().unwrap(), moved);
    }

    /// Before the first start there is none, and that is no error.
    #[test]
    fn missing_credentials_file_is_none() {
        assert_eq!(read(Path::new("/nonexistent")).unwrap(), None);
    }
}
