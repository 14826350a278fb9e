//! Browser forms: POST Object with a policy.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use minikv::auth::signature_v4::{Scope, SigningKey};
use minikv::object::dates;
use minikv_core::env::clock;

use super::world::*;

const DAY: &str = "2099-01-01T00:00:00.000Z";

/// A form to be sent.
struct Form {
    fields: Vec<(String, String)>,
    file: Vec<u8>,
}

impl Form {
    /// Signed by root for these conditions; the fields of the signature are among them.
    fn signed(conditions: &str, fields: &[(&str, &str)]) -> Form {
        Form::signed_until(DAY, conditions, fields)
    }

    fn signed_until(end: &str, conditions: &str, fields: &[(&str, &str)]) -> Form {
        let amz_date = dates::amz_date(clock::wall_ms() / 1_000);
        let scope = Scope {
            date: amz_date[..8].to_owned(),
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
        };
        let credential = format!("{ACCESS_KEY}/{}", scope.text());
        let policy = format!(
            "{{\"expiration\":\"{end}\",\"conditions\":[{conditions}{{\"bucket\":\"bucket\"}},{{\"x-amz-algorithm\":\"AWS4-HMAC-SHA256\"}},{{\"x-amz-credential\":\"{credential}\"}},{{\"x-amz-date\":\"{amz_date}\"}}]}}"
        );
        let policy = BASE64.encode(policy);
        let signature = SigningKey::derive(SECRET_KEY, &scope).sign_policy(&policy);
        let mut all: Vec<(String, String)> = fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for (name, value) in [
            ("policy", policy.as_str()),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &amz_date),
            ("X-Amz-Signature", signature.as_str()),
        ] {
            all.push((name.to_owned(), value.to_owned()));
        }
        Form {
            fields: all,
            file: b"picture".to_vec(),
        }
    }

    fn file(mut self, file: impl Into<Vec<u8>>) -> Form {
        self.file = file.into();
        self
    }

    fn set(mut self, name: &str, value: &str) -> Form {
        self.fields.retain(|(there, _)| there != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Form {
        self.fields.retain(|(there, _)| there != name);
        self
    }

    async fn post(self, world: &World) -> Reply {
        self.post_to(world, "/bucket").await
    }

    async fn post_to(self, world: &World, uri: &str) -> Reply {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            body.extend_from_slice(
                format!(
                    "--X\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
                )
                .as_bytes(),
            );
        }
        body.extend_from_slice(b"--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\cat.png\"\r\nContent-Type: image/png\r\n\r\n");
        body.extend_from_slice(&self.file);
        body.extend_from_slice(b"\r\n--X--\r\n");
        world
            .post(uri)
            .with("content-type", "multipart/form-data; boundary=X")
            .pieces(body, 10_000)
            .payload(Payload::Anonymous)
            .send()
            .await
    }
}

const KEY: &str = "[\"starts-with\",\"$key\",\"up/\"],";

/// A page that holds a signed policy lets its visitors upload, with what the policy allows, and the object is as put.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_with_a_policy_becomes_an_object() {
    let world = World::with_bucket().await;
    let conditions = format!(
        "{KEY}[\"starts-with\",\"$Content-Type\",\"image/\"],{{\"x-amz-meta-a\":\"b\"}},[\"content-length-range\",1,9000000],"
    );
    let file = noise(3 << 20);
    let fields = [
        ("key", "up/${filename}"),
        ("Content-Type", "image/png"),
        ("x-amz-meta-a", "b"),
        ("x-ignore-this", "x"),
    ];
    let reply = Form::signed(&conditions, &fields)
        .file(file.clone())
        .post(&world)
        .await;
    assert_eq!(
        (reply.status, reply.body.len(), reply.api),
        (204, 0, "PostObject"),
        "{}",
        reply.text()
    );
    assert_eq!(reply.header("etag"), format!("\"{}\"", md5_hex(&file)));
    assert_eq!(
        reply.header("location"),
        "http://127.0.0.1:9000/bucket/up/cat.png"
    );
    let got = world.get("/bucket/up/cat.png").send().await;
    assert_eq!(
        (
            got.body,
            got.headers["content-type"].as_bytes(),
            got.headers["x-amz-meta-a"].as_bytes()
        ),
        (file, b"image/png".as_slice(), b"b".as_slice())
    );
    world.stop().await;
}

/// The page says what its visitor sees afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_says_how_it_wants_to_be_answered() {
    let world = World::with_bucket().await;
    let status = |status: &'static str| {
        Form::signed(
            &format!("{KEY}[\"starts-with\",\"$success_action_status\",\"\"],"),
            &[("key", "up/a&b"), ("success_action_status", status)],
        )
    };
    let created = status("201").post(&world).await;
    assert_eq!(created.status, 201);
    assert_eq!(
        (
            created.one("Bucket"),
            created.one("Key"),
            created.one("ETag")
        ),
        (
            "bucket".into(),
            "up/a&b".into(),
            format!("\"{}\"", md5_hex(b"picture"))
        )
    );
    assert_eq!(
        created.one("Location"),
        "http://127.0.0.1:9000/bucket/up/a%26b"
    );
    assert_eq!(status("200").post(&world).await.status, 200);
    assert_eq!(status("404").post(&world).await.status, 204);
    let redirect = Form::signed(
        &format!("{KEY}[\"starts-with\",\"$success_action_redirect\",\"\"],"),
        &[
            ("key", "up/c"),
            ("success_action_redirect", "https://page.test/done?x=1"),
        ],
    );
    let seen = redirect.post(&world).await;
    assert_eq!(seen.status, 303);
    assert_eq!(
        seen.header("location"),
        format!(
            "https://page.test/done?x=1&bucket=bucket&key=up%2Fc&etag=%22{}%22",
            md5_hex(b"picture")
        )
    );
    world.stop().await;
}

/// What the policy's signer did not allow is refused, and leaves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_its_policy_does_not_allow_is_refused() {
    let world = World::with_bucket().await;
    let range = format!("{KEY}[\"content-length-range\",5,10],");
    let form = |conditions: &str| Form::signed(conditions, &[("key", "up/k")]);
    form(KEY)
        .set("key", "elsewhere")
        .post(&world)
        .await
        .refused(403, "AccessDenied");
    form(KEY)
        .set("x-amz-meta-extra", "1")
        .post(&world)
        .await
        .refused(403, "AccessDenied");
    form(KEY)
        .set("Content-Type", "text/html")
        .post(&world)
        .await
        .refused(403, "AccessDenied");
    form(&format!("{KEY}{{\"x-amz-meta-a\":\"b\"}},"))
        .post(&world)
        .await
        .refused(403, "AccessDenied");
    Form::signed_until("2026-01-01T00:00:00Z", KEY, &[("key", "up/k")])
        .post(&world)
        .await
        .refused(403, "AccessDenied");
    form(&range)
        .file(b"1234".as_slice())
        .post(&world)
        .await
        .refused(400, "EntityTooSmall");
    form(&range)
        .file(noise(200_000).to_vec())
        .post(&world)
        .await
        .refused(400, "EntityTooLarge");
    form(&format!("{KEY}[\"content-length-range\",5],"))
        .post(&world)
        .await
        .refused(400, "InvalidPolicyDocument");
    form(KEY)
        .without("key")
        .post(&world)
        .await
        .refused(400, "InvalidArgument");
    form(KEY)
        .without("policy")
        .post(&world)
        .await
        .refused(403, "AccessDenied");
    form(KEY)
        .without("X-Amz-Signature")
        .post(&world)
        .await
        .refused(400, "InvalidArgument");
    form(KEY)
        .without("X-Amz-Date")
        .post(&world)
        .await
        .refused(400, "InvalidArgument");
    form(KEY)
        .set("X-Amz-Signature", &"0".repeat(64))
        .post(&world)
        .await
        .refused(403, "SignatureDoesNotMatch");
    form(KEY)
        .set("AWSAccessKeyId", ACCESS_KEY)
        .post(&world)
        .await
        .refused(400, "InvalidRequest");
    form(KEY)
        .set(
            "X-Amz-Credential",
            "NOBODY/20260101/us-east-1/s3/aws4_request",
        )
        .post(&world)
        .await
        .refused(400, "InvalidArgument");
    form(KEY)
        .post_to(&world, "/other-bucket")
        .await
        .refused(403, "AccessDenied");
    form(KEY)
        .post_to(&world, "/bucket/key")
        .await
        .refused(405, "MethodNotAllowed");
    let sum = |value: &str| {
        Form::signed(
            &format!("{KEY}[\"starts-with\",\"$x-amz-checksum-crc32\",\"\"],"),
            &[("key", "up/k"), ("x-amz-checksum-crc32", value)],
        )
    };
    sum("AAAAAA==").post(&world).await.refused(400, "BadDigest");
    let acl = Form::signed(
        &format!("{KEY}{{\"acl\":\"public-read\"}},"),
        &[("key", "up/k"), ("acl", "public-read")],
    );
    acl.post(&world).await.refused(501, "NotImplemented");
    world.expect_absent("/bucket/up/k").await;
    let right = checksum(minikv::object::checksum::Algorithm::Crc32, b"picture");
    assert_eq!(sum(&right).post(&world).await.status, 204);
    world.stop().await;
}

/// A body that is no form, and one that breaks off.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_breaks_off_leaves_nothing() {
    let world = World::with_bucket().await;
    let post = |kind: &str, body: &[u8]| {
        world
            .post("/bucket")
            .with("content-type", kind)
            .body(body.to_vec())
            .payload(Payload::Anonymous)
    };
    post("multipart/form-data", b"x")
        .send()
        .await
        .refused(400, "MalformedPOSTRequest");
    post("Multipart/Form-Data; boundary=X", b"no form")
        .send()
        .await
        .refused(400, "MalformedPOSTRequest");
    post("multipart/form-data; boundary=X", b"--X--")
        .send()
        .await
        .refused(400, "InvalidArgument");
    let long = format!(
        "--X\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\n{}",
        "k".repeat(30_000)
    );
    post("multipart/form-data; boundary=X", long.as_bytes())
        .send()
        .await
        .refused(400, "MaxPostPreDataLengthExceededError");
    world.stop().await;
}

/// The page's signer says how long what its visitors upload is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_can_have_its_object_locked() {
    let world = World::with_bucket().await;
    let md5 = crate::world::md5_base64(b"picture");
    let date = "2099-01-01T00:00:00.000Z";
    let fields = [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-retain-until-date", date),
        ("content-md5", md5.as_str()),
    ];
    let allowed: String = fields
        .iter()
        .map(|(name, value)| format!("{{\"{name}\":\"{value}\"}},"))
        .collect();
    let mut all = vec![("key", "up/k")];
    all.extend(fields);
    let form = Form::signed(&format!("{KEY}{allowed}"), &all);
    form.post(&world).await.refused(400, "InvalidRequest");
    world.expect_absent("/bucket/up/k").await;
    world.versioning("Enabled").await;
    let enable = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled></ObjectLockConfiguration>";
    let enabled = world.put("/bucket?object-lock").body(enable).send().await;
    assert_eq!(enabled.status, 200, "{}", enabled.text());
    let reply = Form::signed(&format!("{KEY}{allowed}"), &all)
        .post(&world)
        .await;
    assert_eq!(reply.status, 204, "{}", reply.text());
    let head = world.head("/bucket/up/k").send().await;
    assert_eq!(head.header("x-amz-object-lock-mode"), "GOVERNANCE");
    assert_eq!(head.header("x-amz-object-lock-retain-until-date"), date);
    world.stop().await;
}

/// The tags of a form are the object's; tags that S3 would not take are refused, and nothing is stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_form_may_tag_its_object() {
    let world = World::with_bucket().await;
    let conditions = format!("{KEY}[\"starts-with\",\"$tagging\",\"\"],");
    let form = |tagging: &str| Form::signed(&conditions, &[("key", "up/a"), ("tagging", tagging)]);
    for (bad, code) in [
        ("<Tagging><TagSet><Tag><Key>k</Key>", "MalformedXML"),
        ("k=v", "MalformedXML"),
        (
            "<Tagging><TagSet><Tag><Key>aws:k</Key><Value>v</Value></Tag></TagSet></Tagging>",
            "InvalidTag",
        ),
        (
            "<Tagging><TagSet><Tag><Key>k</Key><Value>1</Value></Tag><Tag><Key>k</Key><Value>2</Value></Tag></TagSet></Tagging>",
            "InvalidTag",
        ),
    ] {
        form(bad).post(&world).await.refused(400, code);
        world.expect_absent("/bucket/up/a").await;
    }
    let tagging = "<Tagging><TagSet><Tag><Key>one + two</Key><Value>a+b=c/ä</Value></Tag><Tag><Key>x</Key><Value></Value></Tag></TagSet></Tagging>";
    assert_eq!(form(tagging).post(&world).await.status, 204);
    let tags = world.get("/bucket/up/a?tagging").send().await;
    assert_eq!(
        (tags.all("Key"), tags.all("Value")),
        (
            vec!["one + two".to_owned(), "x".to_owned()],
            vec!["a+b=c/ä".to_owned(), String::new()]
        )
    );
    assert_eq!(form(" ").post(&world).await.status, 204);
    assert!(
        world
            .get("/bucket/up/a?tagging")
            .send()
            .await
            .all("Key")
            .is_empty()
    );
    world.stop().await;
}
