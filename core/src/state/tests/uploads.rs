//! Multipart: counters, races of Complete, and how whole uploads go.

use minikv_proto::entry as wire;

use super::world::*;
use crate::ids::{UploadId, VShard};
use crate::kv::{Refusal, UploadsItem, UploadsRequest, Versioning};
use crate::state::answer::{Answer, TryAgain};
use crate::state::entry::Body;
use crate::state::record::Content;
use crate::state::{list_uploads, read};

#[test]
fn complete_is_repeatable_and_its_rows_never_change_again() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let id = w.create_upload(b, "big");
    w.staged_part(b, "big", id, 1, 3000);
    w.part(b, "big", id, 7, "end");
    let counter = w.staged_part(b, "big", id, 3, 2000);
    w.check();
    let first = w.complete(b, "big", id, counter, &[(1, 1), (3, 3), (7, 7)], 5003);
    w.check();
    assert_eq!(
        w.complete(b, "big", id, 99, &[(1, 1)], 1),
        first,
        "asked again, the same answer"
    );
    let object = w.get(b, "big").unwrap();
    assert_eq!(
        (object.parts, object.new.size, object.id),
        (3, 5003, first.written.id)
    );
    let Content::Upload { upload, parts } = object.content else {
        panic!()
    };
    assert_eq!(upload, id);
    let vshard = VShard::of(b, b"big");
    let pieces = read::part_contents(&w.rows, vshard, id, &parts, &(2999..3001)).unwrap();
    let found: Vec<_> = pieces
        .iter()
        .map(|p| (p.number, p.offset, p.size))
        .collect();
    assert_eq!(found, [(1, 0, 3000), (3, 3000, 2000)]);
    assert_eq!(
        read::part_contents(&w.rows, vshard, id, &parts, &(5000..5003))
            .unwrap()
            .len(),
        1
    );

    let late = w.part_body(b, "big", id, 2, "late");
    assert_eq!(
        w.propose(late, b"late"),
        Answer::Refused(Refusal::NoSuchUpload)
    );
    assert_eq!(
        w.answer(w.abort_body(b, "big", id)),
        Answer::Refused(Refusal::NoSuchUpload)
    );
    assert_eq!(w.complete(b, "big", id, counter, &[(1, 1)], 1), first);
    w.check();
}

#[test]
fn a_part_that_comes_after_the_plan_makes_complete_try_again() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let id = w.create_upload(b, "k");
    let counter = w.part(b, "k", id, 1, "old");
    w.part(b, "k", id, 1, "newer");
    let stale = w.complete_body(b, "k", id, counter, &[(1, 1)], 3);
    assert_eq!(w.answer(stale), Answer::TryAgain(TryAgain::PartsChanged));
    w.complete(b, "k", id, counter + 1, &[(1, 1)], 5);
    w.check();
    w.release_all();
    assert_eq!(w.bytes_held(), (1, 0), "the replaced part is gone");
    w.check();
}

/// Quota follows in further entries, and ends where a recount ends.
#[test]
fn a_whole_upload_goes_as_one_item() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let id = w.create_upload(b, "k");
    for number in 1..=700 {
        if number % 3 == 0 {
            w.staged_part(b, "k", id, number, 1500);
        } else {
            w.part(b, "k", id, number, "x");
        }
    }
    let abort = w.abort_body(b, "k", id);
    w.answer(abort);
    w.check();
    assert!(
        read::bucket_usage(&w.rows, b).unwrap().bytes > 0,
        "its parts are still there"
    );
    assert_eq!(read::upload(&w.rows, b, &"k".into(), id).unwrap(), None);
    let mut steps = 0;
    while w.done(Body::AdvanceFree(wire::AdvanceFree {})) == crate::state::answer::Done::More(true)
    {
        steps += 1;
        w.check();
    }
    assert!(steps > 3, "{steps} entries");
    assert_eq!(read::bucket_usage(&w.rows, b).unwrap(), Default::default());
    w.release_all();
    assert_eq!(w.bytes_held(), (0, 0));
    w.check();
}

#[test]
fn parts_that_complete_did_not_list_are_freed() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let id = w.create_upload(b, "k");
    let mut counter = 0;
    for number in 1..=400 {
        counter = w.part(b, "k", id, number, "abc");
    }
    w.complete(b, "k", id, counter, &[(2, 3), (400, 400)], 9);
    w.check();
    // The object is deleted before its unlisted parts were moved.
    let mut other = w.clone();
    w.release_all();
    w.check();
    assert_eq!(w.bytes_held().0, 3);
    assert_eq!(read::bucket_usage(&w.rows, b).unwrap().bytes, 9);
    w.delete(b, "k");
    w.check();
    w.release_all();
    assert_eq!(w.bytes_held(), (0, 0));
    other.delete(b, "k");
    other.check();
    other.release_all();
    assert_eq!(other.bytes_held(), (0, 0));
    other.check();
    assert!(
        read::upload(&other.rows, b, &"k".into(), id)
            .unwrap()
            .is_none()
    );
}

#[test]
fn uploads_expire_by_their_age_only() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let old = w.create_upload(b, "k");
    w.part(b, "k", old, 1, "x");
    let limit = w.now_ms;
    let young = w.create_upload(b, "k");
    let at = |id: UploadId| wire::UploadAt {
        vshard: u32::from(VShard::of(b, b"k").0),
        upload: name_of(id),
    };
    let uploads = vec![at(old), at(young)];
    w.done(Body::ExpireUploads(wire::ExpireUploads {
        uploads,
        created_before_ms: limit,
    }));
    assert!(
        read::upload(&w.rows, b, &"k".into(), old)
            .unwrap()
            .is_none()
    );
    assert!(
        read::upload(&w.rows, b, &"k".into(), young)
            .unwrap()
            .is_some()
    );
    w.release_all();
    w.check();
}

#[test]
fn uploads_are_listed_by_key_and_then_by_age() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let mut ids = Vec::new();
    for key in ["b/1", "a", "b/2", "a", "c", "b/1", "a"] {
        ids.push((key, w.create_upload(b, key)));
    }
    let all: Vec<VShard> = (0..=255).map(VShard).collect();
    let list = |w: &World, request: &UploadsRequest| {
        let mut request = request.clone();
        let mut lines = Vec::new();
        loop {
            let page = list_uploads::page(&w.rows, &all, b, &request).unwrap();
            assert!(page.items.len() <= request.max as usize);
            for item in &page.items {
                (request.after, request.after_upload) = match item {
                    UploadsItem::Upload(upload) => {
                        let nth = ids.iter().position(|(_, id)| *id == upload.id).unwrap();
                        lines.push(format!(
                            "{} {nth}",
                            std::str::from_utf8(&upload.key).unwrap()
                        ));
                        (upload.key.clone(), Some(upload.id))
                    }
                    UploadsItem::Prefix(prefix) => {
                        lines.push(String::from_utf8(prefix.to_vec()).unwrap());
                        (prefix.clone(), None)
                    }
                };
            }
            if !page.truncated {
                return lines;
            }
        }
    };
    for max in 1..8 {
        let flat = UploadsRequest {
            max,
            ..Default::default()
        };
        assert_eq!(
            list(&w, &flat),
            ["a 1", "a 3", "a 6", "b/1 0", "b/1 5", "b/2 2", "c 4"]
        );
        let rolled = UploadsRequest {
            max,
            delimiter: "/".into(),
            ..Default::default()
        };
        assert_eq!(list(&w, &rolled), ["a 1", "a 3", "a 6", "b/", "c 4"]);
        let below = UploadsRequest {
            max,
            prefix: "b/".into(),
            ..Default::default()
        };
        assert_eq!(list(&w, &below), ["b/1 0", "b/1 5", "b/2 2"]);
    }
    let after_key = UploadsRequest {
        max: 9,
        after: "a".into(),
        ..Default::default()
    };
    assert_eq!(list(&w, &after_key).len(), 4);
    w.check();
}

#[test]
fn parts_are_read_in_pages() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let id = w.create_upload(b, "k");
    for number in [5, 2, 9, 10_000] {
        w.part(b, "k", id, number, "x");
    }
    let key = "k".into();
    let page = read::parts(&w.rows, b, &key, id, 0, 2).unwrap().unwrap();
    assert_eq!(
        page.parts.iter().map(|p| p.number).collect::<Vec<_>>(),
        [2, 5]
    );
    assert!(page.truncated && page.counter == 4);
    let page = read::parts(&w.rows, b, &key, id, 5, 2).unwrap().unwrap();
    assert_eq!(
        page.parts.iter().map(|p| p.number).collect::<Vec<_>>(),
        [9, 10_000]
    );
    assert!(!page.truncated);
    assert_eq!(
        w.propose(w.part_body(b, "k", id, 10_001, "x"), b"x"),
        Answer::Refused(Refusal::InvalidPart(10_001))
    );
    assert_eq!(
        w.propose(w.part_body(b, "k", id, 0, "x"), b"x"),
        Answer::Refused(Refusal::InvalidPart(0))
    );
    let elsewhere = read::parts(&w.rows, b, &"other".into(), id, 0, 2).unwrap();
    assert!(elsewhere.is_none(), "another key's upload");
}
