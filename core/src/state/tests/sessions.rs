//! Retries: what is delivered twice happens once.

use minikv_proto::entry as wire;

use super::world::*;
use crate::kv::{Conditions, Refusal, Versioning};
use crate::state::answer::{Answer, Done, TryAgain};
use crate::state::entry::Body;
use crate::state::session::WINDOW;
use crate::state::{keys, read};

#[test]
fn a_second_delivery_gets_the_first_ones_answer() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Enabled);
    let s = w.open_session();
    let body = w.put_body(b, "k", "one", &Conditions::default());
    let first = w.command(s, 1, 1, body.clone(), b"one");
    assert!(matches!(first, Answer::Done(Done::Written(_))));
    let before = w.rows.clone();
    assert_eq!(w.command(s, 1, 1, body.clone(), b"one"), first);
    assert!(w.rows == before);
    w.check();
    // A refusal is kept as well.
    let create = Conditions {
        if_none_match: Some(vec!["*".into()]),
        ..Conditions::default()
    };
    let refused = w.put_body(b, "k", "two", &create);
    assert_eq!(
        w.command(s, 2, 1, refused.clone(), b"two"),
        Answer::Refused(Refusal::PreconditionFailed)
    );
    w.delete(b, "k");
    assert_eq!(
        w.command(s, 2, 1, refused, b"two"),
        Answer::Refused(Refusal::PreconditionFailed)
    );
    w.check();
}

#[test]
fn what_comes_for_a_closed_sequence_or_an_unknown_session_changes_nothing() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let s = w.open_session();
    let body = w.put_body(b, "k", "x", &Conditions::default());
    w.command(s, 5, 5, body.clone(), b"x");
    let before = w.rows.clone();
    let gone = Answer::TryAgain(TryAgain::SessionGone);
    assert_eq!(
        w.command(s, 4, 4, body.clone(), b"x"),
        gone,
        "closed, though it never came"
    );
    assert_eq!(w.command(s + 100, 1, 1, body.clone(), b"x"), gone);
    assert_eq!(w.command(s, 0, 0, body, b"x"), gone, "sequences begin at 1");
    assert!(w.rows == before);
    w.check();
}

#[test]
fn an_answer_to_try_again_is_not_kept() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let s = w.open_session();
    let early = w.put_body(b, "k", "x", &Conditions::default());
    w.bucket(1, Versioning::Enabled);
    assert_eq!(
        w.command(s, 1, 1, early, b"x"),
        Answer::TryAgain(TryAgain::StaleEpoch(2))
    );
    let anew = w.put_body(b, "k", "x", &Conditions::default());
    assert!(matches!(w.command(s, 1, 1, anew, b"x"), Answer::Done(_)));
    w.check();
}

#[test]
fn results_are_kept_for_open_sequences_only() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let s = w.open_session();
    for sequence in 1..=500u64 {
        let body = w.put_body(b, "k", "x", &Conditions::default());
        w.command(s, sequence, sequence.saturating_sub(10).max(1), body, b"x");
    }
    let range = keys::results(s);
    let kept = w.rows.0.range(range.from..range.to).count();
    assert_eq!(kept, 11);
    let body = w.put_body(b, "k", "x", &Conditions::default());
    let full = w.command(s, 490 + WINDOW, 1, body, b"x");
    assert_eq!(
        full,
        Answer::TryAgain(TryAgain::NotYet),
        "its gateway waits"
    );
    w.check();
}

#[test]
fn an_ended_session_is_unknown_at_once_and_its_results_follow() {
    let mut w = World::new();
    let b = w.bucket(1, Versioning::Off);
    let s = w.open_session();
    for sequence in 1..=700u64 {
        let body = w.put_body(b, "k", "x", &Conditions::default());
        w.command(s, sequence, 1, body, b"x");
    }
    let end = Body::EndSessions(wire::EndSessions {
        sessions: vec![s, s + 1],
    });
    assert_eq!(w.done(end.clone()), Done::More(true));
    let body = w.put_body(b, "k", "y", &Conditions::default());
    assert_eq!(
        w.command(s, 701, 1, body, b"y"),
        Answer::TryAgain(TryAgain::SessionGone)
    );
    let mut entries = 1;
    while w.done(end.clone()) == Done::More(true) {
        entries += 1;
    }
    assert!(entries >= 2);
    assert!(read::sessions(&w.rows).unwrap().is_empty());
    let range = keys::results(s);
    assert_eq!(w.rows.0.range(range.from..range.to).count(), 0);
    w.check();
}
