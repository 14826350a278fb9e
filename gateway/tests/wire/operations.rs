//! Every operation of S3, by name: what docs/s3.md says of it is what it answers.

use http::Method;

use crate::world::*;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    /// It is done: this status.
    Done(u16),
    /// It is done, and there is nothing of the kind: this code.
    Nothing(&'static str),
    /// 501, with its name.
    Refused,
    /// Neither 500 nor taken for another operation; tests of its own say more.
    Other,
}
use Answer::{Done, Nothing, Other, Refused};

const TAGS: &str = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
const CORS: &str = "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";
const SSE: &str = "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>";
const VERSIONS: &str =
    "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
const DELETE: &str = "<Delete><Object><Key>none</Key></Object></Delete>";
const BLOCK: &str = "<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><IgnorePublicAcls>true</IgnorePublicAcls><BlockPublicPolicy>true</BlockPublicPolicy><RestrictPublicBuckets>true</RestrictPublicBuckets></PublicAccessBlockConfiguration>";
const OWNER: &str = "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";
const RULES: &str = "<LifecycleConfiguration><Rule><ID>r</ID><Filter/><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>";
const LOCK: &str = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
const KEEP: &str = "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2099-01-01T00:00:00.000Z</RetainUntilDate></Retention>";
const HOLD: &str = "<LegalHold><Status>ON</Status></LegalHold>";
const X: &str = "<X/>";

/// Name, request (`{upload}`: an open upload of `up`), body, answer; in an order in which each finds what it needs.
#[rustfmt::skip]
const OPERATIONS: [(&str, &str, &str, Answer); 112] = [
    ("CreateBucket", "PUT /made", "", Done(200)),
    ("DeleteBucket", "DELETE /made", "", Done(204)),
    ("HeadBucket", "HEAD /bucket", "", Done(200)),
    ("ListBuckets", "GET /", "", Done(200)),
    ("ListDirectoryBuckets", "GET /?x-id=ListDirectoryBuckets", "", Refused),
    ("GetBucketLocation", "GET /bucket?location", "", Done(200)),

    ("GetBucketTagging", "GET /bucket?tagging", "", Nothing("NoSuchTagSet")),
    ("PutBucketTagging", "PUT /bucket?tagging", TAGS, Done(204)),
    ("DeleteBucketTagging", "DELETE /bucket?tagging", "", Done(204)),
    ("GetBucketCors", "GET /bucket?cors", "", Nothing("NoSuchCORSConfiguration")),
    ("PutBucketCors", "PUT /bucket?cors", CORS, Done(200)),
    ("DeleteBucketCors", "DELETE /bucket?cors", "", Done(204)),
    ("GetBucketEncryption", "GET /bucket?encryption", "", Nothing("ServerSideEncryptionConfigurationNotFoundError")),
    ("PutBucketEncryption", "PUT /bucket?encryption", SSE, Done(200)),
    ("DeleteBucketEncryption", "DELETE /bucket?encryption", "", Done(204)),
    ("GetBucketVersioning", "GET /bucket?versioning", "", Done(200)),
    ("PutBucketVersioning", "PUT /bucket?versioning", VERSIONS, Done(200)),

    ("GetBucketAcl", "GET /bucket?acl", "", Done(200)),
    ("PutBucketAcl", "PUT /bucket?acl", "", Done(200)),
    ("GetBucketPolicy", "GET /bucket?policy", "", Nothing("NoSuchBucketPolicy")),
    ("PutBucketPolicy", "PUT /bucket?policy", "{}", Refused),
    ("DeleteBucketPolicy", "DELETE /bucket?policy", "", Done(204)),
    ("GetBucketPolicyStatus", "GET /bucket?policyStatus", "", Nothing("NoSuchBucketPolicy")),
    ("GetPublicAccessBlock", "GET /bucket?publicAccessBlock", "", Nothing("NoSuchPublicAccessBlockConfiguration")),
    ("PutPublicAccessBlock", "PUT /bucket?publicAccessBlock", BLOCK, Done(200)),
    ("DeletePublicAccessBlock", "DELETE /bucket?publicAccessBlock", "", Done(204)),
    ("GetBucketOwnershipControls", "GET /bucket?ownershipControls", "", Done(200)),
    ("PutBucketOwnershipControls", "PUT /bucket?ownershipControls", OWNER, Done(200)),
    ("DeleteBucketOwnershipControls", "DELETE /bucket?ownershipControls", "", Done(204)),
    ("GetBucketAbac", "GET /bucket?abac", "", Refused),
    ("PutBucketAbac", "PUT /bucket?abac", X, Refused),

    ("GetBucketAccelerateConfiguration", "GET /bucket?accelerate", "", Done(200)),
    ("PutBucketAccelerateConfiguration", "PUT /bucket?accelerate", X, Refused),
    ("GetBucketRequestPayment", "GET /bucket?requestPayment", "", Done(200)),
    ("PutBucketRequestPayment", "PUT /bucket?requestPayment", X, Refused),
    ("GetBucketLogging", "GET /bucket?logging", "", Done(200)),
    ("PutBucketLogging", "PUT /bucket?logging", X, Refused),
    ("GetBucketNotificationConfiguration", "GET /bucket?notification", "", Done(200)),
    ("PutBucketNotificationConfiguration", "PUT /bucket?notification", X, Refused),
    ("GetBucketReplication", "GET /bucket?replication", "", Nothing("ReplicationConfigurationNotFoundError")),
    ("PutBucketReplication", "PUT /bucket?replication", X, Refused),
    ("DeleteBucketReplication", "DELETE /bucket?replication", "", Refused),
    ("GetBucketWebsite", "GET /bucket?website", "", Nothing("NoSuchWebsiteConfiguration")),
    ("PutBucketWebsite", "PUT /bucket?website", X, Refused),
    ("DeleteBucketWebsite", "DELETE /bucket?website", "", Refused),
    ("GetBucketLifecycleConfiguration", "GET /bucket?lifecycle", "", Nothing("NoSuchLifecycleConfiguration")),
    ("PutBucketLifecycleConfiguration", "PUT /bucket?lifecycle", RULES, Done(200)),
    ("DeleteBucketLifecycle", "DELETE /bucket?lifecycle", "", Done(204)),
    ("GetObjectLockConfiguration", "GET /bucket?object-lock", "", Nothing("ObjectLockConfigurationNotFoundError")),
    ("PutObjectLockConfiguration", "PUT /bucket?object-lock", LOCK, Done(200)),

    ("GetBucketAnalyticsConfiguration", "GET /bucket?analytics&id=1", "", Refused),
    ("PutBucketAnalyticsConfiguration", "PUT /bucket?analytics&id=1", X, Refused),
    ("DeleteBucketAnalyticsConfiguration", "DELETE /bucket?analytics&id=1", "", Refused),
    ("ListBucketAnalyticsConfigurations", "GET /bucket?analytics", "", Refused),
    ("GetBucketIntelligentTieringConfiguration", "GET /bucket?intelligent-tiering&id=1", "", Refused),
    ("PutBucketIntelligentTieringConfiguration", "PUT /bucket?intelligent-tiering&id=1", X, Refused),
    ("DeleteBucketIntelligentTieringConfiguration", "DELETE /bucket?intelligent-tiering&id=1", "", Refused),
    ("ListBucketIntelligentTieringConfigurations", "GET /bucket?intelligent-tiering", "", Refused),
    ("GetBucketInventoryConfiguration", "GET /bucket?inventory&id=1", "", Refused),
    ("PutBucketInventoryConfiguration", "PUT /bucket?inventory&id=1", X, Refused),
    ("DeleteBucketInventoryConfiguration", "DELETE /bucket?inventory&id=1", "", Refused),
    ("ListBucketInventoryConfigurations", "GET /bucket?inventory", "", Refused),
    ("GetBucketMetricsConfiguration", "GET /bucket?metrics&id=1", "", Refused),
    ("PutBucketMetricsConfiguration", "PUT /bucket?metrics&id=1", X, Refused),
    ("DeleteBucketMetricsConfiguration", "DELETE /bucket?metrics&id=1", "", Refused),
    ("ListBucketMetricsConfigurations", "GET /bucket?metrics", "", Refused),
    ("CreateBucketMetadataConfiguration", "POST /bucket?metadataConfiguration", X, Refused),
    ("GetBucketMetadataConfiguration", "GET /bucket?metadataConfiguration", "", Refused),
    ("DeleteBucketMetadataConfiguration", "DELETE /bucket?metadataConfiguration", "", Refused),
    ("CreateBucketMetadataTableConfiguration", "POST /bucket?metadataTable", X, Refused),
    ("GetBucketMetadataTableConfiguration", "GET /bucket?metadataTable", "", Refused),
    ("DeleteBucketMetadataTableConfiguration", "DELETE /bucket?metadataTable", "", Refused),
    ("UpdateBucketMetadataInventoryTableConfiguration", "PUT /bucket?metadataInventoryTable", X, Refused),
    ("UpdateBucketMetadataJournalTableConfiguration", "PUT /bucket?metadataJournalTable", X, Refused),
    ("CreateSession", "GET /bucket?session", "", Refused),

    ("PutObject", "PUT /bucket/key", "hello", Done(200)),
    ("GetObject", "GET /bucket/key", "", Done(200)),
    ("HeadObject", "HEAD /bucket/key", "", Done(200)),
    ("GetObjectAttributes", "GET /bucket/key?attributes", "", Done(200)),
    ("CopyObject", "PUT /bucket/copy", "", Done(200)),
    ("PutObjectTagging", "PUT /bucket/key?tagging", TAGS, Done(200)),
    ("GetObjectTagging", "GET /bucket/key?tagging", "", Done(200)),
    ("DeleteObjectTagging", "DELETE /bucket/key?tagging", "", Done(204)),
    ("GetObjectAcl", "GET /bucket/key?acl", "", Done(200)),
    ("PutObjectAcl", "PUT /bucket/key?acl", "", Done(200)),
    ("GetObjectRetention", "GET /bucket/key?retention", "", Nothing("NoSuchObjectLockConfiguration")),
    ("PutObjectRetention", "PUT /bucket/key?retention", KEEP, Done(200)),
    ("GetObjectLegalHold", "GET /bucket/key?legal-hold", "", Nothing("NoSuchObjectLockConfiguration")),
    ("PutObjectLegalHold", "PUT /bucket/key?legal-hold", HOLD, Done(200)),
    ("GetObjectTorrent", "GET /bucket/key?torrent", "", Refused),
    ("RestoreObject", "POST /bucket/key?restore", X, Refused),
    ("SelectObjectContent", "POST /bucket/key?select&select-type=2", X, Refused),
    ("RenameObject", "PUT /bucket/new?renameObject", "", Refused),
    ("UpdateObjectEncryption", "PUT /bucket/key?encryption", X, Refused),
    ("WriteGetObjectResponse", "POST /WriteGetObjectResponse", "", Refused),
    ("ListObjects", "GET /bucket", "", Done(200)),
    ("ListObjectsV2", "GET /bucket?list-type=2", "", Done(200)),
    ("ListObjectVersions", "GET /bucket?versions", "", Done(200)),

    ("CreateMultipartUpload", "POST /bucket/other?uploads", "", Done(200)),
    ("ListMultipartUploads", "GET /bucket?uploads", "", Done(200)),
    ("UploadPart", "PUT /bucket/up?uploadId={upload}&partNumber=1", "part", Done(200)),
    ("UploadPartCopy", "PUT /bucket/up?uploadId={upload}&partNumber=2", "", Done(200)),
    ("ListParts", "GET /bucket/up?uploadId={upload}", "", Done(200)),
    ("CompleteMultipartUpload", "POST /bucket/up?uploadId={upload}", "{list}", Done(200)),
    ("AbortMultipartUpload", "DELETE /bucket/up?uploadId={second}", "", Done(204)),

    ("DeleteObjects", "POST /bucket?delete", DELETE, Done(200)),
    ("DeleteObject", "DELETE /bucket/key", "", Done(204)),
    // Their first forms; S3 answers both under the same requests.
    ("GetBucketLifecycle", "GET /bucket?lifecycle", "", Nothing("NoSuchLifecycleConfiguration")),
    ("PutBucketLifecycle", "PUT /bucket?lifecycle", RULES, Done(200)),
    ("GetBucketNotification", "GET /bucket?notification", "", Done(200)),
    ("PutBucketNotification", "PUT /bucket?notification", X, Refused),
    // The one with a policy is in `forms`.
    ("PostObject", "POST /bucket", "", Other),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_s3_answers_what_is_documented() {
    let world = World::with_bucket().await;
    let documented = include_str!("../../../docs/s3.md");
    let mut uploads = Vec::new();
    for _ in 0..2 {
        let begun = world.post("/bucket/up?uploads").send().await;
        uploads.push(begun.one("UploadId"));
    }
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        md5_hex(b"part")
    );
    for (name, request, body, answer) in OPERATIONS {
        let (method, uri) = request.split_once(' ').unwrap();
        let uri = uri
            .replace("{upload}", &uploads[0])
            .replace("{second}", &uploads[1]);
        let method: Method = method.parse().unwrap();
        let mut call = world.request(method, &uri);
        if !body.is_empty() {
            call = call.body(body.replace("{list}", &list));
        }
        call = match name {
            "CopyObject" | "UploadPartCopy" => call.with("x-amz-copy-source", "/bucket/key"),
            "GetObjectAttributes" => call.with("x-amz-object-attributes", "ETag"),
            "PutBucketAcl" | "PutObjectAcl" => call.with("x-amz-acl", "private"),
            "WriteGetObjectResponse" => call
                .with("x-amz-request-route", "r")
                .with("x-amz-request-token", "t"),
            _ => call,
        };
        let reply = call.send().await;
        let said = format!("{name}: {} {}", reply.status, reply.text());
        match answer {
            Done(status) => assert_eq!(reply.status, status, "{said}"),
            Nothing(code) => assert_eq!((reply.status, reply.code().as_str()), (404, code)),
            Refused => {
                assert_eq!(
                    (reply.status, reply.code().as_str()),
                    (501, "NotImplemented"),
                    "{said}"
                );
                let named = name.trim_end_matches("Configuration");
                assert!(reply.one("Message").contains(named), "{said}");
            }
            Other => assert!(reply.status != 500, "{said}"),
        }
        let first_form = matches!(name, "GetBucketNotification" | "PutBucketLifecycle");
        if let (Done(_), false) = (answer, first_form) {
            assert_eq!(reply.api, name);
        }
        assert!(
            documented.contains(name),
            "docs/s3.md says nothing of {name}"
        );
    }
    world.stop().await;
}
