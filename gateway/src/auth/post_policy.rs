//! The policy of a browser form: what its signer lets a stranger upload.
//!
//! Always true:
//! * an upload passes only if every condition holds, and every field of the form is named by one;
//! * a policy that cannot be read to its last condition lets nothing pass.
//!
//! Pure: the form is names and values here, its file is a number of bytes to come. Its signature is proven elsewhere
//! (`authenticate_form`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::object::dates;

/// Fields that no condition needs to name.
const FREE: [&str; 5] = [
    "policy",
    "x-amz-signature",
    "file",
    "signature",
    "awsaccesskeyid",
];

/// What must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Condition {
    Equals { field: String, value: String },
    StartsWith { field: String, value: String },
    Length { least: u64, most: u64 },
}

/// A policy, read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    expires_at: u64,
    conditions: Vec<Condition>,
}

/// Why an upload is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("Invalid Policy: {0}")]
    Malformed(&'static str),
    /// Too late.
    #[error("Invalid according to Policy: Policy expired.")]
    Expired,
    /// A condition does not hold.
    #[error("Invalid according to Policy: Policy Condition failed: {0}")]
    Failed(String),
    /// A field that no condition names.
    #[error("Invalid according to Policy: Extra input fields: {0}")]
    Extra(String),
}

/// Bytes that the file may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Length {
    /// At least.
    pub least: u64,
    /// At most.
    pub most: u64,
}

impl Policy {
    /// From the form's field: base64 of JSON.
    pub fn read(base64: &str) -> Result<Policy, PolicyError> {
        let plain: String = base64.split_ascii_whitespace().collect();
        let json = BASE64
            .decode(plain)
            .map_err(|_| PolicyError::Malformed("it is not base64"))?;
        let json: Value =
            serde_json::from_slice(&json).map_err(|_| PolicyError::Malformed("Invalid JSON"))?;
        let Value::Object(object) = &json else {
            return Err(PolicyError::Malformed("Invalid JSON: it is no object"));
        };
        let (mut expiration, mut conditions) = (None, None);
        for (name, value) in object {
            let slot = match name.to_ascii_lowercase().as_str() {
                "expiration" => &mut expiration,
                "conditions" => &mut conditions,
                _ => return Err(PolicyError::Malformed("it has an unknown member")),
            };
            if slot.replace(value).is_some() {
                return Err(PolicyError::Malformed("a member stands there twice"));
            }
        }
        let expires_at = expiration
            .ok_or(PolicyError::Malformed("Policy missing expiration."))?
            .as_str()
            .and_then(moment)
            .ok_or(PolicyError::Malformed("Invalid 'expiration' value"))?;
        let listed = conditions
            .and_then(Value::as_array)
            .ok_or(PolicyError::Malformed("Policy missing conditions."))?;
        let mut conditions = Vec::with_capacity(listed.len());
        for value in listed {
            read_condition(value, &mut conditions)?;
        }
        Ok(Policy {
            expires_at,
            conditions,
        })
    }

    /// Whether the form may be taken. `fields`: lower-case names and values, with the bucket of the URL as `bucket`.
    /// What comes back is how long its file may be. `now`: seconds since 1970.
    pub fn allow(
        &self,
        fields: &[(String, String)],
        now: u64,
    ) -> Result<Option<Length>, PolicyError> {
        if self.expires_at < now {
            return Err(PolicyError::Expired);
        }
        let value_of = |field: &str| {
            let found = fields.iter().find(|(name, _)| name == field);
            found.map_or("", |(_, value)| value.as_str())
        };
        let mut length: Option<Length> = None;
        for condition in &self.conditions {
            match condition {
                Condition::Equals { field, value } if value_of(field) != value => {
                    return Err(failed("eq", field, value));
                }
                Condition::StartsWith { field, value }
                    if !starts(field, value_of(field), value) =>
                {
                    return Err(failed("starts-with", field, value));
                }
                Condition::Length { least, most } => {
                    let so_far = length.unwrap_or(Length {
                        least: 0,
                        most: u64::MAX,
                    });
                    length = Some(Length {
                        least: so_far.least.max(*least),
                        most: so_far.most.min(*most),
                    });
                }
                Condition::Equals { .. } | Condition::StartsWith { .. } => {}
            }
        }
        let named = |field: &str| {
            self.conditions.iter().any(|condition| match condition {
                Condition::Equals { field: name, .. }
                | Condition::StartsWith { field: name, .. } => name == field,
                Condition::Length { .. } => false,
            })
        };
        let extra: Vec<&str> = fields
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| !FREE.contains(name) && !name.starts_with("x-ignore-") && !named(name))
            .collect();
        match extra.is_empty() {
            true => Ok(length),
            false => Err(PolicyError::Extra(extra.join(", "))),
        }
    }
}

fn failed(kind: &str, field: &str, value: &str) -> PolicyError {
    PolicyError::Failed(serde_json::json!([kind, format!("${field}"), value]).to_string())
}

/// A Content-Type with commas is a list, and each of it must begin so.
fn starts(field: &str, value: &str, with: &str) -> bool {
    if field == "content-type" && value.contains(',') {
        value.split(',').all(|one| one.trim().starts_with(with))
    } else {
        value.starts_with(with)
    }
}

fn read_condition(value: &Value, out: &mut Vec<Condition>) -> Result<(), PolicyError> {
    let odd = PolicyError::Malformed("Invalid Condition");
    match value {
        Value::Object(pairs) if !pairs.is_empty() => {
            for (field, value) in pairs {
                let value = value.as_str().ok_or_else(|| odd.clone())?;
                out.push(Condition::Equals {
                    field: field.to_ascii_lowercase(),
                    value: value.to_owned(),
                });
            }
            Ok(())
        }
        Value::Array(words) => {
            let [kind, first, second] = words.as_slice() else {
                return Err(odd);
            };
            let kind = kind
                .as_str()
                .ok_or_else(|| odd.clone())?
                .to_ascii_lowercase();
            if kind == "content-length-range" {
                let (Some(least), Some(most)) = (number(first), number(second)) else {
                    return Err(PolicyError::Malformed("Invalid content-length-range"));
                };
                out.push(Condition::Length { least, most });
                return Ok(());
            }
            let field = first.as_str().and_then(|text| text.strip_prefix('$'));
            let (Some(field), Some(value)) = (field, second.as_str()) else {
                return Err(odd);
            };
            let (field, value) = (field.to_ascii_lowercase(), value.to_owned());
            out.push(match kind.as_str() {
                "eq" => Condition::Equals { field, value },
                "starts-with" => Condition::StartsWith { field, value },
                _ => return Err(odd),
            });
            Ok(())
        }
        _ => Err(odd),
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// `2007-12-01T12:00:00.000Z`, with or without the fraction.
fn moment(text: &str) -> Option<u64> {
    let (whole, fraction) = match text.strip_suffix('Z')?.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (text.strip_suffix('Z')?, "0"),
    };
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let shape: Vec<usize> = whole.match_indices(['-', ':']).map(|(at, _)| at).collect();
    if shape != [4, 7, 13, 16] {
        return None;
    }
    dates::parse_amz_date(&format!("{}Z", whole.replace(['-', ':'], "")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_795_000_000; // 2026-11-18

    fn policy(conditions: &str) -> Result<Policy, PolicyError> {
        let json =
            format!("{{\"expiration\":\"2026-12-01T00:00:00.000Z\",\"conditions\":{conditions}}}");
        Policy::read(&BASE64.encode(json))
    }

    fn fields(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    /// Each kind of condition lets its form pass, and no other.
    #[test]
    fn a_form_passes_only_if_every_condition_holds() {
        let policy = policy(r#"[{"Bucket":"b"},["starts-with","$Key","user/"],["eq","$acl","private"],["content-length-range",1,9],["starts-with","$Content-Type","image/"]]"#).unwrap();
        let form = |key: &str, acl: &str, kind: &str| {
            let fields = fields(&[
                ("bucket", "b"),
                ("key", key),
                ("acl", acl),
                ("content-type", kind),
                ("policy", "p"),
                ("x-ignore-me", "x"),
            ]);
            policy.allow(&fields, NOW)
        };
        assert_eq!(
            form("user/a", "private", "image/png").unwrap(),
            Some(Length { least: 1, most: 9 })
        );
        assert!(form("user/a", "private", "image/png,image/gif").is_ok());
        for (key, acl, kind, words) in [
            (
                "other/a",
                "private",
                "image/png",
                "[\"starts-with\",\"$key\",\"user/\"]",
            ),
            (
                "user/a",
                "public-read",
                "image/png",
                "[\"eq\",\"$acl\",\"private\"]",
            ),
            ("user/a", "private", "image/png,text/html", "$content-type"),
        ] {
            let said = form(key, acl, kind).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }

    /// A field that its signer did not think of is refused: it could turn a picture into a page.
    #[test]
    fn every_field_must_be_named_by_a_condition() {
        let policy = policy(r#"[{"bucket":"b"},{"key":"k"}]"#).unwrap();
        let extra = fields(&[("bucket", "b"), ("key", "k"), ("x-amz-meta-a", "1")]);
        assert_eq!(
            policy.allow(&extra, NOW),
            Err(PolicyError::Extra("x-amz-meta-a".into()))
        );
        // And one that he asked for must be there.
        assert!(matches!(
            policy.allow(&fields(&[("bucket", "b")]), NOW),
            Err(PolicyError::Failed(_))
        ));
        let no_bucket = self::policy(r#"[{"key":"k"}]"#).unwrap();
        assert!(matches!(
            no_bucket.allow(&fields(&[("bucket", "b"), ("key", "k")]), NOW),
            Err(PolicyError::Extra(_))
        ));
    }

    #[test]
    fn a_policy_ends_when_it_says() {
        let policy = policy("[]").unwrap();
        assert_eq!(policy.allow(&[], 1_796_083_200), Ok(None));
        assert_eq!(policy.allow(&[], 1_796_083_201), Err(PolicyError::Expired));
    }

    #[test]
    fn a_policy_that_cannot_be_read_lets_nothing_pass() {
        for conditions in [
            "[{}]",
            "{}",
            "[5]",
            "[[\"eq\",\"$key\"]]",
            "[[\"content-length-range\",0]]",
            "[[\"content-length-range\",-1,0]]",
            "[[\"like\",\"$key\",\"a\"]]",
            "[{\"key\":5}]",
            "[[\"eq\",\"key\",\"a\"]]",
        ] {
            assert!(
                matches!(policy(conditions), Err(PolicyError::Malformed(_))),
                "{conditions}"
            );
        }
        for json in [
            "",
            "[]",
            "{",
            r#"{"conditions":[]}"#,
            r#"{"expiration":"2026-12-01T00:00:00Z"}"#,
            r#"{"expiration":"tomorrow","conditions":[]}"#,
            r#"{"expiration":"2026-12-01","conditions":[]}"#,
            r#"{"expiration":"2026-12-01T00:00:00Z","conditions":[],"Expiration":"2036-12-01T00:00:00Z"}"#,
        ] {
            assert!(
                matches!(
                    Policy::read(&BASE64.encode(json)),
                    Err(PolicyError::Malformed(_))
                ),
                "{json}"
            );
        }
        assert!(Policy::read("%%%").is_err());
        let loud = r#"{"EXPIRATION":"2026-12-01T00:00:00Z","CONDITIONS":[]}"#;
        assert!(
            Policy::read(&BASE64.encode(loud)).is_ok(),
            "names are not case-sensitive"
        );
    }
}
