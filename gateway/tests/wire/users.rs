//! Users beside root: what is theirs, and what is not.

use minikv::auth::principal::Principal;

use super::world::*;

/// Two users of one tenant, and one of another.
async fn add_users(world: &World) {
    for (key, tenant, id) in [
        ("ALICE", "one", "alice"),
        ("BOB", "one", "bob"),
        ("CAROL", "other", "carol"),
    ] {
        let tenant = world.tenant(tenant).await;
        world
            .keys
            .put(key, "a-users-secret", Principal::user(key, tenant, id));
        world.keys.name(id, &format!("{id} by name"));
    }
}

const ALICE: (&str, &str) = ("ALICE", "a-users-secret");
const BOB: (&str, &str) = ("BOB", "a-users-secret");
const CAROL: (&str, &str) = ("CAROL", "a-users-secret");

/// A user's bucket is closed to the others, to those of its tenant too; root may do everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_users_bucket_is_closed_to_the_others() {
    let world = World::with_bucket().await;
    add_users(&world).await;
    assert_eq!(world.put("/alices").by(ALICE).send().await.status, 200);
    assert_eq!(
        world
            .put("/alices/k")
            .body("hi")
            .by(ALICE)
            .send()
            .await
            .status,
        200
    );
    for who in [BOB, CAROL] {
        world
            .get("/alices/k")
            .by(who)
            .send()
            .await
            .refused(403, "AccessDenied");
        world
            .get("/alices")
            .by(who)
            .send()
            .await
            .refused(403, "AccessDenied");
        world
            .put("/alices/x")
            .body("no")
            .by(who)
            .send()
            .await
            .refused(403, "AccessDenied");
        world
            .delete("/alices/k")
            .by(who)
            .send()
            .await
            .refused(403, "AccessDenied");
        world
            .delete("/alices")
            .by(who)
            .send()
            .await
            .refused(403, "AccessDenied");
        world
            .get("/bucket")
            .by(who)
            .send()
            .await
            .refused(403, "AccessDenied");
        world
            .put("/alices")
            .by(who)
            .send()
            .await
            .refused(409, "BucketAlreadyExists");
        let copy = world
            .put("/alices/c")
            .with("x-amz-copy-source", "/bucket/k")
            .by(who);
        copy.send().await.refused(403, "AccessDenied");
    }
    world
        .put("/alices")
        .by(ALICE)
        .send()
        .await
        .refused(409, "BucketAlreadyOwnedByYou");
    assert_eq!(world.get("/alices/k").send().await.status, 200, "root");
    world
        .get("/alices/k")
        .by(("ALICE", "another-secret"))
        .send()
        .await
        .refused(403, "SignatureDoesNotMatch");
    world.stop().await;
}

/// Each sees its own buckets, and stands in answers as their owner.
#[tokio::test(flavor = "multi_thread")]
async fn each_user_sees_its_own_and_is_named_as_owner() {
    let world = World::with_bucket().await;
    add_users(&world).await;
    for (bucket, who) in [("/of-alice", ALICE), ("/of-bob", BOB), ("/of-carol", CAROL)] {
        assert_eq!(world.put(bucket).by(who).send().await.status, 200);
    }
    let buckets = |reply: Reply| reply.all("Name");
    assert_eq!(buckets(world.get("/").by(ALICE).send().await), ["of-alice"]);
    assert_eq!(buckets(world.get("/").by(BOB).send().await), ["of-bob"]);
    assert_eq!(
        buckets(world.get("/").send().await),
        ["bucket"],
        "root sees its own tenant"
    );
    let listed = world.get("/").by(ALICE).send().await;
    assert_eq!(
        (listed.one("ID"), listed.one("DisplayName")),
        ("alice".into(), "alice by name".into())
    );
    assert_eq!(
        world
            .put("/of-alice/k")
            .body("x")
            .by(ALICE)
            .send()
            .await
            .status,
        200
    );
    assert_eq!(
        world.put("/of-alice/of-root").body("x").send().await.status,
        200
    );
    let owners = world
        .get("/of-alice?list-type=2&fetch-owner=true")
        .by(ALICE)
        .send()
        .await
        .all("ID");
    assert_eq!(owners[0], "alice");
    assert_eq!(owners[1], format!("{:064x}", 1), "root's object is root's");
    let acl = world.get("/of-alice?acl").by(ALICE).send().await;
    assert_eq!(acl.one("DisplayName"), "alice by name");
    world.stop().await;
}
