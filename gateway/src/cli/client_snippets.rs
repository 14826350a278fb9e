//! The words of `minikv client-config`: one function for each client.
//!
//! Each snippet works as printed, over http and https. Why it says more than endpoint and keys stands beside the line.

use super::client::endpoint::Endpoint;
use super::client_config::Client;
use super::env::shell_quoted;

/// Where a client shall go, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// The S3 port.
    pub endpoint: &'a Endpoint,
    /// Public half of the key.
    pub access: &'a str,
    /// Secret half.
    pub secret: &'a str,
    /// The CA to trust, when it is not one that the machine knows.
    pub ca: Option<&'a str>,
}

/// The settings of a client.
pub fn snippet(client: Client, to: &Access<'_>) -> String {
    match client {
        Client::Aws => aws(to),
        Client::Boto3 => boto3(to),
        Client::Rclone => rclone(to),
        Client::Mc => mc(to),
        Client::S3cmd => s3cmd(to),
        Client::S5cmd => s5cmd(to),
        Client::Restic => restic(to),
        Client::Duckdb => duckdb(to),
        Client::Pyarrow => pyarrow(to),
        Client::Spark => spark(to),
        Client::Delta => delta(to),
        Client::Terraform => terraform(to),
        Client::Litestream => litestream(to),
        Client::Loki => loki(to),
        Client::Velero => velero(to),
    }
}

/// A line that is there only with a CA.
fn with_ca(to: &Access<'_>, line: impl FnOnce(&str) -> String) -> String {
    to.ca.map(line).unwrap_or_default()
}

/// A JSON string is a string of Python and of YAML, too.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// In a string of HCL two signs begin a template.
fn hcl(text: &str) -> String {
    json(text).replace("${", "$${").replace("%{", "%%{")
}

fn sql(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn python_bool(yes: bool) -> &'static str {
    if yes { "True" } else { "False" }
}

fn exports(pairs: &[(&str, &str)]) -> String {
    let line = |(name, value): &(&str, &str)| format!("export {name}={}\n", shell_quoted(value));
    pairs.iter().map(line).collect()
}

// Without signature_version botocore presigns with the retired SigV2 whenever the region is us-east-1.
fn aws(to: &Access<'_>) -> String {
    let (access, secret) = (shell_quoted(to.access), shell_quoted(to.secret));
    format!(
        "\
aws configure set aws_access_key_id {access} --profile minikv
aws configure set aws_secret_access_key {secret} --profile minikv
aws configure set region us-east-1 --profile minikv
aws configure set endpoint_url {} --profile minikv
aws configure set s3.signature_version s3v4 --profile minikv
{}# then: aws --profile minikv s3 ls        (endpoint_url is read by aws 1.29 and 2.13 or newer)
",
        to.endpoint,
        with_ca(to, |ca| format!(
            "aws configure set ca_bundle {} --profile minikv\n",
            shell_quoted(ca)
        )),
    )
}

fn boto3(to: &Access<'_>) -> String {
    format!(
        "\
import boto3
from botocore.config import Config

s3 = boto3.client(
    \"s3\",
    endpoint_url=\"{}\",
    aws_access_key_id={},
    aws_secret_access_key={},
    region_name=\"us-east-1\",
{}    config=Config(signature_version=\"s3v4\", s3={{\"addressing_style\": \"path\"}}),
)
print([bucket[\"Name\"] for bucket in s3.list_buckets()[\"Buckets\"]])
",
        to.endpoint,
        json(to.access),
        json(to.secret),
        with_ca(to, |ca| format!("    verify={},\n", json(ca))),
    )
}

// Provider `Other` makes rclone work around limits that minikv does not have.
fn rclone(to: &Access<'_>) -> String {
    format!(
        "\
[minikv]
type = s3
provider = Minio
endpoint = {}
access_key_id = {}
secret_access_key = {}
region = us-east-1
{}",
        to.endpoint,
        to.access,
        to.secret,
        with_ca(to, |ca| format!("override.ca_cert = {ca}\n")),
    )
}

fn mc(to: &Access<'_>) -> String {
    format!(
        "{}mc alias set minikv {} {} {} --api S3v4 --path on\n",
        with_ca(to, |ca| format!(
            "mkdir -p \"${{MC_CONFIG_DIR:-$HOME/.mc}}/certs/CAs\" && cp {} \"${{MC_CONFIG_DIR:-$HOME/.mc}}/certs/CAs/minikv.pem\"\n",
            shell_quoted(ca)
        )),
        to.endpoint,
        shell_quoted(to.access),
        shell_quoted(to.secret),
    )
}

// host_bucket without %(bucket)s is how s3cmd is told to use path-style requests.
fn s3cmd(to: &Access<'_>) -> String {
    let authority = to.endpoint.authority();
    format!(
        "\
[default]
access_key = {}
secret_key = {}
host_base = {authority}
host_bucket = {authority}
bucket_location = us-east-1
use_https = {}
signature_v2 = False
{}",
        to.access,
        to.secret,
        python_bool(to.endpoint.is_https()),
        with_ca(to, |ca| format!("ca_certs_file = {ca}\n")),
    )
}

fn s5cmd(to: &Access<'_>) -> String {
    let endpoint = to.endpoint.to_string();
    let mut pairs = vec![
        ("S3_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", to.access),
        ("AWS_SECRET_ACCESS_KEY", to.secret),
        ("AWS_REGION", "us-east-1"),
    ];
    pairs.extend(to.ca.map(|ca| ("AWS_CA_BUNDLE", ca)));
    exports(&pairs) + "# then: s5cmd ls\n"
}

fn restic(to: &Access<'_>) -> String {
    let repository = format!("s3:{}/restic", to.endpoint);
    let mut pairs = vec![
        ("RESTIC_REPOSITORY", repository.as_str()),
        ("AWS_ACCESS_KEY_ID", to.access),
        ("AWS_SECRET_ACCESS_KEY", to.secret),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ];
    pairs.extend(to.ca.map(|ca| ("RESTIC_CACERT", ca)));
    exports(&pairs) + "# then: restic init        (makes the bucket, too)\n"
}

fn duckdb(to: &Access<'_>) -> String {
    format!(
        "\
INSTALL httpfs;
LOAD httpfs;
CREATE OR REPLACE SECRET minikv (
    TYPE s3,
    KEY_ID {},
    SECRET {},
    REGION 'us-east-1',
    ENDPOINT {},
    URL_STYLE 'path',
    USE_SSL {}
);
{}-- then: SELECT * FROM 's3://BUCKET/FILE.parquet';
",
        sql(to.access),
        sql(to.secret),
        sql(&to.endpoint.authority()),
        to.endpoint.is_https(),
        with_ca(to, |ca| format!("SET ca_cert_file = {};\n", sql(ca))),
    )
}

// PyArrow does not read AWS_ENDPOINT_URL; tls_ca_file_path is known from version 21 on.
fn pyarrow(to: &Access<'_>) -> String {
    format!(
        "\
from pyarrow import fs

s3 = fs.S3FileSystem(
    access_key={},
    secret_key={},
    region=\"us-east-1\",
    endpoint_override={},
    scheme=\"{}\",
{})
print([info.path for info in s3.get_file_info(fs.FileSelector(\"\"))])
",
        json(to.access),
        json(to.secret),
        json(&to.endpoint.authority()),
        if to.endpoint.is_https() {
            "https"
        } else {
            "http"
        },
        with_ca(to, |ca| format!("    tls_ca_file_path={},\n", json(ca))),
    )
}

fn spark(to: &Access<'_>) -> String {
    let trust = |ca: &str| {
        let option = "-Djavax.net.ssl.trustStore=/path/to/minikv.p12 -Djavax.net.ssl.trustStorePassword=changeit";
        format!(
            "\
# Java trusts key stores only; make one on every machine:
# keytool -importcert -noprompt -alias minikv -file {} -keystore /path/to/minikv.p12 -storetype PKCS12 -storepass changeit
spark.driver.extraJavaOptions               {option}
spark.executor.extraJavaOptions             {option}
",
            shell_quoted(ca)
        )
    };
    format!(
        "\
spark.hadoop.fs.s3a.endpoint                {}
spark.hadoop.fs.s3a.endpoint.region         us-east-1
spark.hadoop.fs.s3a.access.key              {}
spark.hadoop.fs.s3a.secret.key              {}
spark.hadoop.fs.s3a.path.style.access       true
spark.hadoop.fs.s3a.connection.ssl.enabled  {}
{}",
        to.endpoint,
        to.access,
        to.secret,
        to.endpoint.is_https(),
        with_ca(to, trust),
    )
}

// Two writers of one table exclude each other by If-None-Match, so no lock table is needed.
fn delta(to: &Access<'_>) -> String {
    format!(
        "\
{}storage_options = {{
    \"AWS_ENDPOINT_URL\": \"{}\",
    \"AWS_ACCESS_KEY_ID\": {},
    \"AWS_SECRET_ACCESS_KEY\": {},
    \"AWS_REGION\": \"us-east-1\",
    \"AWS_ALLOW_HTTP\": \"{}\",
    \"AWS_CONDITIONAL_PUT\": \"etag\",
}}
# then: deltalake.write_deltalake(\"s3://BUCKET/TABLE\", data, storage_options=storage_options)
",
        with_ca(to, |ca| format!(
            "import os\n\nos.environ[\"SSL_CERT_FILE\"] = {}  # before deltalake is used\n",
            json(ca)
        )),
        to.endpoint,
        json(to.access),
        json(to.secret),
        !to.endpoint.is_https(),
    )
}

// The skips: minikv is no AWS account, has no STS and no metadata service.
fn terraform(to: &Access<'_>) -> String {
    let (access, secret) = (hcl(to.access), hcl(to.secret));
    let endpoint = hcl(&to.endpoint.to_string());
    let ca = |indent: &str| {
        with_ca(to, |ca| {
            format!("{indent}custom_ca_bundle            = {}\n", hcl(ca))
        })
    };
    format!(
        "\
provider \"aws\" {{
  region                      = \"us-east-1\"
  access_key                  = {access}
  secret_key                  = {secret}
{}  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_requesting_account_id  = true
  endpoints {{
    s3 = {endpoint}
  }}
}}

terraform {{
  backend \"s3\" {{
    bucket                      = \"terraform-state\"
    key                         = \"terraform.tfstate\"
    region                      = \"us-east-1\"
    access_key                  = {access}
    secret_key                  = {secret}
{}    endpoints                   = {{ s3 = {endpoint} }}
    use_path_style              = true
    use_lockfile                = true
    skip_credentials_validation = true
    skip_metadata_api_check     = true
    skip_requesting_account_id  = true
  }}
}}
",
        ca("  "),
        ca("    "),
    )
}

// Go reads the CAs of the machine from SSL_CERT_FILE.
fn litestream(to: &Access<'_>) -> String {
    format!(
        "\
{}dbs:
  - path: /path/to/app.db
    replicas:
      - type: s3
        bucket: litestream
        path: app.db
        endpoint: {}
        region: us-east-1
        access-key-id: {}
        secret-access-key: {}
        force-path-style: true
",
        with_ca(to, |ca| format!(
            "# run it as: SSL_CERT_FILE={} litestream replicate -config litestream.yml\n",
            shell_quoted(ca)
        )),
        to.endpoint,
        json(to.access),
        json(to.secret),
    )
}

fn loki(to: &Access<'_>) -> String {
    format!(
        "\
common:
  storage:
    s3:
      endpoint: {}
      bucketnames: loki
      region: us-east-1
      access_key_id: {}
      secret_access_key: {}
      s3forcepathstyle: true
      insecure: {}
{}",
        json(&to.endpoint.authority()),
        json(to.access),
        json(to.secret),
        !to.endpoint.is_https(),
        with_ca(to, |ca| format!(
            "      http_config:\n        ca_file: {}\n",
            json(ca)
        )),
    )
}

fn velero(to: &Access<'_>) -> String {
    format!(
        "\
umask 077 && cat > credentials-velero <<'END'
[default]
aws_access_key_id = {}
aws_secret_access_key = {}
END
velero install --provider aws --plugins velero/velero-plugin-for-aws:v1.12.0 \\
  --bucket velero --secret-file ./credentials-velero --use-volume-snapshots=false {}\\
  --backup-location-config region=us-east-1,s3ForcePathStyle=true,s3Url={}
",
        to.access,
        to.secret,
        with_ca(to, |ca| format!("--cacert {} ", shell_quoted(ca))),
        to.endpoint,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::ValueEnum;

    use super::*;

    fn all(endpoint: &str, ca: Option<&str>) -> String {
        let endpoint: Endpoint = endpoint.parse().unwrap();
        let mut text = String::new();
        for client in Client::value_variants() {
            let to = Access {
                endpoint: &endpoint,
                access: "ACCESSKEY",
                secret: "SECRETKEY",
                ca,
            };
            text.push_str(&format!("======== {client:?}\n{}", snippet(*client, &to)));
        }
        text
    }

    /// What people paste; a change shows up in review.
    #[test]
    fn snippets_read_as_reviewed() {
        insta::assert_snapshot!(all("http://127.0.0.1:9000", None));
    }

    /// The same with the CA of `--tls auto`.
    #[test]
    fn snippets_over_https_read_as_reviewed() {
        insta::assert_snapshot!(all(
            "https://127.0.0.1:9000",
            Some("/srv/minikv/tls/ca.pem")
        ));
    }

    /// Every client that checks certificates is told of the CA.
    #[test]
    fn every_snippet_over_https_names_the_ca() {
        let text = all("https://127.0.0.1:9000", Some("/srv/my ca.pem"));
        for part in text.split("======== ").skip(1) {
            assert!(part.contains("/srv/my ca.pem"), "{part}");
        }
    }
}
