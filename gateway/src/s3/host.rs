//! Under which names, and by which scheme, this server is reached; which bucket a `Host` names (virtual-host style).
//!
//! `photos.s3.example.org` is bucket `photos` when `s3.example.org` is one of our domains; a host that ends in none of
//! them is just a name of this server. `localhost` is always one, so that `photos.localhost:9000` works out of the box.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

/// Our domains, lower-case, without ports.
#[derive(Clone, Debug)]
pub struct Hosts {
    domains: Vec<String>,
    https: bool,
}

impl Hosts {
    /// `localhost` and these; over TLS or not.
    pub fn new(domains: &[String], https: bool) -> Hosts {
        let mut domains: Vec<String> = domains
            .iter()
            .map(|domain| domain.to_ascii_lowercase())
            .collect();
        domains.push("localhost".to_owned());
        // The longest that fits counts, so that a domain within a domain is found.
        domains.sort_by_key(|domain| std::cmp::Reverse(domain.len()));
        Hosts { domains, https }
    }

    /// How URLs to us begin.
    pub fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// The bucket that a `Host` header names.
    pub fn bucket(&self, host: &str) -> Option<String> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        for domain in &self.domains {
            if name == *domain {
                return None;
            }
            if let Some(bucket) = name
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
            {
                return Some(bucket.to_owned()).filter(|bucket| !bucket.is_empty());
            }
        }
        None
    }
}

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let plain = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => plain.with_bucket(bucket),
            None => plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_found_in_hosts_of_our_domains_only() {
        let hosts = Hosts::new(
            &["S3.example.org".to_owned(), "example.org".to_owned()],
            true,
        );
        for (host, bucket) in [
            ("photos.s3.example.org", Some("photos")),
            ("photos.s3.example.org:9000", Some("photos")),
            ("my.photos.s3.example.org", Some("my.photos")),
            ("photos.example.org", Some("photos")),
            ("Photos.localhost:9000", Some("photos")),
            ("s3.example.org", None),
            ("localhost:9000", None),
            ("127.0.0.1:9000", None),
            ("[::1]:9000", None),
            ("photos.elsewhere.net", None),
            ("notlocalhost", None),
            (".localhost", None),
            ("", None),
        ] {
            assert_eq!(hosts.bucket(host).as_deref(), bucket, "{host}");
        }
    }
}
