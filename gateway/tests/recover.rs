//! `minikv recover` on a real data directory: what a user sees and types when a disk has lost an acknowledged entry.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a real process lives in real time"
)]

mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use process::{Server, fails, ok, run, text};

/// Where the bytes lie in a log file, the last time they do.
fn find(dir: &Path, needle: &str) -> (PathBuf, usize) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("minikv-data/log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("meta-")
        })
        .collect();
    files.sort();
    let found = files.into_iter().rev().find_map(|path| {
        let bytes = std::fs::read(&path).unwrap();
        let at = bytes
            .windows(needle.len())
            .rposition(|bytes| bytes == needle.as_bytes());
        at.map(|at| (path, at))
    });
    found.unwrap()
}

/// The server says which group lost what and what to type; the command shows the loss, refuses while the server runs,
/// and after it was accepted everything else is there again.
#[test]
fn a_user_is_led_from_the_damage_to_a_store_that_serves_again() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let server = Server::start(dir, &[]);
    std::fs::write(dir.join("file"), "some words").unwrap();
    for number in 0..24 {
        ok(dir, &["put", &format!("kept-{number}"), "file"]);
    }
    let needle = "the-one-that-is-lost";
    ok(dir, &["put", needle, "file"]);
    // Until the next batch says that it is durable, rot looks like a torn tail.
    std::thread::sleep(Duration::from_secs(1));
    server.signal("KILL");
    server.end();
    let (path, at) = find(dir, needle);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(&path, bytes).unwrap();

    let server = Server::start(dir, &[]);
    let (code, says) = fails(dir, &["get", needle]);
    assert_eq!(code, 1, "{says}");
    let status = ok(dir, &["status"]);
    assert!(status.contains("NOT READY"), "{status}");
    let group = status.split("minikv recover --group ").nth(1).unwrap();
    let group = group.split('`').next().unwrap();
    assert!(
        status.contains(&format!("group {group}: neither reads nor writes: entry")),
        "{status}"
    );

    let (code, says) = fails(dir, &["recover", "--group", group]);
    assert_eq!(code, 5, "{says}");
    assert!(
        says.contains("is served by a running minikv (process "),
        "{says}"
    );
    assert_eq!(server.stop().0, Some(0));

    let told = ok(dir, &["recover", "--group", group]);
    assert!(told.contains("cannot be read"), "{told}");
    assert!(
        told.contains(&format!("minikv recover --group {group} --accept-loss")),
        "{told}"
    );
    let json = ok(dir, &["recover", "--group", group, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["accepted"], false);
    assert_eq!(json["lost"][0]["what"], serde_json::Value::Null);
    assert_eq!(json["incarnation"], 1);

    let told = ok(dir, &["recover", "--group", group, "--accept-loss"]);
    assert!(told.contains("is whole again, in incarnation 2"), "{told}");
    let told = ok(dir, &["recover", "--group", group, "--accept-loss"]);
    assert!(told.contains("nothing to give up"), "{told}");

    let _server = Server::start(dir, &[]);
    assert!(ok(dir, &["status"]).contains(", ready"));
    let (code, _) = fails(dir, &["get", needle]);
    assert_eq!(code, 3, "it was given up: it is not there");
    for number in 0..24 {
        assert_eq!(ok(dir, &["get", &format!("kept-{number}")]), "some words");
    }
    ok(dir, &["put", needle, "file"]);
    assert_eq!(ok(dir, &["get", needle]), "some words");
}

#[test]
fn recover_says_what_is_not_there() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let (code, says) = fails(dir, &["recover", "--group", "1"]);
    assert_eq!(code, 3);
    assert!(says.contains("is no minikv data directory"), "{says}");
    assert!(!dir.join("minikv-data").exists(), "it made one");
    Server::start(dir, &[]).stop();
    let (code, says) = fails(dir, &["recover", "--group", "9"]);
    assert_eq!(code, 3);
    assert!(says.contains("there is no group g9"), "{says}");
    let usage = run(dir, &["recover"]);
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage.stderr));
}
