//! What a user sees when the server is up: addresses, and lines to paste.
//!
//! Always true: the secret stands there only when a person looks (standard output is a terminal); logs of services
//! and containers get the command that shows it.

use std::path::Path;
use std::time::Duration;

use crate::config::{Config, Fsync};

/// What it tells.
pub struct Banner<'a> {
    /// Settings.
    pub config: &'a Config,
    /// `http://127.0.0.1:9000`, with the port that was really bound.
    pub s3: &'a str,
    /// `http://127.0.0.1:9001`.
    pub http: &'a str,
    /// The CA of `--tls auto`.
    pub ca_cert: Option<&'a Path>,
    /// Root's public half.
    pub access_key: &'a str,
    /// Root's secret half, for a terminal only.
    pub secret_key: Option<&'a str>,
    /// Whether there is (still) a bucket `demo`.
    pub demo_bucket: bool,
    /// From the start of the process to the first answer.
    pub took: Duration,
}

impl Banner<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let Config {
            data_dir,
            engine,
            fsync,
            ..
        } = self.config;
        let at = data_dir_flag(data_dir);
        let keys = match self.secret_key {
            Some(secret) => format!("{} / {secret}", self.access_key),
            None => format!(
                "{} / shown by: minikv credentials show{at}",
                self.access_key
            ),
        };
        let alias = match self.secret_key.filter(|_| self.ca_cert.is_none()) {
            Some(secret) => format!(
                "mc alias set minikv {} {} {secret}",
                self.s3, self.access_key
            ),
            None => format!("minikv client-config mc{at} | sh"),
        };
        let aws = match self.demo_bucket {
            true => "aws s3 cp README.md s3://demo/ && aws s3 ls s3://demo",
            false => "aws s3 ls",
        };
        let tls = match self.ca_cert {
            Some(ca) => format!(
                "  TLS    AWS_CA_BUNDLE={}   (the CA that clients must trust)\n",
                ca.display()
            ),
            None => String::new(),
        };
        let mut text = format!(
            "\
minikv {} ready in {} ms

  S3     {}   region us-east-1
  HTTP   {}   /readyz /metrics, minikv status{at}
  Data   {}   engine {engine}, fsync {fsync}
{tls}  Root   {keys}

  eval \"$(minikv env{at})\"
  {aws}
  {alias}
  echo hi | minikv put hello{at} && minikv get hello{at}
  minikv client-config boto3{at}     (also aws, rclone, mc, s3cmd)
",
            env!("CARGO_PKG_VERSION"),
            self.took.as_millis(),
            self.s3,
            self.http,
            data_dir.display(),
        );
        if self.config.demo {
            text.push_str(&format!(
                "  curl -X PUT {0}/s3/mybucket/hello -d hi && curl {0}/s3/mybucket/hello\n",
                self.http
            ));
        }
        if *fsync != Fsync::Always {
            text.push_str(&format!(
                "\n  WARNING  fsync = {fsync}: a power cut loses writes that were acknowledged\n"
            ));
        }
        text
    }

    /// For programs (`--json`); never with the secret.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "event": "ready",
            "version": env!("CARGO_PKG_VERSION"),
            "ready_ms": self.took.as_millis() as u64,
            "s3": self.s3,
            "http": self.http,
            "ca_cert": self.ca_cert,
            "data_dir": self.config.data_dir,
            "access_key": self.access_key,
            "pid": std::process::id(),
        })
    }
}

/// Commands find the default directory by themselves.
fn data_dir_flag(data_dir: &Path) -> String {
    if data_dir == Config::default().data_dir {
        String::new()
    } else {
        format!(" --data-dir {}", data_dir.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner<'a>(config: &'a Config, secret_key: Option<&'a str>) -> Banner<'a> {
        Banner {
            config,
            s3: "http://127.0.0.1:9000",
            http: "http://127.0.0.1:9001",
            ca_cert: None,
            access_key: "ACCESSKEY",
            secret_key,
            demo_bucket: true,
            took: Duration::from_millis(42),
        }
    }

    /// A service's log is read by many; the secret must not be in it.
    #[test]
    fn secret_is_shown_to_a_terminal_only() {
        let config = Config::default();
        assert!(
            banner(&config, Some("TOPSECRET"))
                .text()
                .contains("TOPSECRET")
        );
        let text = banner(&config, None).text();
        assert!(!text.contains("TOPSECRET") && text.contains("minikv credentials show"));
        assert!(
            !banner(&config, Some("TOPSECRET"))
                .json()
                .to_string()
                .contains("TOPSECRET")
        );
    }

    /// About 14 lines, reviewed as text.
    #[test]
    fn banner_reads_as_reviewed() {
        let text = banner(&Config::default(), None).text();
        assert!(text.lines().count() <= 14, "{} lines", text.lines().count());
        let risky = Config {
            fsync: Fsync::Never,
            demo: true,
            data_dir: "/srv/minikv".into(),
            ..Config::default()
        };
        let secure = Banner {
            s3: "https://127.0.0.1:9000",
            http: "https://127.0.0.1:9001",
            ca_cert: Some(Path::new("/srv/minikv/tls/ca.pem")),
            ..banner(&risky, Some("SECRETKEY"))
        };
        let all = format!(
            "{text}\n========\n{}\n========\n{}",
            banner(&risky, Some("SECRETKEY")).text(),
            secure.text()
        );
        insta::assert_snapshot!(all.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    }
}
