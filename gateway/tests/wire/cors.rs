//! Pages of other origins.

use http::Method;

use crate::world::{Call, Payload, World};

const RULES: &str = "<CORSConfiguration>\
    <CORSRule><ID>app</ID><AllowedOrigin>https://*.app.test</AllowedOrigin><AllowedMethod>GET</AllowedMethod><AllowedMethod>PUT</AllowedMethod>\
    <AllowedHeader>x-amz-*</AllowedHeader><AllowedHeader>Content-Type</AllowedHeader><ExposeHeader>ETag</ExposeHeader><MaxAgeSeconds>600</MaxAgeSeconds></CORSRule>\
    <CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>";

/// A browser's question. It is not signed.
fn ask<'a>(world: &'a World, uri: &str, origin: &str, method: &str) -> Call<'a> {
    world
        .request(Method::OPTIONS, uri)
        .payload(Payload::Anonymous)
        .with("origin", origin)
        .with("access-control-request-method", method)
}

async fn with_rules() -> World {
    let world = World::with_bucket().await;
    let put = world.put("/bucket?cors").body(RULES).send().await;
    assert_eq!(put.status, 200, "{}", put.text());
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_hears_what_the_rules_allow() {
    let world = with_rules().await;
    let yes = ask(&world, "/bucket/key", "https://a.app.test", "PUT")
        .with("access-control-request-headers", "X-Amz-Date, content-type")
        .send()
        .await;
    assert_eq!((yes.status, yes.body.len()), (200, 0));
    for (name, value) in [
        ("access-control-allow-origin", "https://a.app.test"),
        ("access-control-allow-methods", "GET, PUT"),
        ("access-control-allow-headers", "x-amz-date, content-type"),
        ("access-control-expose-headers", "ETag"),
        ("access-control-max-age", "600"),
        ("access-control-allow-credentials", "true"),
    ] {
        assert_eq!(yes.header(name), value, "{name}");
    }
    assert!(yes.header("vary").contains("Origin"));
    let anybody = ask(&world, "/bucket/key", "http://else.test", "GET")
        .send()
        .await;
    assert_eq!(
        (
            anybody.status,
            anybody.header("access-control-allow-origin"),
            anybody.header("access-control-allow-credentials")
        ),
        (200, "*", "")
    );
    let in_host = ask(&world, "/key", "http://else.test", "GET").with("host", "bucket.s3.test");
    assert_eq!(in_host.send().await.status, 200);
    for no in [
        ask(&world, "/bucket/key", "http://else.test", "PUT"),
        ask(&world, "/bucket/key", "https://a.app.test", "DELETE"),
        ask(&world, "/bucket/key", "https://a.app.test", "PUT")
            .with("access-control-request-headers", "authorization"),
    ] {
        let no = no.send().await;
        no.refused(403, "AccessForbidden");
        assert_eq!(no.header("access-control-allow-origin"), "");
    }
    ask(&world, "/nowhere/key", "http://else.test", "GET")
        .send()
        .await
        .refused(404, "NoSuchBucket");
    ask(&world, "/bucket/key", "http://else.test", "PATCH")
        .send()
        .await
        .refused(400, "BadRequest");
    world.stop().await;
}

/// Refusals, too: a page could not tell its user why otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_to_a_page_says_that_it_may_read_it() {
    let world = with_rules().await;
    let origin = "https://a.app.test";
    let put = world
        .put("/bucket/key")
        .with("origin", origin)
        .body("x")
        .send()
        .await;
    assert_eq!(
        (put.status, put.header("access-control-allow-origin")),
        (200, origin)
    );
    assert_eq!(put.header("access-control-expose-headers"), "ETag");
    let missing = world
        .get("/bucket/none")
        .with("origin", origin)
        .send()
        .await;
    missing.refused(404, "NoSuchKey");
    assert_eq!(missing.header("access-control-allow-origin"), origin);
    let denied = world
        .get("/bucket/key")
        .payload(Payload::Anonymous)
        .with("origin", origin)
        .send()
        .await;
    denied.refused(403, "AccessDenied");
    assert_eq!(denied.header("access-control-allow-origin"), origin);
    // No rule for it: the request is done as before, the browser keeps its answer from the page.
    let deleted = world
        .delete("/bucket/key")
        .with("origin", origin)
        .send()
        .await;
    assert_eq!(
        (
            deleted.status,
            deleted.header("access-control-allow-origin")
        ),
        (204, "")
    );
    let not_a_page = world.get("/bucket?cors").send().await;
    assert_eq!(not_a_page.header("access-control-allow-origin"), "");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_kept_replaced_and_taken_away() {
    let world = with_rules().await;
    let rules = world.get("/bucket?cors").send().await;
    assert_eq!(rules.all("AllowedOrigin"), ["https://*.app.test", "*"]);
    assert_eq!(rules.all("AllowedMethod"), ["GET", "PUT", "GET"]);
    assert_eq!(
        (rules.one("ID"), rules.one("MaxAgeSeconds")),
        ("app".to_owned(), "600".to_owned())
    );
    let rule = |inner: &str| {
        let xml = format!("<CORSConfiguration><CORSRule>{inner}</CORSRule></CORSConfiguration>");
        world.put("/bucket?cors").body(xml).send()
    };
    for (inner, code) in [
        ("", "MalformedXML"),
        ("<AllowedOrigin>*</AllowedOrigin>", "MalformedXML"),
        (
            "<AllowedOrigin>*</AllowedOrigin><AllowedMethod>PATCH</AllowedMethod>",
            "InvalidRequest",
        ),
        (
            "<AllowedOrigin>*.*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>",
            "InvalidRequest",
        ),
    ] {
        rule(inner).await.refused(400, code);
    }
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    assert_eq!(
        world.put("/bucket?tagging").body(tags).send().await.status,
        204
    );
    let one = rule("<AllowedOrigin>*</AllowedOrigin><AllowedMethod>HEAD</AllowedMethod>").await;
    assert_eq!(one.status, 200, "{}", one.text());
    assert_eq!(
        world.get("/bucket?cors").send().await.all("AllowedMethod"),
        ["HEAD"]
    );
    assert_eq!(world.delete("/bucket?cors").send().await.status, 204);
    world
        .get("/bucket?cors")
        .send()
        .await
        .refused(404, "NoSuchCORSConfiguration");
    assert_eq!(
        world.get("/bucket?tagging").send().await.all("Key"),
        ["a"],
        "another setting stays"
    );
    ask(&world, "/bucket/key", "http://else.test", "GET")
        .send()
        .await
        .refused(403, "AccessForbidden");
    world.stop().await;
}
