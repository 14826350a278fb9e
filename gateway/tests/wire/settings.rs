//! Settings that nobody configured: the exact codes that Terraform, mc and backup tools tolerate.

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_configured_is_answered_as_s3_does() {
    let world = World::with_bucket().await;
    for (what, status, code) in [
        ("policy", 404, "NoSuchBucketPolicy"),
        ("policyStatus", 404, "NoSuchBucketPolicy"),
        (
            "publicAccessBlock",
            404,
            "NoSuchPublicAccessBlockConfiguration",
        ),
        ("cors", 404, "NoSuchCORSConfiguration"),
        ("website", 404, "NoSuchWebsiteConfiguration"),
        ("lifecycle", 404, "NoSuchLifecycleConfiguration"),
        ("replication", 404, "ReplicationConfigurationNotFoundError"),
        (
            "encryption",
            404,
            "ServerSideEncryptionConfigurationNotFoundError",
        ),
        ("object-lock", 404, "ObjectLockConfigurationNotFoundError"),
        ("tagging", 404, "NoSuchTagSet"),
    ] {
        world
            .get(&format!("/bucket?{what}"))
            .send()
            .await
            .refused(status, code);
        world
            .get(&format!("/nowhere?{what}"))
            .send()
            .await
            .refused(404, "NoSuchBucket");
    }
    for (what, contains) in [
        ("accelerate", "<AccelerateConfiguration"),
        ("requestPayment", "<Payer>BucketOwner</Payer>"),
        ("logging", "<BucketLoggingStatus"),
        ("notification", "<NotificationConfiguration"),
        (
            "ownershipControls",
            "<ObjectOwnership>BucketOwnerEnforced</ObjectOwnership>",
        ),
        ("acl", "<Permission>FULL_CONTROL</Permission>"),
        ("versioning", "<VersioningConfiguration"),
        ("location", "<LocationConstraint"),
    ] {
        let reply = world.get(&format!("/bucket?{what}")).send().await;
        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        assert!(reply.text().contains(contains), "{what}: {}", reply.text());
        world
            .get(&format!("/nowhere?{what}"))
            .send()
            .await
            .refused(404, "NoSuchBucket");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_has_an_owner_and_no_lock() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    let acl = world.get("/bucket/key?acl").send().await;
    assert!(
        acl.text().contains("<Permission>FULL_CONTROL</Permission>"),
        "{}",
        acl.text()
    );
    world
        .get("/bucket/key?retention")
        .send()
        .await
        .refused(400, "InvalidRequest");
    world
        .get("/bucket/key?legal-hold")
        .send()
        .await
        .refused(400, "InvalidRequest");
    for what in ["acl", "tagging", "retention", "legal-hold"] {
        world
            .get(&format!("/bucket/none?{what}"))
            .send()
            .await
            .refused(404, "NoSuchKey");
    }
    world.stop().await;
}

/// Nothing is taken and then not honoured.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_done_is_refused_by_name() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    let xml = "<X/>";
    for (call, name) in [
        (world.put("/bucket?policy").body("{}"), "PutBucketPolicy"),
        (
            world.put("/bucket?lifecycle").body(xml),
            "PutBucketLifecycleConfiguration",
        ),
        (world.put("/bucket?acl").body(xml), "PutBucketAcl"),
        (world.put("/bucket/key?acl").body(xml), "PutObjectAcl"),
        (
            world.put("/bucket/key?retention").body(xml),
            "PutObjectRetention",
        ),
        (world.delete("/bucket?policy"), "DeleteBucketPolicy"),
        (world.get("/bucket/key?torrent"), "GetObjectTorrent"),
        (world.put("/bucket?website").body(xml), "PutBucketWebsite"),
        (
            world.put("/bucket?notification").body(xml),
            "PutBucketNotificationConfiguration",
        ),
        (
            world.put("/bucket?replication").body(xml),
            "PutBucketReplication",
        ),
        (world.put("/bucket?logging").body(xml), "PutBucketLogging"),
        (
            world.get("/bucket?inventory"),
            "ListBucketInventoryConfigurations",
        ),
        (
            world.get("/bucket?intelligent-tiering"),
            "ListBucketIntelligentTieringConfigurations",
        ),
        (
            world.get("/bucket?analytics"),
            "ListBucketAnalyticsConfigurations",
        ),
        (
            world.get("/bucket?events=s3:ObjectCreated:*"),
            "listenBucketNotification",
        ),
        (world.post("/bucket/key?restore").body(xml), "RestoreObject"),
        (
            world.post("/bucket/key?select&select-type=2").body(xml),
            "SelectObjectContent",
        ),
        (
            world.put("/bucket/new?renameObject").body("x"),
            "RenameObject",
        ),
    ] {
        let reply = call.send().await;
        reply.refused(501, "NotImplemented");
        assert!(
            reply.one("Message").contains(name),
            "{name}: {}",
            reply.text()
        );
    }
    // S3 has no such method on these; none falls through to another call.
    for call in [
        world.delete("/bucket/key?acl"),
        world.delete("/bucket/key?legal-hold"),
        world.delete("/bucket/key?torrent"),
        world.delete("/bucket?versioning"),
        world.delete("/bucket?acl"),
        world.put("/bucket/key?attributes").body(xml),
        world.put("/bucket?versions").body(xml),
        world.put("/bucket?location").body(xml),
    ] {
        call.send().await.refused(405, "MethodNotAllowed");
    }
    world
        .get("/bucket/key?acl&tagging")
        .send()
        .await
        .refused(400, "InvalidArgument");
    assert_eq!(
        world.get("/bucket/key").send().await.text(),
        "x",
        "none of them did anything"
    );
    world.expect_absent("/bucket/new").await;
    for (name, value) in [
        ("x-amz-server-side-encryption", "aws:kms:dsse"),
        ("x-amz-storage-class", "GLACIER"),
        ("x-amz-acl", "public-read"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-website-redirect-location", "/x"),
        ("x-amz-grant-read", "id=x"),
    ] {
        let reply = world
            .put("/bucket/new")
            .with(name, value)
            .body("x")
            .send()
            .await;
        reply.refused(501, "NotImplemented");
        assert!(reply.one("Message").contains(name), "{}", reply.text());
        world.expect_absent("/bucket/new").await;
    }
    for (name, value) in [
        ("x-amz-acl", "private"),
        ("x-amz-acl", "bucket-owner-full-control"),
        ("x-amz-tagging", ""),
        ("x-amz-storage-class", "STANDARD"),
    ] {
        assert_eq!(
            world
                .put("/bucket/new")
                .with(name, value)
                .body("x")
                .send()
                .await
                .status,
            200,
            "{name}: {value}"
        );
    }
    world.stop().await;
}
