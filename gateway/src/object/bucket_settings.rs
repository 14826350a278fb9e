//! What the gateway keeps with a bucket; opaque to the core.
//!
//! Encoded as protocol buffers: fields are added, never renumbered.

use bytes::Bytes;
use prost::Message;

use super::compression::Codec;
use super::cors::CorsRule;
use super::encryption::{self, BucketDefault};
use super::lifecycle::{self, Lifecycle};
use super::record::RecordError;
use super::tags::{self, Tags};

/// Settings of a bucket; the default is what a new bucket has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BucketSettings {
    /// Its tags.
    pub tags: Tags,
    /// Its CORS rules.
    pub cors: Vec<CorsRule>,
    /// How writes are encrypted that do not say.
    pub encryption: Option<BucketDefault>,
    /// Public access was blocked; there is none either way.
    pub public_access_blocked: bool,
    /// The ownership controls that every bucket has were taken away.
    pub no_ownership_controls: bool,
    /// What in it ages.
    pub lifecycle: Option<Lifecycle>,
    /// With what its objects are compressed.
    pub compression: Option<Codec>,
}

mod wire {
    //! The bytes. Numbers are final.

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Settings {
        #[prost(message, optional, tag = "1")]
        pub tags: Option<super::tags::wire::Tags>,
        #[prost(message, repeated, tag = "2")]
        pub cors: Vec<CorsRule>,
        #[prost(message, optional, tag = "8")]
        pub encryption: Option<super::encryption::wire::BucketDefault>,
        #[prost(bool, tag = "9")]
        pub public_access_blocked: bool,
        #[prost(bool, tag = "10")]
        pub no_ownership_controls: bool,
        #[prost(message, optional, tag = "20")]
        pub lifecycle: Option<super::lifecycle::wire::Rules>,
        /// 1 LZ4, 2 zstd; 0: not.
        #[prost(uint32, tag = "21")]
        pub compression: u32,
    }

    /// What every write must know besides encryption.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct OnlyCompression {
        #[prost(uint32, tag = "21")]
        pub compression: u32,
    }

    /// Whether anything ages, alone: reading it copies nothing.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct OnlyLifecycle {
        #[prost(bytes = "bytes", optional, tag = "20")]
        pub lifecycle: Option<bytes::Bytes>,
    }

    /// What every write must know, alone: reading it skips the rest without copying any.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct OnlyEncryption {
        #[prost(message, optional, tag = "8")]
        pub encryption: Option<super::encryption::wire::BucketDefault>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct CorsRule {
        #[prost(string, optional, tag = "1")]
        pub id: Option<String>,
        #[prost(string, repeated, tag = "2")]
        pub origins: Vec<String>,
        #[prost(string, repeated, tag = "3")]
        pub methods: Vec<String>,
        #[prost(string, repeated, tag = "4")]
        pub headers: Vec<String>,
        #[prost(string, repeated, tag = "5")]
        pub exposed: Vec<String>,
        #[prost(uint32, optional, tag = "6")]
        pub max_age_seconds: Option<u32>,
    }
}

impl BucketSettings {
    /// As the core keeps them.
    pub fn encode(&self) -> Bytes {
        let tags = (!self.tags.is_empty()).then(|| self.tags.to_wire());
        let cors = self.cors.iter().cloned().map(rule_to_wire).collect();
        let encryption = self.encryption.as_ref().map(BucketDefault::to_wire);
        let lifecycle = self.lifecycle.as_ref().map(Lifecycle::to_wire);
        wire::Settings {
            tags,
            cors,
            encryption,
            public_access_blocked: self.public_access_blocked,
            no_ownership_controls: self.no_ownership_controls,
            lifecycle,
            compression: self.compression.map_or(0, Codec::number),
        }
        .encode_to_vec()
        .into()
    }

    /// As the core gave them back.
    pub fn decode(bytes: &[u8]) -> Result<BucketSettings, RecordError> {
        let stored = wire::Settings::decode(bytes).map_err(RecordError::new)?;
        Ok(BucketSettings {
            tags: stored.tags.map(Tags::of_wire).unwrap_or_default(),
            cors: stored.cors.into_iter().map(rule_of_wire).collect(),
            encryption: stored.encryption.map(BucketDefault::of_wire).transpose()?,
            public_access_blocked: stored.public_access_blocked,
            no_ownership_controls: stored.no_ownership_controls,
            lifecycle: stored.lifecycle.map(Lifecycle::of_wire).transpose()?,
            compression: codec(stored.compression)?,
        })
    }

    /// Whether it has lifecycle rules. Asked with every request: it copies nothing, and mostly there is nothing.
    pub fn has_lifecycle(bytes: &Bytes) -> bool {
        !bytes.is_empty()
            && wire::OnlyLifecycle::decode(bytes.clone()).is_ok_and(|only| only.lifecycle.is_some())
    }

    /// The lifecycle rules alone.
    pub fn lifecycle_of(bytes: &Bytes) -> Result<Option<Lifecycle>, RecordError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let only = wire::OnlyLifecycle::decode(bytes.clone()).map_err(RecordError::new)?;
        let Some(rules) = only.lifecycle else {
            return Ok(None);
        };
        let rules = lifecycle::wire::Rules::decode(rules).map_err(RecordError::new)?;
        Lifecycle::of_wire(rules).map(Some)
    }

    /// With what writes are compressed. Asked with every write: it copies nothing, and mostly there is nothing.
    pub fn compression_of(bytes: &[u8]) -> Result<Option<Codec>, RecordError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let stored = wire::OnlyCompression::decode(bytes).map_err(RecordError::new)?;
        codec(stored.compression)
    }

    /// The default encryption alone.
    pub fn encryption_of(bytes: &[u8]) -> Result<Option<BucketDefault>, RecordError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let stored = wire::OnlyEncryption::decode(bytes).map_err(RecordError::new)?;
        stored.encryption.map(BucketDefault::of_wire).transpose()
    }
}

fn codec(number: u32) -> Result<Option<Codec>, RecordError> {
    match number {
        0 => Ok(None),
        number => Codec::of_number(number).map(Some),
    }
}

fn rule_to_wire(rule: CorsRule) -> wire::CorsRule {
    wire::CorsRule {
        id: rule.id,
        origins: rule.origins,
        methods: rule.methods,
        headers: rule.headers,
        exposed: rule.exposed,
        max_age_seconds: rule.max_age_seconds,
    }
}

fn rule_of_wire(stored: wire::CorsRule) -> CorsRule {
    CorsRule {
        id: stored.id,
        origins: stored.origins,
        methods: stored.methods,
        headers: stored.headers,
        exposed: stored.exposed,
        max_age_seconds: stored.max_age_seconds,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::object::encryption::DefaultMethod;
    use crate::object::etag::hex;
    use crate::object::tags::Tagged;

    /// The format is final.
    #[test]
    fn the_bytes_of_settings_never_change() {
        assert_eq!(
            BucketSettings::decode(&[]).unwrap(),
            BucketSettings::default()
        );
        assert!(BucketSettings::default().encode().is_empty());
        let tags = Tags::new(Tagged::Bucket, vec![("a".into(), "1".into())]).unwrap();
        let rule = CorsRule {
            id: Some("r".into()),
            origins: vec!["*".into()],
            methods: vec!["GET".into(), "PUT".into()],
            headers: vec!["x".into()],
            exposed: vec!["y".into()],
            max_age_seconds: Some(5),
        };
        let settings = BucketSettings {
            tags,
            cors: vec![rule],
            ..BucketSettings::default()
        };
        insta::assert_snapshot!(hex(&settings.encode()), @"0a080a060a016112013112180a017212012a1a034745541a035055542201782a01793005");
        assert_eq!(
            BucketSettings::decode(&settings.encode()).unwrap(),
            settings
        );
        assert_eq!(BucketSettings::encryption_of(&settings.encode()), Ok(None));
    }

    #[test]
    fn the_bytes_of_who_may_see_it_never_change() {
        let settings = BucketSettings {
            public_access_blocked: true,
            no_ownership_controls: true,
            ..BucketSettings::default()
        };
        assert_eq!(hex(&settings.encode()), "48015001");
        assert_eq!(
            BucketSettings::decode(&settings.encode()).unwrap(),
            settings
        );
    }

    #[test]
    fn the_bytes_of_default_encryption_never_change() {
        let settings = |method| BucketSettings {
            encryption: Some(BucketDefault {
                method,
                bucket_key: Some(true),
            }),
            ..BucketSettings::default()
        };
        let s3 = settings(DefaultMethod::S3);
        let kms = settings(DefaultMethod::Kms(Some("k".into())));
        assert_eq!(hex(&s3.encode()), "420408011801");
        assert_eq!(hex(&kms.encode()), "4207080212016b1801");
        for settings in [s3, kms] {
            let bytes = settings.encode();
            assert_eq!(
                BucketSettings::encryption_of(&bytes).unwrap(),
                settings.encryption
            );
            assert_eq!(BucketSettings::decode(&bytes).unwrap(), settings);
        }
    }

    #[test]
    fn the_bytes_of_compression_never_change() {
        for (codec, bytes) in [(Codec::Lz4, "a80101"), (Codec::Zstd, "a80102")] {
            let settings = BucketSettings {
                compression: Some(codec),
                ..BucketSettings::default()
            };
            let encoded = settings.encode();
            assert_eq!(hex(&encoded), bytes);
            assert_eq!(BucketSettings::decode(&encoded).unwrap(), settings);
            assert_eq!(BucketSettings::compression_of(&encoded), Ok(Some(codec)));
            assert_eq!(BucketSettings::encryption_of(&encoded), Ok(None));
        }
        assert_eq!(BucketSettings::compression_of(&[]), Ok(None));
    }

    #[test]
    fn the_bytes_of_lifecycle_rules_never_change() {
        use crate::object::lifecycle::{Expiration, Filter, Form, Noncurrent, Rule};
        let rule = Rule {
            id: "r".into(),
            enabled: false,
            filter: Filter {
                form: Form::And,
                prefix: Some("p".into()),
                tags: vec![("a".into(), "b".into())],
                larger_than: Some(1),
                smaller_than: Some(300),
            },
            expiration: Some(Expiration::Days(3)),
            noncurrent: Some(Noncurrent { days: 4, keep: 5 }),
            abort_days: Some(6),
        };
        let with = |form, expiration| Rule {
            id: "s".into(),
            enabled: true,
            filter: Filter {
                form,
                ..Filter::default()
            },
            expiration: Some(expiration),
            ..Rule::default()
        };
        let lifecycle = Lifecycle {
            rules: vec![
                rule,
                with(Form::One, Expiration::Date(86_400_000)),
                with(Form::Prefix, Expiration::Marker(true)),
            ],
            minimum_varies: true,
        };
        let settings = BucketSettings {
            lifecycle: Some(lifecycle),
            ..BucketSettings::default()
        };
        let bytes = settings.encode();
        insta::assert_snapshot!(hex(&bytes), @"a201360a1f0a0172100118012201702a060a0161120162300138ac0240035804600568060a080a01734880b899290a070a0173180250011001");
        assert_eq!(BucketSettings::decode(&bytes).unwrap(), settings);
        assert_eq!(
            BucketSettings::lifecycle_of(&bytes).unwrap(),
            settings.lifecycle
        );
        let others = BucketSettings::default().encode();
        assert_eq!(BucketSettings::lifecycle_of(&others), Ok(None));
    }
}
