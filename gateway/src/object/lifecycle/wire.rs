//! Rules as bytes, within the settings of a bucket. Numbers are final.

use super::{Expiration, Filter, Form, Lifecycle, Noncurrent, Rule};
use crate::object::record::RecordError;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Rules {
    #[prost(message, repeated, tag = "1")]
    pub rules: Vec<OneRule>,
    #[prost(bool, tag = "2")]
    pub minimum_varies: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OneRule {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(bool, tag = "2")]
    pub disabled: bool,
    /// 0: `Filter`, 1: `And`, 2: the old `Prefix`.
    #[prost(uint32, tag = "3")]
    pub form: u32,
    #[prost(string, optional, tag = "4")]
    pub prefix: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub tags: Vec<Tag>,
    #[prost(uint64, optional, tag = "6")]
    pub larger_than: Option<u64>,
    #[prost(uint64, optional, tag = "7")]
    pub smaller_than: Option<u64>,
    #[prost(oneof = "Goes", tags = "8, 9, 10")]
    pub expiration: Option<Goes>,
    /// 0: none.
    #[prost(uint32, tag = "11")]
    pub noncurrent_days: u32,
    #[prost(uint32, tag = "12")]
    pub noncurrent_keep: u32,
    /// 0: none.
    #[prost(uint32, tag = "13")]
    pub abort_days: u32,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Goes {
    #[prost(uint32, tag = "8")]
    Days(u32),
    #[prost(uint64, tag = "9")]
    Date(u64),
    #[prost(bool, tag = "10")]
    Marker(bool),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Tag {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

impl Lifecycle {
    pub(in crate::object) fn to_wire(&self) -> Rules {
        Rules {
            rules: self.rules.iter().cloned().map(rule_to_wire).collect(),
            minimum_varies: self.minimum_varies,
        }
    }

    pub(in crate::object) fn of_wire(stored: Rules) -> Result<Lifecycle, RecordError> {
        let rules = stored.rules.into_iter().map(rule_of_wire);
        Ok(Lifecycle {
            rules: rules.collect::<Result<_, _>>()?,
            minimum_varies: stored.minimum_varies,
        })
    }
}

fn rule_to_wire(rule: Rule) -> OneRule {
    let tag = |(key, value)| Tag { key, value };
    OneRule {
        id: rule.id,
        disabled: !rule.enabled,
        form: match rule.filter.form {
            Form::One => 0,
            Form::And => 1,
            Form::Prefix => 2,
        },
        prefix: rule.filter.prefix,
        tags: rule.filter.tags.into_iter().map(tag).collect(),
        larger_than: rule.filter.larger_than,
        smaller_than: rule.filter.smaller_than,
        expiration: rule.expiration.map(|expiration| match expiration {
            Expiration::Days(days) => Goes::Days(days),
            Expiration::Date(at) => Goes::Date(at),
            Expiration::Marker(goes) => Goes::Marker(goes),
        }),
        noncurrent_days: rule.noncurrent.map_or(0, |rule| rule.days),
        noncurrent_keep: rule.noncurrent.map_or(0, |rule| rule.keep),
        abort_days: rule.abort_days.unwrap_or(0),
    }
}

fn rule_of_wire(stored: OneRule) -> Result<Rule, RecordError> {
    let form = match stored.form {
        0 => Form::One,
        1 => Form::And,
        2 => Form::Prefix,
        other => return Err(RecordError::new(format!("form {other} of a rule"))),
    };
    let filter = Filter {
        form,
        prefix: stored.prefix,
        tags: stored
            .tags
            .into_iter()
            .map(|tag| (tag.key, tag.value))
            .collect(),
        larger_than: stored.larger_than,
        smaller_than: stored.smaller_than,
    };
    Ok(Rule {
        id: stored.id,
        enabled: !stored.disabled,
        filter,
        expiration: stored.expiration.map(|goes| match goes {
            Goes::Days(days) => Expiration::Days(days),
            Goes::Date(at) => Expiration::Date(at),
            Goes::Marker(goes) => Expiration::Marker(goes),
        }),
        noncurrent: (stored.noncurrent_days > 0).then_some(Noncurrent {
            days: stored.noncurrent_days,
            keep: stored.noncurrent_keep,
        }),
        abort_days: Some(stored.abort_days).filter(|days| *days > 0),
    })
}
