//! Which server a client command talks to, and with which keys.
//!
//! ```text
//!   --endpoint, --access-key, --secret-key, --ca-cert, --data-dir
//!     > MINIKV_ENDPOINT, MINIKV_ROOT_*   > AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_CA_BUNDLE, …
//!     > the file that the server keeps in its data directory  > http://127.0.0.1:9000
//! ```
//! Always true:
//! * access key and secret come from the same place;
//! * every value knows its place, so that "denied" can say which keys were sent.

use std::path::PathBuf;

use clap::Args;

use super::client::endpoint::Endpoint;
use super::client::trust::Trust;
use super::exit::{Exit, Failure};
use crate::config::{Environment, Secret, sources};
use crate::serve::credentials::{self, CredentialsFile};

/// Flags of every command that talks to a server.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Server")]
pub struct TargetArgs {
    /// S3 address, such as http://127.0.0.1:9000 [env: MINIKV_ENDPOINT, AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL]
    #[arg(long, value_name = "URL")]
    pub endpoint: Option<String>,
    /// HTTP (admin) address, such as http://127.0.0.1:9001 [env: MINIKV_HTTP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    pub http_endpoint: Option<String>,
    /// Access key [env: MINIKV_ROOT_ACCESS_KEY, AWS_ACCESS_KEY_ID]
    #[arg(long, value_name = "KEY", requires = "secret_key")]
    pub access_key: Option<String>,
    /// Secret key [env: MINIKV_ROOT_SECRET_KEY, AWS_SECRET_ACCESS_KEY]
    #[arg(long, value_name = "SECRET", requires = "access_key")]
    pub secret_key: Option<String>,
    /// Trust this CA (a PEM file) for https, and no other [env: AWS_CA_BUNDLE]
    #[arg(long, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Take address and keys from this server's data directory [env: MINIKV_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Keys and where they came from.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Public half.
    pub access_key: String,
    /// Secret half.
    pub secret_key: Secret,
    /// In words, for error messages.
    pub from: String,
}

/// A server, found.
#[derive(Clone, Debug)]
pub struct Target {
    /// S3.
    pub s3: Endpoint,
    /// Health, metrics, administration.
    pub http: Endpoint,
    /// Whom to believe over https.
    pub trust: Trust,
    /// Missing keys are an error only once a request has to be signed.
    pub keys: Option<Keys>,
    /// Where credentials were looked for last.
    pub data_dir: PathBuf,
}

/// Whether the variables or the data directory are asked first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prefer {
    /// For commands that use a server.
    Environment,
    /// For commands that print a data directory's settings: `eval "$(minikv env)"` must not repeat what an earlier
    /// one left in the environment.
    DataDirectory,
}

impl Target {
    /// Looks in all places.
    pub fn find(
        args: &TargetArgs,
        environment: &Environment,
        prefer: Prefer,
    ) -> Result<Target, Failure> {
        let data_dir = sources::data_dir(args.data_dir.as_deref(), environment)?;
        let file = credentials::read(&data_dir).map_err(|cause| {
            Failure::io(
                format!("cannot read {}", credentials::path(&data_dir).display()),
                &cause,
            )
        })?;
        // A directory named on the command line is a flag, and flags come first.
        let file_first = prefer == Prefer::DataDirectory || args.data_dir.is_some();

        let variable = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| environment.get(name))
                .map(|value| value.to_owned())
        };
        let choose =
            |flag: &Option<String>, names: &[&str], filed: Option<&String>, default: &str| {
                let (first, second) = if file_first {
                    (filed.cloned(), variable(names))
                } else {
                    (variable(names), filed.cloned())
                };
                flag.clone()
                    .or(first)
                    .or(second)
                    .unwrap_or_else(|| default.to_owned())
            };
        let s3 = choose(
            &args.endpoint,
            &["MINIKV_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"],
            file.as_ref().map(|f| &f.s3_endpoint),
            "http://127.0.0.1:9000",
        );
        let http = choose(
            &args.http_endpoint,
            &["MINIKV_HTTP_ENDPOINT"],
            file.as_ref().map(|f| &f.http_endpoint),
            "http://127.0.0.1:9001",
        );
        // A flag says all there is to say; otherwise what this machine's server left in its directory counts, too.
        let trust = match &args.ca_cert {
            Some(path) => Trust {
                ca_cert: Some(path.clone()),
                ..Trust::default()
            },
            None => Trust {
                ca_cert: environment.get("AWS_CA_BUNDLE").map(PathBuf::from),
                own_ca: file.as_ref().and_then(|f| f.ca_cert.clone()),
                server_cert: file.as_ref().and_then(|f| f.server_cert.clone()),
            },
        };
        let keys = find_keys(args, environment, file.as_ref(), file_first, &data_dir)?;
        Ok(Target {
            s3: s3.parse()?,
            http: http.parse()?,
            trust,
            keys,
            data_dir,
        })
    }

    /// The CA that other clients must be told of: none over plain http, none when the machine's own do.
    pub fn ca_for_clients(&self) -> Option<String> {
        let ca = self.trust.own_ca.as_ref().or(self.trust.ca_cert.as_ref());
        let ca = ca.filter(|_| self.s3.is_https())?;
        let absolute = std::path::absolute(ca).unwrap_or_else(|_| ca.clone());
        Some(absolute.display().to_string())
    }

    /// The keys, or how to get some.
    pub fn keys(&self) -> Result<&Keys, Failure> {
        self.keys.as_ref().ok_or_else(|| {
            Failure::new(
                Exit::Denied,
                format!(
                    "no credentials: none in flags or environment, and no {}",
                    credentials::path(&self.data_dir).display()
                ),
            )
            .fix("run this where the server was started, or name its directory: --data-dir DIR")
        })
    }
}

fn find_keys(
    args: &TargetArgs,
    environment: &Environment,
    file: Option<&CredentialsFile>,
    file_first: bool,
    data_dir: &std::path::Path,
) -> Result<Option<Keys>, Failure> {
    if let (Some(access_key), Some(secret_key)) = (&args.access_key, &args.secret_key) {
        return Ok(Some(Keys {
            access_key: access_key.clone(),
            secret_key: Secret::new(secret_key),
            from: "the command line".to_owned(),
        }));
    }
    let filed = file.map(|file| Keys {
        access_key: file.access_key.clone(),
        secret_key: file.secret_key.clone(),
        from: credentials::path(data_dir).display().to_string(),
    });
    if file_first && filed.is_some() {
        return Ok(filed);
    }
    let pairs = [
        ("MINIKV_ROOT_ACCESS_KEY", "MINIKV_ROOT_SECRET_KEY"),
        ("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ];
    for (access, secret) in pairs {
        let found = (
            environment.get_or_file(access)?,
            environment.get_or_file(secret)?,
        );
        if let (Some((access_key, _)), Some((secret_key, _))) = found {
            let from = format!("the environment ({access})");
            return Ok(Some(Keys {
                access_key,
                secret_key: Secret::new(secret_key),
                from,
            }));
        }
    }
    Ok(filed)
}

/// `BUCKET/KEY`, or a bare `KEY` in bucket `kv`; `s3://` in front is welcome.
pub fn object_name(text: &str) -> Result<(String, String), Failure> {
    let plain = text.strip_prefix("s3://").unwrap_or(text);
    let (bucket, key) = match plain.split_once('/') {
        Some((bucket, key)) => (bucket, key),
        None => ("kv", plain),
    };
    if bucket.is_empty() || key.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            format!("`{text}` names no object; write BUCKET/KEY or KEY"),
        ));
    }
    Ok((bucket.to_owned(), key.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn server_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let file = CredentialsFile {
            access_key: "FILED".into(),
            secret_key: Secret::new("filed-secret"),
            s3_endpoint: "http://127.0.0.1:7000".into(),
            http_endpoint: "http://127.0.0.1:7001".into(),
            ca_cert: Some("/filed/ca.pem".into()),
            server_cert: None,
        };
        credentials::write(dir.path(), &file).unwrap();
        dir
    }

    /// Flags, then environment, then the data directory; a directory given as a flag beats the environment.
    #[test]
    fn keys_come_from_the_nearest_place() {
        let dir = server_dir();
        let path = dir.path().to_str().unwrap();
        let aws = [("AWS_ACCESS_KEY_ID", "AWS"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let with_dir = Environment::of(&[("MINIKV_DATA_DIR", path), aws[0], aws[1]]);
        let found = |args: &TargetArgs, env: &Environment, prefer| {
            Target::find(args, env, prefer)
                .unwrap()
                .keys
                .unwrap()
                .access_key
        };
        let none = TargetArgs::default();
        assert_eq!(found(&none, &with_dir, Prefer::Environment), "AWS");
        assert_eq!(found(&none, &with_dir, Prefer::DataDirectory), "FILED");
        let named = TargetArgs {
            data_dir: Some(path.into()),
            ..none.clone()
        };
        assert_eq!(
            found(&named, &Environment::of(&aws), Prefer::Environment),
            "FILED"
        );
        let flags = TargetArgs {
            access_key: Some("F".into()),
            secret_key: Some("s".into()),
            ..named
        };
        assert_eq!(found(&flags, &with_dir, Prefer::Environment), "F");
        let target = Target::find(&none, &with_dir, Prefer::Environment).unwrap();
        assert_eq!(target.s3.to_string(), "http://127.0.0.1:7000");
        assert_eq!(
            target.trust.own_ca.as_deref(),
            Some("/filed/ca.pem".as_ref())
        );
        let bundle = Environment::of(&[("MINIKV_DATA_DIR", path), ("AWS_CA_BUNDLE", "/b.pem")]);
        let target = Target::find(&none, &bundle, Prefer::Environment).unwrap();
        assert_eq!(target.trust.ca_cert.as_deref(), Some("/b.pem".as_ref()));
        assert!(
            target.trust.own_ca.is_some(),
            "a bundle of the company does not hide the server's own CA"
        );
        let flag = TargetArgs {
            ca_cert: Some("/flag.pem".into()),
            ..none
        };
        let target = Target::find(&flag, &bundle, Prefer::Environment).unwrap();
        assert_eq!(target.trust.ca_cert.as_deref(), Some("/flag.pem".as_ref()));
        assert_eq!(target.trust.own_ca, None);
    }

    /// Nothing anywhere: the error says where it looked and what to do.
    #[test]
    fn missing_keys_say_where_to_get_some() {
        let args = TargetArgs {
            data_dir: Some("/nonexistent".into()),
            ..TargetArgs::default()
        };
        let target = Target::find(&args, &Environment::default(), Prefer::Environment).unwrap();
        let failure = target.keys().unwrap_err();
        assert_eq!(failure.exit, Exit::Denied);
        assert!(failure.text().contains("--data-dir"), "{}", failure.text());
    }

    /// The two spellings of an object's name.
    #[test]
    fn bare_key_lies_in_bucket_kv() {
        assert_eq!(object_name("hello").unwrap(), ("kv".into(), "hello".into()));
        assert_eq!(object_name("a/b/c").unwrap(), ("a".into(), "b/c".into()));
        assert_eq!(object_name("s3://a/b").unwrap(), ("a".into(), "b".into()));
        assert!(object_name("a/").is_err());
        assert!(object_name("/b").is_err());
        assert!(object_name("").is_err());
    }
}
