//! Which operations there are, and which sub-resources each may be asked with.
//!
//! s3s finds the operation; what it does not look at is decided here. Always true:
//! * an operation that is not in the table is refused by name before its body is read;
//! * a sub-resource that does not belong to the operation found is refused (S3 has no such method on it, or we do not
//!   do it): `DELETE /b/k?acl` is not a way to delete,
//!   and `PUT /b/k?uploadId=…` without a part number does not overwrite an object.

use http::StatusCode;
use http::header::ALLOW;

use super::error::WireError;

/// An operation that is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// As s3s and S3 call it; the label of its metrics.
    pub name: &'static str,
    /// Sub-resources and selectors it may come with.
    takes: &'static [&'static str],
}

const fn route(name: &'static str, takes: &'static [&'static str]) -> Route {
    Route { name, takes }
}

const ROUTES: [Route; 64] = [
    route("AbortMultipartUpload", &["uploadId"]),
    route("CompleteMultipartUpload", &["uploadId"]),
    route("CopyObject", &[]),
    route("CreateBucket", &[]),
    route("CreateMultipartUpload", &["uploads"]),
    route("DeleteBucket", &[]),
    route("DeleteBucketCors", &["cors"]),
    route("DeleteBucketEncryption", &["encryption"]),
    route("DeleteBucketLifecycle", &["lifecycle"]),
    route("DeleteBucketOwnershipControls", &["ownershipControls"]),
    route("DeleteBucketPolicy", &["policy"]),
    route("DeleteBucketTagging", &["tagging"]),
    route("DeleteObject", &["versionId"]),
    route("DeleteObjectTagging", &["tagging", "versionId"]),
    route("DeleteObjects", &["delete"]),
    route("DeletePublicAccessBlock", &["publicAccessBlock"]),
    route("GetBucketAccelerateConfiguration", &["accelerate"]),
    route("GetBucketAcl", &["acl"]),
    route("GetBucketCors", &["cors"]),
    route("GetBucketEncryption", &["encryption"]),
    route("GetBucketLifecycleConfiguration", &["lifecycle"]),
    route("GetBucketLocation", &["location"]),
    route("GetBucketLogging", &["logging"]),
    route("GetBucketNotificationConfiguration", &["notification"]),
    route("GetBucketOwnershipControls", &["ownershipControls"]),
    route("GetBucketPolicy", &["policy"]),
    route("GetBucketPolicyStatus", &["policyStatus"]),
    route("GetBucketReplication", &["replication"]),
    route("GetBucketRequestPayment", &["requestPayment"]),
    route("GetBucketTagging", &["tagging"]),
    route("GetBucketVersioning", &["versioning"]),
    route("GetBucketWebsite", &["website"]),
    route("GetObject", &["versionId", "partNumber"]),
    route("GetObjectAcl", &["acl", "versionId"]),
    route("GetObjectAttributes", &["attributes", "versionId"]),
    route("GetObjectLegalHold", &["legal-hold", "versionId"]),
    route("GetObjectLockConfiguration", &["object-lock"]),
    route("GetObjectRetention", &["retention", "versionId"]),
    route("GetObjectTagging", &["tagging", "versionId"]),
    route("GetPublicAccessBlock", &["publicAccessBlock"]),
    route("HeadBucket", &[]),
    route("HeadObject", &["versionId", "partNumber"]),
    route("ListBuckets", &[]),
    route("ListMultipartUploads", &["uploads"]),
    route("ListObjectVersions", &["versions"]),
    route("ListObjects", &[]),
    route("ListObjectsV2", &[]),
    route("ListParts", &["uploadId"]),
    route("PutBucketAcl", &["acl"]),
    route("PutBucketCors", &["cors"]),
    route("PutBucketEncryption", &["encryption"]),
    route("PutBucketLifecycleConfiguration", &["lifecycle"]),
    route("PutBucketOwnershipControls", &["ownershipControls"]),
    route("PutBucketTagging", &["tagging"]),
    route("PutBucketVersioning", &["versioning"]),
    route("PutObject", &[]),
    route("PutObjectAcl", &["acl", "versionId"]),
    route("PutObjectLegalHold", &["legal-hold", "versionId"]),
    route("PutObjectLockConfiguration", &["object-lock"]),
    route("PutObjectRetention", &["retention", "versionId"]),
    route("PutObjectTagging", &["tagging", "versionId"]),
    route("PutPublicAccessBlock", &["publicAccessBlock"]),
    route("UploadPart", &["uploadId", "partNumber"]),
    route("UploadPartCopy", &["uploadId", "partNumber"]),
];

/// A sub-resource of S3.
struct Resource {
    name: &'static str,
    /// Methods that S3 has on it, of a bucket and of an object.
    bucket: &'static [&'static str],
    object: &'static [&'static str],
}

const fn resource(
    name: &'static str,
    bucket: &'static [&'static str],
    object: &'static [&'static str],
) -> Resource {
    Resource {
        name,
        bucket,
        object,
    }
}

/// Sub-resources of S3 of which s3s knows every operation: one that is left over has no such method.
const RESOURCES: [Resource; 32] = [
    resource("accelerate", &["GET", "PUT"], &[]),
    resource("acl", &["GET", "PUT"], &["GET", "PUT"]),
    resource("analytics", &["GET", "PUT", "DELETE"], &[]),
    resource("attributes", &[], &["GET"]),
    resource("cors", &["GET", "PUT", "DELETE"], &[]),
    resource("delete", &["POST"], &[]),
    resource("encryption", &["GET", "PUT", "DELETE"], &["PUT"]),
    resource("intelligent-tiering", &["GET", "PUT", "DELETE"], &[]),
    resource("inventory", &["GET", "PUT", "DELETE"], &[]),
    resource("legal-hold", &[], &["GET", "PUT"]),
    resource("lifecycle", &["GET", "PUT", "DELETE"], &[]),
    resource("location", &["GET"], &[]),
    resource("logging", &["GET", "PUT"], &[]),
    resource("metrics", &["GET", "PUT", "DELETE"], &[]),
    resource("notification", &["GET", "PUT"], &[]),
    resource("object-lock", &["GET", "PUT"], &[]),
    resource("ownershipControls", &["GET", "PUT", "DELETE"], &[]),
    resource("policy", &["GET", "PUT", "DELETE"], &[]),
    resource("policyStatus", &["GET"], &[]),
    resource("publicAccessBlock", &["GET", "PUT", "DELETE"], &[]),
    resource("replication", &["GET", "PUT", "DELETE"], &[]),
    resource("requestPayment", &["GET", "PUT"], &[]),
    resource("restore", &[], &["POST"]),
    resource("retention", &[], &["GET", "PUT"]),
    resource("select", &[], &["POST"]),
    resource("session", &["GET"], &[]),
    resource(
        "tagging",
        &["GET", "PUT", "DELETE"],
        &["GET", "PUT", "DELETE"],
    ),
    resource("torrent", &[], &["GET"]),
    resource("uploads", &["GET"], &["POST"]),
    resource("versioning", &["GET", "PUT"], &[]),
    resource("versions", &["GET"], &[]),
    resource("website", &["GET", "PUT", "DELETE"], &[]),
];

fn find_resource(name: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.name == name)
}

/// Other query parameters that turn a request into another one, in S3 or in stores like it; and where s3s finds another
/// operation, or none (empty), the one of S3 that it is.
const OTHERS: [(&str, &[(&str, &str)]); 14] = [
    (
        "abac",
        &[
            ("CreateBucket", "PutBucketAbac"),
            ("ListObjects", "GetBucketAbac"),
        ],
    ),
    ("annotation", &[]),
    ("annotations", &[]),
    ("append", &[]),
    ("encryption", &[("PutObject", "UpdateObjectEncryption")]),
    ("events", &[]),
    ("lambdaArn", &[]),
    (
        "metadataConfiguration",
        &[
            ("", "CreateBucketMetadataConfiguration"),
            ("DeleteBucket", "DeleteBucketMetadataConfiguration"),
            ("ListObjects", "GetBucketMetadataConfiguration"),
        ],
    ),
    (
        "metadataInventoryTable",
        &[(
            "CreateBucket",
            "UpdateBucketMetadataInventoryTableConfiguration",
        )],
    ),
    (
        "metadataJournalTable",
        &[(
            "CreateBucket",
            "UpdateBucketMetadataJournalTableConfiguration",
        )],
    ),
    ("metadataTable", &[]),
    ("renameObject", &[("PutObject", "RenameObject")]),
    ("replication-metrics", &[]),
    ("select", &[("", "SelectObjectContent")]),
];

/// The refusal of a parameter that makes another operation of this one.
fn other(name: &str, operation: &str) -> Option<WireError> {
    let (_, named) = OTHERS.iter().find(|(other, _)| *other == name)?;
    let known = named.iter().find(|(found, _)| *found == operation);
    match known {
        Some((_, real)) => Some(WireError::not_implemented(real)),
        // It is a resource of its own, with operations of its own.
        None if find_resource(name).is_some() => None,
        None => Some(WireError::not_implemented(
            format!("?{name} on {operation}").trim_end_matches(" on "),
        )),
    }
}

/// What a path names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// `/`.
    Service,
    /// `/bucket`.
    Bucket,
    /// `/bucket/key`.
    Object,
}

/// The refusal of a method that s3s finds no operation for.
pub fn no_operation(method: &str, place: Place, query: &[(String, String)]) -> WireError {
    if let Some(error) = query.iter().find_map(|(name, _)| other(name, "")) {
        return error;
    }
    let plain = !query.iter().any(|(name, _)| find_resource(name).is_some());
    if method == "POST" && place == Place::Bucket && plain {
        let message = "Bucket POST must be of the enclosure-type multipart/form-data";
        return WireError::new(
            "PreconditionFailed",
            StatusCode::PRECONDITION_FAILED,
            message,
        )
        .detail("Condition", message);
    }
    WireError::method_not_allowed()
}

/// A 405, with the methods that S3 has there.
pub fn with_methods(
    error: WireError,
    method: &str,
    place: Place,
    query: &[(String, String)],
) -> WireError {
    let resource = query.iter().find_map(|(name, _)| find_resource(name));
    let (kind, methods): (&str, &[&str]) = match (resource, place) {
        (Some(resource), Place::Bucket) => (resource.name, resource.bucket),
        (Some(resource), Place::Object) => (resource.name, resource.object),
        (_, Place::Service) => ("SERVICE", &["GET"]),
        (None, Place::Bucket) => ("BUCKET", &["GET", "HEAD", "PUT", "DELETE", "POST"]),
        (None, Place::Object) => ("OBJECT", &["GET", "HEAD", "PUT", "DELETE"]),
    };
    error
        .detail("Method", method)
        .detail("ResourceType", kind)
        .header(ALLOW, methods.join(", "))
}

/// Query parameters that select within a resource; on the wrong operation they are a mistake rather than a feature.
const SELECTORS: [&str; 3] = ["uploadId", "partNumber", "versionId"];

/// The route of an operation, when it is done and the query fits it.
pub fn admit(operation: &str, query: &[(String, String)]) -> Result<Route, WireError> {
    let route = ROUTES.iter().find(|route| route.name == operation);
    let Some(route) = route else {
        return Err(WireError::not_implemented(operation));
    };
    let mut resource = None;
    for (name, _) in query {
        if find_resource(name).is_some()
            && let Some(other) = resource.replace(name).filter(|other| *other != name)
        {
            let message = format!("Conflicting query string parameters: {other}, {name}");
            return Err(WireError::bad("InvalidArgument", message)
                .detail("ArgumentName", "ResourceType")
                .detail("ArgumentValue", name));
        }
    }
    for (name, _) in query {
        if route.takes.contains(&name.as_str()) {
            continue;
        }
        if let Some(error) = other(name, operation) {
            return Err(error);
        }
        if find_resource(name).is_some() {
            return Err(WireError::method_not_allowed());
        }
        if SELECTORS.contains(&name.as_str()) {
            let message = format!("{operation} does not accept the query parameter {name}.");
            return Err(WireError::bad("InvalidArgument", message).detail("ArgumentName", name));
        }
    }
    Ok(*route)
}

/// Sub-resources of an object whose PUT carries XML; any other PUT on an object carries the object.
const XML_PUTS: [&str; 4] = ["acl", "legal-hold", "retention", "tagging"];

/// Whether the body of a PUT on an object is the object's bytes.
pub fn carries_object(query: &[(String, String)]) -> bool {
    !query
        .iter()
        .any(|(name, _)| XML_PUTS.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn query(names: &[&str]) -> Vec<(String, String)> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), String::new()))
            .collect()
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        for operation in [
            "PutBucketPolicy",
            "RestoreObject",
            "PostObject",
            "SelectObjectContent",
            "PutBucketReplication",
        ] {
            let error = admit(operation, &[]).unwrap_err();
            assert_eq!((error.code, error.status.as_u16()), ("NotImplemented", 501));
            assert!(error.message.contains(operation), "{}", error.message);
        }
    }

    #[test]
    fn a_sub_resource_never_falls_through_to_another_operation() {
        for (operation, name) in [
            ("PutObject", "renameObject"),
            ("PutObject", "append"),
            ("ListObjects", "events"),
            ("CreateBucket", "abac"),
        ] {
            let error = admit(operation, &query(&[name])).unwrap_err();
            assert_eq!(error.code, "NotImplemented", "{operation} ?{name}");
            assert!(
                error.message.to_lowercase().contains(&name.to_lowercase()),
                "{}",
                error.message
            );
        }
        for (operation, name) in [
            ("DeleteObject", "acl"),
            ("DeleteObject", "legal-hold"),
            ("PutObject", "attributes"),
            ("DeleteBucket", "versioning"),
        ] {
            let error = admit(operation, &query(&[name])).unwrap_err();
            assert_eq!(
                (error.code, error.status.as_u16()),
                ("MethodNotAllowed", 405),
                "{operation} ?{name}"
            );
        }
        for operation in ["GetObjectTagging", "GetObjectAcl"] {
            let error = admit(operation, &query(&["tagging", "acl"])).unwrap_err();
            assert_eq!(error.code, "InvalidArgument", "{operation}");
        }
        for (operation, name) in [
            ("PutObject", "uploadId"),
            ("PutObject", "partNumber"),
            ("PutObject", "versionId"),
        ] {
            assert_eq!(
                admit(operation, &query(&[name])).unwrap_err().code,
                "InvalidArgument"
            );
        }
    }

    #[test]
    fn what_belongs_together_is_admitted() {
        for (operation, names) in [
            (
                "GetObject",
                &["versionId", "x-id", "response-content-type"][..],
            ),
            ("UploadPart", &["uploadId", "partNumber", "x-id"]),
            ("ListObjectsV2", &["list-type", "prefix", "unknown"]),
            ("ListMultipartUploads", &["uploads"]),
        ] {
            assert_eq!(admit(operation, &query(names)).unwrap().name, operation);
        }
    }

    #[test]
    fn the_tables_are_sorted_and_single() {
        assert!(ROUTES.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(RESOURCES.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(OTHERS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let resources = RESOURCES.iter().map(|resource| resource.name);
        let all: std::collections::BTreeSet<_> = resources.chain(SELECTORS).collect();
        for route in ROUTES {
            assert!(
                route.takes.iter().all(|name| all.contains(name)),
                "{}",
                route.name
            );
        }
    }
}
