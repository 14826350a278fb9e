//! `x-amz-copy-source`: `bucket/key`, with or without a slash before it, percent-encoded, perhaps with `?versionId=…`.
//!
//! s3s reads it, too, but by names of buckets that are not all of ours, and only ASCII. It is given another one.

use super::error::WireError;
use crate::auth::canonical;
use crate::object::name::check_bucket_name;

/// Where a copy comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceName {
    /// Its bucket.
    pub bucket: String,
    /// Its key, not empty.
    pub key: String,
    /// Its version, when one is named.
    pub version: Option<String>,
}

fn refused(message: &str, text: &str) -> WireError {
    WireError::bad("InvalidArgument", message)
        .detail("ArgumentName", "x-amz-copy-source")
        .detail("ArgumentValue", text)
}

impl SourceName {
    /// As the header says it.
    pub fn parse(text: &str) -> Result<SourceName, WireError> {
        let decode = |part: &str| {
            canonical::decode(part, false)
                .map_err(|_| refused("Invalid copy source encoding", text))
        };
        let (path, version) = match text.split_once("?versionId=") {
            Some((path, version)) => (path, Some(decode(version)?)),
            None => (text, None),
        };
        let path = decode(path)?;
        if path.starts_with("arn:") {
            // Access points are S3's own, and nobody has them here.
            return Err(WireError::not_implemented(
                "access points in x-amz-copy-source",
            ));
        }
        let path = path.strip_prefix('/').unwrap_or(&path);
        let (bucket, key) = path
            .split_once('/')
            .filter(|(_, key)| !key.is_empty())
            .ok_or_else(|| {
                refused(
                    "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
                    text,
                )
            })?;
        if check_bucket_name(bucket).is_err() {
            return Err(refused("Invalid copy source bucket name", text));
        }
        Ok(SourceName {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version,
        })
    }

    /// As a header says it.
    pub fn text(&self) -> String {
        let mut text = format!("{}/{}", self.bucket, canonical::encode(&self.key, true));
        if let Some(version) = &self.version {
            text.push_str("?versionId=");
            canonical::encode_into(&mut text, version, false);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_source_is_read_however_clients_write_it() {
        for (text, key, version) in [
            ("/bucket/a%20b", "a b", None),
            ("bucket/dir/ä+%2B", "dir/ä++", None),
            ("bucket//a", "/a", None),
            ("%2Fbucket%2Fa%3FversionId%3D1", "a?versionId=1", None),
            ("bucket/a?versionId=null", "a", Some("null")),
            ("bucket/a%", "a%", None),
        ] {
            let source = SourceName::parse(text).unwrap();
            assert_eq!(
                (
                    source.bucket.as_str(),
                    source.key.as_str(),
                    source.version.as_deref()
                ),
                ("bucket", key, version)
            );
            assert_eq!(SourceName::parse(&source.text()).unwrap(), source);
        }
        assert_eq!(SourceName::parse("kv/a").unwrap().bucket, "kv");
        for bad in [
            "",
            "/",
            "bucket",
            "bucket/",
            "/bucket/",
            "B_/a",
            "bucket/%ff",
        ] {
            let error = SourceName::parse(bad).unwrap_err();
            assert_eq!(error.code, "InvalidArgument", "{bad}");
        }
        let arn = SourceName::parse("arn:aws:s3:us-east-1:1:accesspoint/n/object/k");
        assert_eq!(arn.unwrap_err().code, "NotImplemented");
    }
}
