//! Object lock: buckets that have it, retentions, legal holds, and who gets around which of them.

use std::time::Duration;

use minikv::object::dates;
use minikv_core::env::clock;

use crate::world::{Reply, World, md5_base64, noise};

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const HOLD: &str = "x-amz-object-lock-legal-hold";
const BYPASS: &str = "x-amz-bypass-governance-retention";
const DENIED: &str = "Access Denied because object protected by object lock.";

/// So many seconds from now, as a header or document has it.
fn ahead(seconds: i64) -> String {
    let now = clock::wall_ms() / 1_000;
    dates::rfc3339(now.checked_add_signed(seconds).unwrap() * 1_000)
}

async fn lock_bucket(world: &World) {
    let made = world
        .put("/locked")
        .with("x-amz-bucket-object-lock-enabled", "true")
        .send()
        .await;
    assert_eq!(made.status, 200, "{}", made.text());
}

fn config(rule: &str) -> String {
    format!(
        "<ObjectLockConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><ObjectLockEnabled>Enabled</ObjectLockEnabled>{rule}</ObjectLockConfiguration>"
    )
}

fn rule(inner: &str) -> String {
    config(&format!(
        "<Rule><DefaultRetention>{inner}</DefaultRetention></Rule>"
    ))
}

fn retention(mode: &str, until: &str) -> String {
    format!("<Retention><Mode>{mode}</Mode><RetainUntilDate>{until}</RetainUntilDate></Retention>")
}

fn hold(status: &str) -> String {
    format!("<LegalHold><Status>{status}</Status></LegalHold>")
}

/// Puts an object and answers its version.
async fn put(world: &World, key: &str, headers: &[(&'static str, &str)]) -> String {
    let mut call = world
        .put(&format!("/locked/{key}"))
        .with("content-md5", md5_base64(b"data"));
    for (name, value) in headers {
        call = call.with(name, value);
    }
    let reply = call.body("data").send().await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-amz-version-id").to_owned()
}

async fn remove(world: &World, key: &str, version: &str, bypass: bool) -> Reply {
    let mut call = world.delete(&format!("/locked/{key}?versionId={version}"));
    if bypass {
        call = call.with(BYPASS, "true");
    }
    call.send().await
}

#[track_caller]
fn protected(reply: &Reply) {
    reply.refused(403, "AccessDenied");
    assert_eq!(reply.one("Message"), DENIED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_has_object_lock_and_versions_for_ever() {
    let world = World::with_bucket().await;
    lock_bucket(&world).await;
    let versioning = world.get("/locked?versioning").send().await;
    assert_eq!(versioning.one("Status"), "Enabled");
    let told = world.get("/locked?object-lock").send().await;
    assert_eq!(told.one("ObjectLockEnabled"), "Enabled");
    assert!(!told.text().contains("Rule"), "{}", told.text());
    let suspend = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    world
        .put("/locked?versioning")
        .body(suspend)
        .send()
        .await
        .refused(409, "InvalidBucketState");
    let again = suspend.replace("Suspended", "Enabled");
    let again = world.put("/locked?versioning").body(again).send().await;
    assert_eq!(again.status, 200, "what is so may be said again");

    let set = |xml: String| world.put("/locked?object-lock").body(xml).send();
    for (inner, told) in [
        (
            "<Mode>GOVERNANCE</Mode><Days>36500</Days>",
            "<Mode>GOVERNANCE</Mode><Days>36500</Days>",
        ),
        (
            "<Years>100</Years><Mode>COMPLIANCE</Mode>",
            "<Mode>COMPLIANCE</Mode><Years>100</Years>",
        ),
    ] {
        assert_eq!(set(rule(inner)).await.status, 200, "{inner}");
        let got = world.get("/locked?object-lock").send().await.text();
        let expected = format!("<Rule><DefaultRetention>{told}</DefaultRetention></Rule>");
        assert!(got.contains(&expected), "{got}");
    }
    for (xml, code) in [
        (
            rule("<Mode>GOVERNANCE</Mode><Days>0</Days>"),
            "InvalidRetentionPeriod",
        ),
        (
            rule("<Mode>GOVERNANCE</Mode><Years>-1</Years>"),
            "InvalidRetentionPeriod",
        ),
        (
            rule("<Mode>GOVERNANCE</Mode><Days>36501</Days>"),
            "InvalidRetentionPeriod",
        ),
        (
            rule("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"),
            "MalformedXML",
        ),
        (rule("<Mode>GOVERNANCE</Mode>"), "MalformedXML"),
        (
            rule("<Mode>governance</Mode><Days>1</Days>"),
            "MalformedXML",
        ),
        (rule("<Days>1</Days>"), "MalformedXML"),
        (config("<Rule/>"), "MalformedXML"),
        (
            config("").replace("Enabled</Object", "Disabled</Object"),
            "MalformedXML",
        ),
        ("<ObjectLockConfiguration/>".to_owned(), "MalformedXML"),
    ] {
        let reply = set(xml.clone()).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{xml}");
    }
    assert_eq!(set(config("")).await.status, 200);
    let told = world.get("/locked?object-lock").send().await.text();
    assert!(!told.contains("Rule"), "{told}");
    world.stop().await;
}

/// S3 lets it be turned on later, where versions are kept; what is there already can be locked then.
#[tokio::test(flavor = "multi_thread")]
async fn object_lock_is_turned_on_where_versions_are_kept() {
    let world = World::with_bucket().await;
    let enable = || world.put("/bucket?object-lock").body(config("")).send();
    world.store("/bucket/key", "null").await;
    enable().await.refused(409, "InvalidBucketState");
    world.versioning("Suspended").await;
    enable().await.refused(409, "InvalidBucketState");
    world
        .get("/bucket?object-lock")
        .send()
        .await
        .refused(404, "ObjectLockConfigurationNotFoundError");
    world.versioning("Enabled").await;
    assert_eq!(enable().await.status, 200);
    let held = world
        .put("/bucket/key?legal-hold&versionId=null")
        .body(hold("ON"))
        .send()
        .await;
    assert_eq!(held.status, 200, "{}", held.text());
    world.store("/bucket/key", "next").await;
    protected(&world.delete("/bucket/key?versionId=null").send().await);
    world
        .delete("/bucket")
        .send()
        .await
        .refused(409, "BucketNotEmpty");
    world
        .put("/nowhere?object-lock")
        .body(config(""))
        .send()
        .await
        .refused(404, "NoSuchBucket");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_version_is_told_and_stays() {
    let world = World::with_bucket().await;
    lock_bucket(&world).await;
    let date = ahead(3_600);
    let version = put(
        &world,
        "k",
        &[(MODE, "COMPLIANCE"), (UNTIL, &date), (HOLD, "ON")],
    )
    .await;
    for reply in [
        world.get("/locked/k").send().await,
        world.head("/locked/k").send().await,
    ] {
        assert_eq!(reply.header(MODE), "COMPLIANCE");
        assert_eq!(reply.header(UNTIL), date);
        assert_eq!(reply.header(HOLD), "ON");
    }
    let told = world.get("/locked/k?retention").send().await;
    assert_eq!(
        (told.one("Mode"), told.one("RetainUntilDate")),
        ("COMPLIANCE".to_owned(), date)
    );
    let told = world.get("/locked/k?legal-hold").send().await;
    assert_eq!(told.one("Status"), "ON");

    // A delete hides it, an overwrite is another version, and both are fine.
    let marker = world.delete("/locked/k").send().await;
    assert_eq!(
        (marker.status, marker.header("x-amz-delete-marker")),
        (204, "true")
    );
    world
        .get("/locked/k?retention")
        .send()
        .await
        .refused(405, "MethodNotAllowed");
    put(&world, "k", &[]).await;
    for bypass in [false, true] {
        protected(&remove(&world, "k", &version, bypass).await);
    }
    let xml = format!(
        "<Delete><Object><Key>k</Key><VersionId>{version}</VersionId></Object><Object><Key>none</Key></Object></Delete>"
    );
    let batch = world
        .post("/locked?delete")
        .with(BYPASS, "true")
        .body(xml)
        .send()
        .await;
    assert_eq!(batch.status, 200, "{}", batch.text());
    assert_eq!(batch.all("Code"), ["AccessDenied"]);
    assert_eq!(batch.one("Message"), DENIED);
    let read = world
        .get(&format!("/locked/k?versionId={version}"))
        .send()
        .await;
    assert_eq!(read.text(), "data");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn governance_is_for_those_who_say_that_they_bypass_it() {
    let world = World::with_bucket().await;
    lock_bucket(&world).await;
    let (later, latest) = (ahead(3_600), ahead(7_200));
    let version = put(&world, "k", &[(MODE, "GOVERNANCE"), (UNTIL, &later)]).await;
    let uri = format!("/locked/k?retention&versionId={version}");
    let set =
        |xml: String, bypass: &'static str| world.put(&uri).with(BYPASS, bypass).body(xml).send();
    assert_eq!(set(retention("GOVERNANCE", &latest), "").await.status, 200);
    protected(&set(retention("GOVERNANCE", &later), "false").await);
    protected(&set(retention("COMPLIANCE", &latest), "").await);
    protected(&set("<Retention/>".to_owned(), "").await);
    protected(&remove(&world, "k", &version, false).await);
    assert_eq!(
        set(retention("GOVERNANCE", &later), "true").await.status,
        200
    );
    assert_eq!(set("<Retention/>".to_owned(), "TRUE").await.status, 200);
    world
        .get(&uri)
        .send()
        .await
        .refused(404, "NoSuchObjectLockConfiguration");
    assert_eq!(world.head("/locked/k").send().await.header(MODE), "");
    assert_eq!(set(retention("GOVERNANCE", &latest), "").await.status, 200);
    assert_eq!(remove(&world, "k", &version, true).await.status, 204);

    // A batch says it once for all.
    let one = put(&world, "one", &[(MODE, "GOVERNANCE"), (UNTIL, &later)]).await;
    let two = put(
        &world,
        "two",
        &[(MODE, "GOVERNANCE"), (UNTIL, &later), (HOLD, "ON")],
    )
    .await;
    let xml = format!(
        "<Delete><Object><Key>one</Key><VersionId>{one}</VersionId></Object><Object><Key>two</Key><VersionId>{two}</VersionId></Object></Delete>"
    );
    let refused = world.post("/locked?delete").body(xml.clone()).send().await;
    assert_eq!(refused.all("Code"), ["AccessDenied", "AccessDenied"]);
    let done = world
        .post("/locked?delete")
        .with(BYPASS, "true")
        .body(xml)
        .send()
        .await;
    assert_eq!(done.all("Code"), ["AccessDenied"], "the legal hold stays");
    assert!(
        done.text()
            .contains(&format!("<VersionId>{one}</VersionId>"))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legal_hold_goes_when_it_is_turned_off() {
    let world = World::with_bucket().await;
    lock_bucket(&world).await;
    let version = put(&world, "k", &[]).await;
    world
        .get("/locked/k?legal-hold")
        .send()
        .await
        .refused(404, "NoSuchObjectLockConfiguration");
    let set = |status: &str| world.put("/locked/k?legal-hold").body(hold(status)).send();
    assert_eq!(set("ON").await.status, 200);
    protected(&remove(&world, "k", &version, true).await);
    set("on").await.refused(400, "MalformedXML");
    assert_eq!(set("OFF").await.status, 200);
    assert_eq!(world.head("/locked/k").send().await.header(HOLD), "OFF");
    assert_eq!(remove(&world, "k", &version, false).await.status, 204);
    world
        .put("/locked/none?legal-hold")
        .body(hold("ON"))
        .send()
        .await
        .refused(404, "NoSuchKey");
    world.stop().await;
}

/// The date itself ends a retention; nobody has to do anything.
#[tokio::test(flavor = "multi_thread")]
async fn compliance_ends_at_its_date_and_not_before() {
    let world = World::with_bucket().await;
    lock_bucket(&world).await;
    let date = ahead(3);
    let version = put(&world, "k", &[(MODE, "COMPLIANCE"), (UNTIL, &date)]).await;
    protected(&remove(&world, "k", &version, true).await);
    let set = |xml: String| {
        world
            .put("/locked/k?retention")
            .with(BYPASS, "true")
            .body(xml)
            .send()
    };
    protected(&set("<Retention/>".to_owned()).await);
    protected(&set(retention("GOVERNANCE", &ahead(900))).await);
    clock::sleep(Duration::from_millis(3_100)).await;
    assert_eq!(world.head("/locked/k").send().await.header(UNTIL), date);
    assert_eq!(remove(&world, "k", &version, false).await.status, 204);
    world.stop().await;
}

/// Every way to write an object gives it the bucket's default, or what its request says.
#[tokio::test(flavor = "multi_thread")]
async fn every_write_is_kept_as_it_or_its_bucket_says() {
    let world = World::with_bucket().await;
    lock_bucket(&world).await;
    let set = world
        .put("/locked?object-lock")
        .body(rule("<Mode>GOVERNANCE</Mode><Days>1</Days>"))
        .send()
        .await;
    assert_eq!(set.status, 200);
    let date = ahead(9 * 86_400);
    let said = [(MODE, "COMPLIANCE"), (UNTIL, date.as_str())];
    let is = async |key: &str, mode: &str| {
        let head = world.head(&format!("/locked/{key}")).send().await;
        assert_eq!(head.header(MODE), mode, "{key}");
        match mode {
            "COMPLIANCE" => assert_eq!(head.header(UNTIL), date, "{key}"),
            _ => {
                let until = dates::parse_rfc3339(head.header(UNTIL)).unwrap() / 1_000;
                let modified = dates::parse_http_date(head.header("last-modified")).unwrap();
                assert_eq!(until - modified, 86_400, "{key}");
            }
        }
    };
    put(&world, "small", &[]).await;
    is("small", "GOVERNANCE").await;
    put(&world, "said", &said).await;
    is("said", "COMPLIANCE").await;
    let large = noise(300_000);
    let stored = world
        .put("/locked/large")
        .with("content-md5", md5_base64(&large))
        .body(large)
        .send()
        .await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    is("large", "GOVERNANCE").await;

    // A copy asks nothing of its source.
    for (key, headers, mode) in [
        ("copy", &[][..], "GOVERNANCE"),
        ("copied", &said, "COMPLIANCE"),
    ] {
        let mut call = world
            .put(&format!("/locked/{key}"))
            .with("x-amz-copy-source", "/locked/said");
        for (name, value) in headers {
            call = call.with(name, value);
        }
        let reply = call.send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        is(key, mode).await;
    }
    for (key, headers, mode) in [
        ("upload", &[][..], "GOVERNANCE"),
        ("uploaded", &said, "COMPLIANCE"),
    ] {
        let mut call = world.post(&format!("/locked/{key}?uploads"));
        for (name, value) in headers {
            call = call.with(name, value);
        }
        let id = call.send().await.one("UploadId");
        let part = world
            .put(&format!("/locked/{key}?partNumber=1&uploadId={id}"))
            .body("part")
            .send()
            .await;
        let xml = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
            part.header("etag")
        );
        let done = world
            .post(&format!("/locked/{key}?uploadId={id}"))
            .body(xml)
            .send()
            .await;
        assert_eq!(done.status, 200, "{}", done.text());
        is(key, mode).await;
        let version = done.header("x-amz-version-id").to_owned();
        protected(&remove(&world, key, &version, mode == "COMPLIANCE").await);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_make_no_sense_are_refused_and_leave_nothing() {
    let world = World::with_bucket().await;
    lock_bucket(&world).await;
    let (date, past) = (ahead(3_600), ahead(-60));
    for (headers, code, words) in [
        (
            vec![(MODE, "COMPLIANCE")],
            "InvalidArgument",
            "must both be supplied",
        ),
        (
            vec![(UNTIL, date.as_str())],
            "InvalidArgument",
            "must both be supplied",
        ),
        (
            vec![(MODE, "compliance"), (UNTIL, &date)],
            "InvalidArgument",
            "wormMode",
        ),
        (
            vec![(MODE, "GOVERNANCE"), (UNTIL, &past)],
            "InvalidArgument",
            "in the future",
        ),
        (vec![(HOLD, "maybe")], "InvalidArgument", "'ON' or 'OFF'"),
    ] {
        let mut call = world
            .put("/locked/k")
            .with("content-md5", md5_base64(b"data"))
            .body("data");
        for (name, value) in &headers {
            call = call.with(name, value);
        }
        let reply = call.send().await;
        reply.refused(400, code);
        assert!(reply.one("Message").contains(words), "{}", reply.text());
    }
    let reply = world
        .put("/locked/k")
        .with(MODE, "GOVERNANCE")
        .with(UNTIL, "tomorrow")
        .with("content-md5", md5_base64(b"data"))
        .body("data")
        .send()
        .await;
    reply.refused(400, "InvalidArgument");
    // Without a checksum it could not be seen to be whole.
    let bare = world
        .put("/locked/k")
        .with(HOLD, "ON")
        .body("data")
        .send()
        .await;
    bare.refused(400, "InvalidRequest");
    assert!(
        bare.one("Message")
            .contains("Content-MD5 OR x-amz-checksum-")
    );
    world.expect_absent("/locked/k").await;
    let sum = crate::world::checksum(minikv::object::checksum::Algorithm::Crc32, b"data");
    let summed = world
        .put("/locked/sum")
        .with(HOLD, "ON")
        .with("x-amz-checksum-crc32", sum);
    assert_eq!(summed.body("data").send().await.status, 200);
    let set = world
        .put("/locked?object-lock")
        .body(rule("<Mode>GOVERNANCE</Mode><Days>1</Days>"))
        .send()
        .await;
    assert_eq!(set.status, 200);
    let bare = world.put("/locked/k").body("data").send().await;
    bare.refused(400, "InvalidRequest");

    // A lock belongs to what makes the object.
    for call in [
        world.put("/locked/k?partNumber=1&uploadId=x").body("part"),
        world
            .post("/locked/k?uploadId=x")
            .body("<CompleteMultipartUpload/>"),
        world.put("/locked/k?tagging").body("<Tagging/>"),
    ] {
        let reply = call.with(HOLD, "ON").send().await;
        reply.refused(400, "InvalidArgument");
        assert!(reply.one("Message").contains(HOLD), "{}", reply.text());
    }

    let version = put(&world, "there", &[]).await;
    let uri = format!("/locked/there?retention&versionId={version}");
    for (xml, code) in [
        (retention("governance", &date), "MalformedXML"),
        (retention("GOVERNANCE", &past), "InvalidArgument"),
        (
            "<Retention><Mode>GOVERNANCE</Mode></Retention>".to_owned(),
            "MalformedXML",
        ),
        (
            format!("<Retention><RetainUntilDate>{date}</RetainUntilDate></Retention>"),
            "MalformedXML",
        ),
        (String::new(), "MalformedXML"),
    ] {
        let reply = world.put(&uri).body(xml.clone()).send().await;
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{xml}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_object_lock_nothing_can_be_locked_or_bypassed() {
    let world = World::with_bucket().await;
    world.store("/bucket/key", "x").await;
    let date = ahead(3_600);
    let bucketless = |reply: Reply| {
        reply.refused(400, "InvalidRequest");
        assert_eq!(
            reply.one("Message"),
            "Bucket is missing Object Lock Configuration"
        );
    };
    let put = || {
        world
            .put("/bucket/new")
            .with("content-md5", md5_base64(b"x"))
    };
    bucketless(put().with(HOLD, "OFF").body("x").send().await);
    bucketless(
        put()
            .with(MODE, "GOVERNANCE")
            .with(UNTIL, &date)
            .body("x")
            .send()
            .await,
    );
    let create = world.post("/bucket/new?uploads").with(HOLD, "ON");
    bucketless(create.send().await);
    let copy = world
        .put("/bucket/new")
        .with("x-amz-copy-source", "/bucket/key");
    bucketless(copy.with(HOLD, "ON").send().await);
    let set = world
        .put("/bucket/key?retention")
        .body(retention("GOVERNANCE", &date));
    bucketless(set.send().await);
    bucketless(
        world
            .put("/bucket/key?legal-hold")
            .body(hold("ON"))
            .send()
            .await,
    );
    bucketless(world.get("/bucket/key?retention").send().await);
    bucketless(world.get("/bucket/key?legal-hold").send().await);
    world.expect_absent("/bucket/new").await;
    for call in [
        world.delete("/bucket/key?versionId=null"),
        world
            .post("/bucket?delete")
            .body("<Delete><Object><Key>key</Key></Object></Delete>"),
    ] {
        let reply = call.with(BYPASS, "true").send().await;
        reply.refused(400, "InvalidArgument");
        assert!(
            reply
                .one("Message")
                .contains("only applicable to Object Lock")
        );
    }
    assert_eq!(world.get("/bucket/key").send().await.text(), "x");
    world.stop().await;
}
