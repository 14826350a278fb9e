//! Server-side encryption on the wire: headers of requests and answers, and a bucket's default.
//!
//! Always true: a header of encryption is obeyed, or refused by name; on a call that cannot have it (a GET of an object
//! says nothing of how it is to be encrypted) it is a bad request, as in S3.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, StatusCode};
use s3s::S3Response;
use s3s::dto::{
    DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, GetBucketEncryptionInput,
    GetBucketEncryptionOutput, PutBucketEncryptionInput, PutBucketEncryptionOutput,
    ServerSideEncryption, ServerSideEncryptionRule,
};

use super::call::Call;
use super::error::WireError;
use super::headers;
use super::objects::{Reply, header};
use super::xml::Document;
use crate::object::encryption::keys::{CustomerKey, CustomerKeyError};
use crate::object::encryption::{
    Asked, AskedKms, BucketDefault, DefaultMethod, EncryptionError, Guard,
};
use crate::ops::{self, OpContext};

const METHOD: &str = "x-amz-server-side-encryption";
const KMS_KEY: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const KMS_CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
const CUSTOMER: [&str; 3] = [
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
];
const SOURCE_CUSTOMER: [&str; 3] = [
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
];

/// Headers that `x-amz-server-side-encryption…` may be; others of that beginning are features of S3 that we do not have.
pub fn is_known(name: &str) -> bool {
    [METHOD, KMS_KEY, KMS_CONTEXT, BUCKET_KEY].contains(&name)
        || CUSTOMER.contains(&name)
        || SOURCE_CUSTOMER.contains(&name)
}

/// Whether a request says anything of encryption. Most do not: one look at the names spares each of them a dozen look-ups.
fn is_mentioned(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        let name = name.as_str();
        name.starts_with(METHOD) || name.starts_with("x-amz-copy-source-server")
    })
}

/// Whether a request brings a key of its client, which only TLS may carry.
pub fn brings_key(headers: &HeaderMap) -> bool {
    is_mentioned(headers)
        && CUSTOMER
            .iter()
            .chain(&SOURCE_CUSTOMER)
            .any(|name| headers.contains_key(*name))
}

/// The answer to one that came without TLS.
pub fn insecure() -> WireError {
    WireError::invalid(
        "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure connection.",
    )
}

fn argument(name: &'static str, message: impl Into<String>) -> WireError {
    WireError::bad("InvalidArgument", message).detail("ArgumentName", name)
}

impl From<EncryptionError> for WireError {
    fn from(error: EncryptionError) -> WireError {
        let message = error.to_string();
        match error {
            EncryptionError::KeyNeeded
            | EncryptionError::NotApplicable
            | EncryptionError::PartWithoutKey
            | EncryptionError::PartWithOther => WireError::invalid(message),
            EncryptionError::WrongKey => {
                WireError::new("AccessDenied", StatusCode::FORBIDDEN, message)
            }
            EncryptionError::NoSuchKey { .. } => WireError::bad("KMS.NotFoundException", message),
            EncryptionError::MasterMissing {
                id,
                name: Some(name),
            } => WireError::bad("KMS.NotFoundException", message)
                .detail("KeyId", name)
                .detail("MasterKey", id.to_string()),
            // Nothing that a client of SSE-S3 could do about it: the operator has to.
            EncryptionError::MasterMissing { id, name: None } => {
                WireError::new("InternalError", StatusCode::INTERNAL_SERVER_ERROR, message)
                    .detail("MasterKey", id.to_string())
            }
            EncryptionError::NoRing => {
                WireError::new("NotImplemented", StatusCode::NOT_IMPLEMENTED, message)
            }
        }
    }
}

fn key_of(call: &Call, names: [&'static str; 3]) -> Result<Option<CustomerKey>, WireError> {
    let [algorithm, key, md5] = names.map(|name| call.header(name));
    CustomerKey::parse(algorithm, key, md5).map_err(|error| {
        let message = error.to_string();
        match error {
            CustomerKeyError::Algorithm => {
                WireError::bad("InvalidEncryptionAlgorithmError", message)
            }
            CustomerKeyError::NoAlgorithm => argument(names[0], message),
            CustomerKeyError::NoKey | CustomerKeyError::Key => argument(names[1], message),
            CustomerKeyError::NoMd5 | CustomerKeyError::Md5 => argument(names[2], message),
        }
    })
}

/// The client's key on a call that does not make an object, and so cannot say how it is to be encrypted.
pub fn customer_key(call: &Call) -> Result<Option<CustomerKey>, WireError> {
    if !is_mentioned(&call.headers) {
        return Ok(None);
    }
    for name in [METHOD, KMS_KEY, KMS_CONTEXT, BUCKET_KEY] {
        if call.headers.contains_key(name) {
            let message = format!("{name} header is not supported for this operation.");
            return Err(argument(name, message));
        }
    }
    key_of(call, CUSTOMER)
}

/// The key of a copy's source.
pub fn source_key(call: &Call) -> Result<Option<CustomerKey>, WireError> {
    key_of(call, SOURCE_CUSTOMER)
}

/// How an object to be is to be encrypted.
pub fn asked(call: &Call) -> Result<Asked, WireError> {
    if !is_mentioned(&call.headers) {
        return Ok(Asked::Nothing);
    }
    let said = |name: &'static str| call.header(name).filter(|text| !text.is_empty());
    let method = said(METHOD);
    let bucket_key = match said(BUCKET_KEY) {
        None => None,
        Some(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Some(false),
        Some(_) => return Err(argument(BUCKET_KEY, "The value must be true or false.")),
    };
    if let Some(key) = key_of(call, CUSTOMER)? {
        let other = [METHOD, KMS_KEY, KMS_CONTEXT]
            .into_iter()
            .find(|name| call.headers.contains_key(*name));
        return match other {
            None => Ok(Asked::Customer(key)),
            Some(name) => Err(argument(
                name,
                "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
            )),
        };
    }
    if method == Some("aws:kms") {
        let context = said(KMS_CONTEXT).map(context).transpose()?;
        return Ok(Asked::Kms(AskedKms {
            key: said(KMS_KEY).map(str::to_owned),
            context: context.unwrap_or_default(),
            bucket_key,
        }));
    }
    if let Some(name) = [KMS_KEY, KMS_CONTEXT]
        .into_iter()
        .find(|name| said(name).is_some())
    {
        return Err(argument(
            name,
            "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
        ));
    }
    match method {
        None => Ok(Asked::Nothing),
        Some("AES256") => Ok(Asked::S3),
        Some(other) => Err(method_error(other)),
    }
}

fn method_error(method: &str) -> WireError {
    if method == "aws:kms:dsse" || method == "aws:fsx" {
        return WireError::not_implemented(&format!("{METHOD}: {method}"));
    }
    argument(METHOD, "The encryption method specified is not supported")
        .detail("ArgumentValue", method)
}

/// The encryption context: base64 of a JSON object of strings.
fn context(text: &str) -> Result<String, WireError> {
    let read = || -> Option<String> {
        let text = String::from_utf8(BASE64.decode(text).ok()?).ok()?;
        let pairs: std::collections::BTreeMap<String, String> = serde_json::from_str(&text).ok()?;
        // Sorted and without spaces: two spellings of one context are one.
        serde_json::to_string(&pairs).ok()
    };
    read().ok_or_else(|| {
        argument(
            KMS_CONTEXT,
            "The header 'x-amz-server-side-encryption-context' shall be Base64-encoded UTF-8 string holding JSON which represents a string-string map",
        )
    })
}

/// What an answer says of an object's encryption.
pub fn tell(out: &mut HeaderMap, guard: Option<&Guard>, call: &Call) {
    let Some(guard) = guard else { return };
    if let Some(method) = guard.name() {
        header(out, METHOD, method);
    }
    match guard {
        Guard::S3 { .. } => {}
        Guard::Kms(kms) => {
            header(out, KMS_KEY, &kms.name);
            if kms.bucket_key {
                header(out, BUCKET_KEY, "true");
            }
        }
        Guard::Customer => {
            // Checked before: it is the hash of the right key. Complete may do without.
            if let Some(md5) = call.header(CUSTOMER[2]) {
                header(out, CUSTOMER[0], "AES256");
                header(out, CUSTOMER[2], md5);
            }
        }
    }
}

/// What the answer to a write says, too: the context of SSE-KMS.
pub fn tell_writer(out: &mut HeaderMap, guard: Option<&Guard>, call: &Call) {
    tell(out, guard, call);
    if let Some(Guard::Kms(kms)) = guard
        && !kms.context.is_empty()
    {
        header(out, KMS_CONTEXT, &BASE64.encode(&kms.context));
    }
}

pub async fn get_bucket_encryption(
    ctx: &OpContext,
    call: &Call,
    input: GetBucketEncryptionInput,
) -> Reply<GetBucketEncryptionOutput> {
    let bucket = headers::bucket(call, input.bucket);
    let default = ops::get_bucket_encryption(ctx, &call.principal, &bucket).await?;
    let Some(BucketDefault { method, bucket_key }) = default else {
        let message = "The server side encryption configuration was not found";
        let code = "ServerSideEncryptionConfigurationNotFoundError";
        let error = WireError::new(code, StatusCode::NOT_FOUND, message);
        return Err(error.detail("BucketName", bucket.name));
    };
    let (name, key) = match method {
        DefaultMethod::S3 => (ServerSideEncryption::AES256, None),
        DefaultMethod::Kms(key) => (ServerSideEncryption::AWS_KMS, key),
    };
    let mut document = Document::new("ServerSideEncryptionConfiguration");
    document.inside("Rule", |rule| {
        rule.inside("ApplyServerSideEncryptionByDefault", |apply| {
            apply.element("SSEAlgorithm", name);
            apply.maybe("KMSMasterKeyID", key);
        });
        rule.flag("BucketKeyEnabled", bucket_key.unwrap_or(false));
    });
    call.answer_with(document);
    Ok(S3Response::new(GetBucketEncryptionOutput::default()))
}

pub async fn put_bucket_encryption(
    ctx: &OpContext,
    call: &Call,
    input: PutBucketEncryptionInput,
) -> Reply<PutBucketEncryptionOutput> {
    let rules = input.server_side_encryption_configuration.rules;
    let [rule] =
        <[ServerSideEncryptionRule; 1]>::try_from(rules).map_err(|_| WireError::malformed_xml())?;
    let apply = rule
        .apply_server_side_encryption_by_default
        .ok_or_else(WireError::malformed_xml)?;
    let key = apply.kms_master_key_id.filter(|key| !key.is_empty());
    let method = match (apply.sse_algorithm.as_str(), key) {
        (ServerSideEncryption::AES256, None) => DefaultMethod::S3,
        (ServerSideEncryption::AES256, Some(_)) => {
            return Err(argument(
                "ApplyServerSideEncryptionByDefault",
                "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
            ));
        }
        (ServerSideEncryption::AWS_KMS, key) => DefaultMethod::Kms(key),
        (ServerSideEncryption::AWS_KMS_DSSE, _) => {
            return Err(WireError::not_implemented("SSEAlgorithm aws:kms:dsse"));
        }
        _ => return Err(WireError::malformed_xml()),
    };
    let default = BucketDefault {
        method,
        bucket_key: rule.bucket_key_enabled,
    };
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_encryption(ctx, &call.principal, &bucket, Some(&default)).await?;
    Ok(S3Response::new(PutBucketEncryptionOutput::default()))
}

pub async fn delete_bucket_encryption(
    ctx: &OpContext,
    call: &Call,
    input: DeleteBucketEncryptionInput,
) -> Reply<DeleteBucketEncryptionOutput> {
    let bucket = headers::bucket(call, input.bucket);
    ops::put_bucket_encryption(ctx, &call.principal, &bucket, None).await?;
    Ok(S3Response::new(DeleteBucketEncryptionOutput::default()))
}
