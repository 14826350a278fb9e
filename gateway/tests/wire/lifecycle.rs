//! Lifecycle rules: set and read back, refused when they make no sense, told in headers, and carried out.

use std::time::Duration;

use minikv::auth::principal::Principal;
use minikv::object::dates;
use minikv_core::env::clock;

use crate::world::{Reply, World, noise};

const DAY: Duration = Duration::from_secs(1);

fn document(rules: &str) -> String {
    format!(
        "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{rules}</LifecycleConfiguration>"
    )
}

/// A rule with an id, on a filter.
fn rule(id: &str, filter: &str, action: &str) -> String {
    format!("<Rule><ID>{id}</ID><Filter>{filter}</Filter><Status>Enabled</Status>{action}</Rule>")
}

fn days(days: u32) -> String {
    format!("<Expiration><Days>{days}</Days></Expiration>")
}

async fn put(world: &World, rules: &str) -> Reply {
    let body = document(rules);
    world.put("/bucket?lifecycle").body(body).send().await
}

async fn set(world: &World, rules: &str) {
    let reply = put(world, rules).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Waits until it is so.
async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    for _ in 0..300 {
        if is_so().await {
            return;
        }
        clock::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}

async fn keys(world: &World) -> Vec<String> {
    world.get("/bucket?list-type=2").send().await.all("Key")
}

/// Versions and markers of a key, as `Version` and `DeleteMarker`, newest first.
async fn versions(world: &World, key: &str) -> Vec<&'static str> {
    let reply = world
        .get(&format!("/bucket?versions&prefix={key}"))
        .send()
        .await;
    let text = reply.text();
    let mut found: Vec<(usize, &'static str)> = Vec::new();
    for name in ["Version", "DeleteMarker"] {
        let open = format!("<{name}>");
        found.extend(text.match_indices(&open).map(|(at, _)| (at, name)));
    }
    found.sort_unstable();
    found.into_iter().map(|(_, name)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_come_back_as_they_were_set() {
    let world = World::with_bucket().await;
    let none = world.get("/bucket?lifecycle").send().await;
    none.refused(404, "NoSuchLifecycleConfiguration");
    let rules = [
        rule("all", "", &days(3)),
        rule("prefix", "<Prefix>a/</Prefix>", "<Expiration><Date>2031-05-01T00:00:00Z</Date></Expiration>"),
        rule("tag", "<Tag><Key>k</Key><Value>v</Value></Tag>", "<NoncurrentVersionExpiration><NewerNoncurrentVersions>5</NewerNoncurrentVersions><NoncurrentDays>4</NoncurrentDays></NoncurrentVersionExpiration>"),
        rule("and", "<And><Prefix>b</Prefix><Tag><Key>x</Key><Value></Value></Tag><Tag><Key>y</Key><Value>2</Value></Tag><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And>", &days(1)),
        rule("rest", "<Prefix></Prefix>", "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"),
        "<Rule><Filter></Filter><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>".to_owned(),
    ];
    let reply = put(&world, &rules.concat()).await;
    let minimum = "x-amz-transition-default-minimum-object-size";
    assert_eq!(
        (reply.status, reply.header(minimum)),
        (200, "all_storage_classes_128K")
    );
    let shown = world.get("/bucket?lifecycle").send().await;
    assert_eq!(shown.header(minimum), "all_storage_classes_128K");
    let text = shown.text();
    let made = shown.all("ID").pop().unwrap();
    assert_eq!(made.len(), 36, "a rule without an id gets one");
    assert_eq!(
        shown.all("ID")[..5],
        ["all", "prefix", "tag", "and", "rest"]
    );
    assert_eq!(shown.all("Status")[4..], ["Enabled", "Disabled"]);
    for element in [
        "<Date>2031-05-01T00:00:00.000Z</Date>",
        "<And><Prefix>b</Prefix><Tag><Key>x</Key><Value></Value></Tag><Tag><Key>y</Key><Value>2</Value></Tag><ObjectSizeGreaterThan>1</ObjectSizeGreaterThan><ObjectSizeLessThan>9</ObjectSizeLessThan></And>",
        "<ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>",
        "<DaysAfterInitiation>2</DaysAfterInitiation>",
        "<NewerNoncurrentVersions>5</NewerNoncurrentVersions><NoncurrentDays>4</NoncurrentDays>",
        "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>",
    ] {
        assert!(text.contains(element), "{element} in {text}");
    }

    let old = "<Rule><ID>o</ID><Prefix>logs/</Prefix><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>";
    let by_class = world
        .put("/bucket?lifecycle")
        .with(minimum, "varies_by_storage_class");
    assert_eq!(by_class.body(document(old)).send().await.status, 200);
    let shown = world.get("/bucket?lifecycle").send().await;
    assert_eq!(shown.header(minimum), "varies_by_storage_class");
    assert!(shown.text().contains("<Prefix>logs/</Prefix>") && !shown.text().contains("<Filter>"));

    // Other settings of the bucket stay what they are.
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    assert_eq!(
        world.put("/bucket?tagging").body(tags).send().await.status,
        204
    );
    assert_eq!(world.get("/bucket?lifecycle").send().await.all("ID"), ["o"]);
    for _ in 0..2 {
        assert_eq!(world.delete("/bucket?lifecycle").send().await.status, 204);
    }
    let none = world.get("/bucket?lifecycle").send().await;
    none.refused(404, "NoSuchLifecycleConfiguration");
    assert_eq!(world.get("/bucket?tagging").send().await.all("Key"), ["a"]);
}

/// Each of these is refused with S3's code, and the rules that were there stay.
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_make_no_sense_are_refused() {
    let world = World::with_bucket().await;
    set(&world, &rule("kept", "", &days(300))).await;
    let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    let tag = "<Tag><Key>a</Key><Value>b</Value></Tag>";
    let date = |date: &str| {
        rule(
            "r",
            "",
            &format!("<Expiration><Date>{date}</Date></Expiration>"),
        )
    };
    let many = |count: usize| {
        let one = |n: usize| rule(&format!("r{n}"), "", &days(1));
        (0..count).map(one).collect::<String>()
    };
    for (rules, status, code) in [
        (String::new(), 400, "MalformedXML"),
        (
            "<Rule><Filter/><Expiration><Days>1</Days></Expiration></Rule>".to_owned(),
            400,
            "MalformedXML",
        ),
        (rule("r", "", &days(0)), 400, "InvalidArgument"),
        (
            rule("r", "", "<Expiration><Days>x</Days></Expiration>"),
            400,
            "MalformedXML",
        ),
        (
            rule(
                "r",
                "",
                "<Expiration><Days>1</Days><Date>2031-05-01T00:00:00Z</Date></Expiration>",
            ),
            400,
            "MalformedXML",
        ),
        (date("2031-05-01T00:00:01Z"), 400, "InvalidArgument"),
        (date("2031-05-01T00:00:00.5Z"), 400, "InvalidArgument"),
        (date("tomorrow"), 400, "MalformedXML"),
        (rule("r", "", ""), 400, "InvalidRequest"),
        (rule("r", tag, abort), 400, "InvalidRequest"),
        (rule("r", "<Wish>1</Wish>", &days(1)), 400, "MalformedXML"),
        (rule(&"x".repeat(256), "", &days(1)), 400, "InvalidArgument"),
        (rule("r", "", &days(1)).repeat(2), 400, "InvalidArgument"),
        (many(1001), 400, "InvalidRequest"),
        (
            rule(
                "r",
                "",
                "<Transition><Days>30</Days><StorageClass>GLACIER</StorageClass></Transition>",
            ),
            501,
            "NotImplemented",
        ),
        (
            rule(
                "r",
                "",
                "<NoncurrentVersionTransition><NoncurrentDays>30</NoncurrentDays><StorageClass>GLACIER</StorageClass></NoncurrentVersionTransition>",
            ),
            501,
            "NotImplemented",
        ),
    ] {
        let reply = put(&world, &rules).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (status, code),
            "{rules}: {}",
            reply.text()
        );
    }
    let wrong = world
        .put("/bucket?lifecycle")
        .with("x-amz-transition-default-minimum-object-size", "all");
    wrong
        .body(document(&rule("r", "", &days(1))))
        .send()
        .await
        .refused(400, "InvalidRequest");
    let empty = world.put("/bucket?lifecycle").send().await;
    assert_eq!(
        (empty.status, empty.code().as_str()),
        (400, "MalformedXML"),
        "{}",
        empty.text()
    );
    assert_eq!(
        world.get("/bucket?lifecycle").send().await.all("ID"),
        ["kept"]
    );
    let long = |n: usize| {
        rule(
            &n.to_string(),
            &format!("<Prefix>{n}{}</Prefix>", "p".repeat(500)),
            &days(1),
        )
    };
    let large = put(&world, &(0..900).map(long).collect::<String>()).await;
    large.refused(400, "InvalidRequest");
    assert!(
        large.one("Message").starts_with("The rules take up"),
        "{}",
        large.text()
    );
    set(&world, &many(1000)).await;
    world
        .put("/nowhere?lifecycle")
        .body(document(&many(1)))
        .send()
        .await
        .refused(404, "NoSuchBucket");
    world
        .delete("/nowhere?lifecycle")
        .send()
        .await
        .refused(404, "NoSuchBucket");
}

/// Who may not see a bucket may not say what ages in it.
#[tokio::test(flavor = "multi_thread")]
async fn rules_of_somebody_elses_bucket_are_closed() {
    let world = World::with_bucket().await;
    let tenant = world.tenant("one").await;
    world.keys.put(
        "MALLORY",
        "a-users-secret",
        Principal::user("MALLORY", tenant, "mallory"),
    );
    let mallory = ("MALLORY", "a-users-secret");
    let body = document(&rule("r", "", &days(1)));
    let calls = [
        world.put("/bucket?lifecycle").body(body),
        world.get("/bucket?lifecycle"),
        world.delete("/bucket?lifecycle"),
    ];
    for call in calls {
        call.by(mallory).send().await.refused(403, "AccessDenied");
    }
}

/// Days are real ones there, however short they are for the one who carries the rules out.
#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_when_it_goes_and_by_which_rule() {
    let world = World::with_days_of(DAY).await;
    let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2000</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    let rules = rule("all of it", "", &format!("{}{abort}", days(9000)))
        + &rule(
            "red",
            "<Tag><Key>colour</Key><Value>red</Value></Tag>",
            &days(5000),
        )
        + &rule(
            "large",
            "<ObjectSizeGreaterThan>99</ObjectSizeGreaterThan>",
            &days(4000),
        );
    assert_eq!(world.put("/plain").send().await.status, 200);
    let before = world.store("/bucket/k", "v").await;
    assert_eq!(before.header("x-amz-expiration"), "");
    set(&world, &rules).await;

    // The midnight after the last of the days, whenever this runs.
    let midnight = |days: u64| {
        let day = clock::wall_ms() / 86_400_000 + days + 1;
        dates::http_date(day * 86_400)
    };
    let told = |reply: &Reply, days: u64, id: &str| {
        let expected = format!("expiry-date=\"{}\", rule-id=\"{id}\"", midnight(days));
        assert_eq!(reply.header("x-amz-expiration"), expected);
    };
    told(&world.store("/bucket/k", "v").await, 9000, "all%20of%20it");
    told(&world.head("/bucket/k").send().await, 9000, "all%20of%20it");
    told(&world.get("/bucket/k").send().await, 9000, "all%20of%20it");
    let red = world
        .put("/bucket/red")
        .with("x-amz-tagging", "colour=red")
        .body("v");
    told(&red.send().await, 5000, "red");
    told(&world.get("/bucket/red").send().await, 5000, "red");
    let sealed = world
        .put("/bucket/sealed")
        .with("x-amz-server-side-encryption", "AES256");
    // What counts is the size that clients see, not that of what is stored.
    told(&sealed.body(noise(99)).send().await, 9000, "all%20of%20it");
    told(
        &world.head("/bucket/sealed").send().await,
        9000,
        "all%20of%20it",
    );
    told(
        &world.store("/bucket/large", noise(100)).await,
        4000,
        "large",
    );
    let copy = |from: &'static str| world.put("/bucket/copy").with("x-amz-copy-source", from);
    told(&copy("/bucket/red").send().await, 5000, "red");
    told(&copy("/bucket/large").send().await, 4000, "large");

    let created = world.post("/bucket/mp?uploads").send().await;
    let upload = created.one("UploadId");
    let parts = world
        .get(&format!("/bucket/mp?uploadId={upload}"))
        .send()
        .await;
    for reply in [&created, &parts] {
        assert_eq!(reply.header("x-amz-abort-date"), midnight(2000));
        assert_eq!(reply.header("x-amz-abort-rule-id"), "all%20of%20it");
    }
    let part = world.put(&format!("/bucket/mp?uploadId={upload}&partNumber=1"));
    let etag = part.body(noise(200)).send().await.header("etag").to_owned();
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
    );
    let done = world
        .post(&format!("/bucket/mp?uploadId={upload}"))
        .body(list)
        .send()
        .await;
    told(&done, 4000, "large");

    // Only what the key stands for goes by these days.
    world.versioning("Enabled").await;
    let old = world.head("/bucket/k?versionId=null").send().await;
    told(&old, 9000, "all%20of%20it");
    world.store("/bucket/k", "v2").await;
    let old = world.head("/bucket/k?versionId=null").send().await;
    assert_eq!((old.status, old.header("x-amz-expiration")), (200, ""));
    assert_eq!(
        world
            .store("/plain/k", "v")
            .await
            .header("x-amz-expiration"),
        ""
    );
}

/// Objects go by prefix, tag and size; what no rule is about, and what only a disabled one is about, stays.
#[tokio::test(flavor = "multi_thread")]
async fn objects_go_by_prefix_tag_and_size() {
    let world = World::with_days_of(DAY).await;
    for key in ["old/1", "old/2", "kept/1", "off/1"] {
        world.store(&format!("/bucket/{key}"), "v").await;
    }
    let tagged = |key: &str, tags: &str| {
        world
            .put(&format!("/bucket/{key}"))
            .with("x-amz-tagging", tags)
            .body("v")
            .send()
    };
    tagged("red", "colour=red&a=b").await;
    tagged("blue", "colour=blue").await;
    tagged("both/red", "colour=red&size=s").await;
    tagged("both/blue", "colour=red&size=t").await;
    world.store("/bucket/large", noise(100_000)).await;
    let sealed = world
        .put("/bucket/sealed-edge")
        .with("x-amz-server-side-encryption", "AES256");
    assert_eq!(sealed.body(noise(99_999)).send().await.status, 200);
    world.store("/bucket/tiny/a", "").await;
    world.store("/bucket/tiny/b", "12").await;
    let mut rules = [
        rule("prefix", "<Prefix>old/</Prefix>", &days(1)),
        rule("tag", "<Tag><Key>a</Key><Value>b</Value></Tag>", &days(1)),
        rule("size", "<ObjectSizeGreaterThan>99999</ObjectSizeGreaterThan>", &days(1)),
        rule("and", "<And><Prefix>both/</Prefix><Tag><Key>colour</Key><Value>red</Value></Tag><Tag><Key>size</Key><Value>s</Value></Tag></And>", &days(1)),
        rule("tiny", "<And><Prefix>tiny/</Prefix><ObjectSizeLessThan>2</ObjectSizeLessThan></And>", &days(1)),
        rule("date", "<Prefix>kept</Prefix>", "<Expiration><Date>2100-01-01T00:00:00Z</Date></Expiration>"),
    ]
    .concat();
    rules += &rule("off", "<Prefix>off</Prefix>", &days(1)).replace("Enabled", "Disabled");
    set(&world, &rules).await;
    let kept = [
        "blue",
        "both/blue",
        "kept/1",
        "off/1",
        "sealed-edge",
        "tiny/b",
    ];
    until("what is old is gone", || async {
        keys(&world).await == kept
    })
    .await;
    let aged = world.aged().await;
    assert_eq!((aged.objects, aged.overtaken), (6, 0), "{aged:?}");
    // Two days later the rest is still there.
    clock::sleep(DAY * 3).await;
    assert_eq!(keys(&world).await, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_has_passed_counts_at_once_and_rules_that_went_no_more() {
    let world = World::with_days_of(DAY).await;
    world.store("/bucket/k", "v").await;
    let passed = "<Expiration><Date>2020-01-01T00:00:00Z</Date></Expiration>";
    set(&world, &rule("passed", "", passed)).await;
    until("it is gone", || async { keys(&world).await.is_empty() }).await;
    world.store("/bucket/new", "v").await;
    until("what comes later goes too", || async {
        keys(&world).await.is_empty()
    })
    .await;
    assert_eq!(world.delete("/bucket?lifecycle").send().await.status, 204);
    world.store("/bucket/later", "v").await;
    clock::sleep(DAY * 3).await;
    assert_eq!(keys(&world).await, ["later"]);
}

/// An object of a bucket with versions is hidden, its versions go later, and the marker last of all.
#[tokio::test(flavor = "multi_thread")]
async fn versions_markers_and_what_they_hide_go_one_after_the_other() {
    let world = World::with_days_of(DAY).await;
    world.versioning("Enabled").await;
    for key in ["hidden", "kept", "many", "whole/1"] {
        world.store(&format!("/bucket/{key}"), "1").await;
    }
    for _ in 0..3 {
        world.store("/bucket/many", "n").await;
    }
    assert_eq!(world.delete("/bucket/marked").send().await.status, 204);
    let noncurrent = |days: u32, keep: u32| {
        let keep = match keep {
            0 => String::new(),
            keep => format!("<NewerNoncurrentVersions>{keep}</NewerNoncurrentVersions>"),
        };
        format!(
            "<NoncurrentVersionExpiration>{keep}<NoncurrentDays>{days}</NoncurrentDays></NoncurrentVersionExpiration>"
        )
    };
    let marker =
        "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
    let rules = [
        rule("hide", "<Prefix>hidden</Prefix>", &days(1)),
        rule("many", "<Prefix>many</Prefix>", &noncurrent(1, 2)),
        rule("marked", "<Prefix>marked</Prefix>", marker),
        rule(
            "whole",
            "<Prefix>whole/</Prefix>",
            &(days(1) + &noncurrent(1, 0)),
        ),
    ];
    set(&world, &rules.concat()).await;
    until("a marker hides it", || async {
        versions(&world, "hidden").await == ["DeleteMarker", "Version"]
    })
    .await;
    until("two are kept, and the newest", || async {
        versions(&world, "many").await.len() == 3
    })
    .await;
    until("the lone marker is gone", || async {
        versions(&world, "marked").await.is_empty()
    })
    .await;
    until("nothing is left of it", || async {
        versions(&world, "whole/").await.is_empty()
    })
    .await;
    clock::sleep(DAY * 3).await;
    assert_eq!(versions(&world, "kept").await, ["Version"]);
    assert_eq!(versions(&world, "many").await.len(), 3);
    // One marker, however many days pass.
    assert_eq!(
        versions(&world, "hidden").await,
        ["DeleteMarker", "Version"]
    );
    let aged = world.aged().await;
    assert_eq!(
        (aged.objects, aged.noncurrent, aged.markers),
        (2, 2, 2),
        "{aged:?}"
    );
    let shown = world.get("/bucket/kept").send().await;
    assert_eq!(shown.text(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_nobody_completes_is_aborted() {
    let world = World::with_days_of(DAY).await;
    let create = |key: &str| world.post(&format!("/bucket/{key}?uploads")).send();
    let old = create("old/k").await.one("UploadId");
    let kept = create("kept/k").await.one("UploadId");
    let part = world.put(&format!("/bucket/old/k?uploadId={old}&partNumber=1"));
    assert_eq!(part.body(noise(100_000)).send().await.status, 200);
    let abort = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
    set(&world, &rule("abort", "<Prefix>old/</Prefix>", abort)).await;
    until("it is aborted", || async {
        world.get("/bucket?uploads").send().await.all("UploadId") == [kept.as_str()]
    })
    .await;
    let part = world.put(&format!("/bucket/old/k?uploadId={old}&partNumber=2"));
    part.body("late").send().await.refused(404, "NoSuchUpload");
    assert_eq!(world.aged().await.uploads, 1);
    assert_eq!(
        world
            .delete(&format!("/bucket/kept/k?uploadId={kept}"))
            .send()
            .await
            .status,
        204
    );
    // Nothing holds the bucket.
    assert_eq!(world.delete("/bucket").send().await.status, 204);
}
