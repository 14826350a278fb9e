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
    for what in ["acl", "tagging"] {
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
        ("x-amz-object-lock-event-based-hold", "ON"),
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

fn acl(owner: &str, grantee: &str, permission: &str) -> String {
    let grantee = format!(
        "<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\"><ID>{grantee}</ID></Grantee>"
    );
    format!(
        "<AccessControlPolicy xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Owner><ID>{owner}</ID></Owner><AccessControlList><Grant>{grantee}<Permission>{permission}</Permission></Grant></AccessControlList></AccessControlPolicy>"
    )
}

/// Terraform and s3cmd set the list that is there anyway; any other one is refused, and GET goes on telling the truth.
#[tokio::test(flavor = "multi_thread")]
async fn the_only_acl_is_the_owners() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    for uri in ["/bucket?acl", "/bucket/key?acl"] {
        let told = world.get(uri).send().await;
        let me = told.one("ID");
        for canned in ["private", "bucket-owner-full-control"] {
            let reply = world.put(uri).with("x-amz-acl", canned).send().await;
            assert_eq!(reply.status, 200, "{uri} {canned}: {}", reply.text());
        }
        let mine = acl(&me, &me, "FULL_CONTROL");
        let reply = world.put(uri).body(mine.clone()).send().await;
        assert_eq!(reply.status, 200, "{uri}: {}", reply.text());
        let two = mine.replace(
            "</AccessControlList>",
            &format!("{}</AccessControlList>", grant(&mine)),
        );
        let all = "<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"Group\"><URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>";
        let public = mine.replace(
            "</AccessControlList>",
            &format!("<Grant>{all}<Permission>READ</Permission></Grant></AccessControlList>"),
        );
        for xml in [
            acl(&me, &me, "READ"),
            acl(&me, "somebody", "FULL_CONTROL"),
            acl("somebody", &me, "FULL_CONTROL"),
            "<AccessControlPolicy><AccessControlList/></AccessControlPolicy>".to_owned(),
            two,
            public,
        ] {
            let reply = world.put(uri).body(xml.clone()).send().await;
            assert_eq!(
                (reply.status, reply.code().as_str()),
                (400, "AccessControlListNotSupported"),
                "{xml}: {}",
                reply.text()
            );
        }
        world
            .put(uri)
            .with("x-amz-acl", "public-read")
            .send()
            .await
            .refused(501, "NotImplemented");
        world
            .put(uri)
            .send()
            .await
            .refused(400, "MissingSecurityHeader");
        world
            .put(uri)
            .with("x-amz-acl", "private")
            .body(mine)
            .send()
            .await
            .refused(400, "UnexpectedContent");
        assert_eq!(world.get(uri).send().await.text(), told.text());
    }
    world
        .put("/bucket/none?acl")
        .with("x-amz-acl", "private")
        .send()
        .await
        .refused(404, "NoSuchKey");
    world.stop().await;
}

fn grant(acl: &str) -> String {
    let (_, rest) = acl.split_once("<AccessControlList>").unwrap();
    rest.split_once("</AccessControlList>")
        .unwrap()
        .0
        .to_owned()
}

/// What is true of every bucket may be set and is told; what is not is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn public_access_is_blocked_and_never_let_through() {
    let world = World::with_bucket().await;
    let names = [
        "BlockPublicAcls",
        "IgnorePublicAcls",
        "BlockPublicPolicy",
        "RestrictPublicBuckets",
    ];
    let document = |off: Option<&str>| {
        let flags: String = names
            .iter()
            .map(|name| format!("<{name}>{}</{name}>", off != Some(name)))
            .collect();
        format!("<PublicAccessBlockConfiguration>{flags}</PublicAccessBlockConfiguration>")
    };
    let set = |off| {
        world
            .put("/bucket?publicAccessBlock")
            .body(document(off))
            .send()
    };
    for name in names {
        let reply = set(Some(name)).await;
        reply.refused(501, "NotImplemented");
        assert!(reply.one("Message").contains(name), "{}", reply.text());
    }
    world
        .get("/bucket?publicAccessBlock")
        .send()
        .await
        .refused(404, "NoSuchPublicAccessBlockConfiguration");
    assert_eq!(set(None).await.status, 200);
    let told = world.get("/bucket?publicAccessBlock").send().await;
    assert!(
        names.iter().all(|name| told.one(name) == "true"),
        "{}",
        told.text()
    );
    assert_eq!(
        world
            .delete("/bucket?publicAccessBlock")
            .send()
            .await
            .status,
        204
    );
    world
        .get("/bucket?publicAccessBlock")
        .send()
        .await
        .refused(404, "NoSuchPublicAccessBlockConfiguration");

    let controls = |ownership: &str| {
        world
            .put("/bucket?ownershipControls")
            .body(format!(
                "<OwnershipControls><Rule><ObjectOwnership>{ownership}</ObjectOwnership></Rule></OwnershipControls>"
            ))
            .send()
    };
    for other in ["BucketOwnerPreferred", "ObjectWriter"] {
        let reply = controls(other).await;
        reply.refused(501, "NotImplemented");
        assert!(reply.one("Message").contains(other), "{}", reply.text());
    }
    controls("Nobody").await.refused(400, "MalformedXML");
    assert_eq!(
        world
            .delete("/bucket?ownershipControls")
            .send()
            .await
            .status,
        204
    );
    world
        .get("/bucket?ownershipControls")
        .send()
        .await
        .refused(404, "OwnershipControlsNotFoundError");
    assert_eq!(controls("BucketOwnerEnforced").await.status, 200);
    let told = world.get("/bucket?ownershipControls").send().await;
    assert_eq!(told.one("ObjectOwnership"), "BucketOwnerEnforced");

    assert_eq!(world.delete("/bucket?policy").send().await.status, 204);
    world
        .delete("/nowhere?policy")
        .send()
        .await
        .refused(404, "NoSuchBucket");
    world.stop().await;
}
