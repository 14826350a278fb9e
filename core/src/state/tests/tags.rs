//! Tags change while the version stays what it is.

use bytes::Bytes;
use minikv_proto::entry as wire;

use super::world::{World, keys_of_one_vshard};
use crate::ids::{BucketId, VShard};
use crate::kv::{Refusal, VersionSelector, Versioning};
use crate::state::answer::{Answer, Done};
use crate::state::entry::Body;

fn tag(w: &World, b: BucketId, key: &str, version: Option<u64>, tags: &str) -> Body {
    Body::SetTags(wire::SetTags {
        target: w.target(b, key),
        version: version.map(wire::set_tags::Version::Seq),
        tags: Bytes::copy_from_slice(tags.as_bytes()),
    })
}

#[test]
fn tagging_changes_nothing_but_the_tags() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    w.put(b, "k", "v1");
    let before = w.get(b, "k").unwrap();
    match w.done(tag(&w, b, "k", None, "red")) {
        Done::Written(written) => assert_eq!(
            (written.id, written.modified_ms),
            (before.id, before.modified_ms)
        ),
        other => panic!("{other:?}"),
    }
    let mut after = w.get(b, "k").unwrap();
    assert_eq!(after.new.tags, "red");
    after.new.tags = Bytes::new();
    assert_eq!(after, before);
    w.check();
    w.put(b, "k", "v2");
    assert_eq!(w.get(b, "k").unwrap().new.tags, "", "another version");
    w.check();
}

/// The one that is newest when the entry is applied is tagged, or the very one that is named.
#[test]
fn each_version_has_its_own_tags() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let vshard = VShard::of(b, b"k");
    w.put(b, "k", "v1");
    let first = w.get(b, "k").unwrap().id;
    w.put(b, "k", "v2");
    let second = w.get(b, "k").unwrap().id;
    w.done(tag(&w, b, "k", first.open(vshard), "old"));
    w.done(tag(&w, b, "k", None, "new"));
    let tags = |w: &World, id| w.find(b, "k", VersionSelector::Id(id)).unwrap().new.tags;
    assert_eq!(tags(&w, first), "old");
    assert_eq!(tags(&w, second), "new");
    w.done(tag(&w, b, "k", first.open(vshard), ""));
    assert_eq!(tags(&w, first), "");
    w.check();
}

#[test]
fn nothing_and_a_marker_have_no_tags() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let refused = |w: &mut World, body, refusal| {
        assert_eq!(w.answer(body), Answer::Refused(refusal));
    };
    let body = tag(&w, b, "k", None, "t");
    refused(&mut w, body, Refusal::NoSuchKey);
    w.put(b, "k", "v1");
    let body = tag(&w, b, "k", Some(4_711), "t");
    refused(&mut w, body, Refusal::NoSuchVersion);
    w.delete(b, "k");
    let body = tag(&w, b, "k", None, "t");
    refused(&mut w, body, Refusal::NoSuchVersion);
    w.check();
}

/// Bytes that two versions share are counted; tags belong to one of them.
#[test]
fn a_copy_and_its_source_are_tagged_apart() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let keys = keys_of_one_vshard(b, 2);
    w.put(b, &keys[0], "bytes");
    let source = w.get(b, &keys[0]).unwrap();
    w.done(Body::Copy(wire::Copy {
        target: w.target(b, &keys[1]),
        conditions: None,
        version: super::world::described("bytes"),
        source_bucket: b.0,
        source_epoch: w.epoch(b),
        source_key: source.key.clone(),
        source_seq: source.id.open(VShard::of(b, &source.key)).unwrap(),
    }));
    w.done(tag(&w, b, &keys[0], None, "source"));
    assert_eq!(w.get(b, &keys[1]).unwrap().new.tags, "");
    assert_eq!(w.get(b, &keys[0]).unwrap().new.tags, "source");
    w.check();
}
