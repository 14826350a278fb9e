//! https with the real binary: what an operator and the commands see of it.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a real process lives in real time"
)]

mod process;

use std::time::{Duration, Instant};

use process::{Server, fails, http, ok};

fn write_pair(dir: &std::path::Path, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.pem()
}

/// One flag, and every command and every printed snippet speaks https with the store's own CA.
#[test]
fn tls_auto_needs_one_flag_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let server = Server::start(dir, &["--tls", "auto"]);
    assert!(server.ready["s3"].as_str().unwrap().starts_with("https://"));
    let ca = server.ready["ca_cert"].as_str().unwrap().to_owned();
    std::fs::write(dir.join("hello.txt"), "hello\n").unwrap();
    ok(dir, &["put", "hello", "hello.txt"]);
    assert_eq!(ok(dir, &["get", "hello"]), "hello\n");
    ok(dir, &["health"]);
    assert!(ok(dir, &["env"]).contains(&format!("AWS_CA_BUNDLE={ca}")));
    assert!(ok(dir, &["client-config", "boto3"]).contains(&ca));
    let (status, words) = http(&server.s3, "GET", "/", &[], b"");
    assert!(status == 400 && words.contains("https://"), "{words}");
    // Another CA's word is not good here.
    write_pair(dir, "localhost");
    let (code, words) = fails(dir, &["ls", "--ca-cert", "cert.pem"]);
    assert!(code == 1 && words.contains("--ca-cert"), "{words}");
    let (_, words) = fails(dir, &["ls", "--ca-cert", "no-such.pem"]);
    assert!(words.contains("no-such.pem"), "{words}");
    drop(server);
    // The CA is the same after a restart.
    let server = Server::start(dir, &["--tls", "auto"]);
    assert_eq!(server.ready["ca_cert"].as_str().unwrap(), ca);
    assert_eq!(ok(dir, &["get", "hello"]), "hello\n");
}

/// The operator's own pair serves; replaced while the server runs, the new one is shown without a restart. Commands on
/// this machine know the server by the very certificate, whatever name stands in it.
#[test]
fn replaced_certificate_is_taken_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pair(dir, "first.example");
    let server = Server::start(dir, &["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    std::fs::write(dir.join("hello.txt"), "hello\n").unwrap();
    ok(dir, &["put", "hello", "hello.txt"]);
    write_pair(dir, "second.example");
    let began = Instant::now();
    // The file names the new certificate; until the server shows it, the commands do not believe the server.
    while !process::run(dir, &["get", "hello"]).status.success() {
        assert!(began.elapsed() < Duration::from_secs(20), "never taken");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::fs::write(dir.join("key.pem"), "rubbish").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    ok(dir, &["get", "hello"]);
    let log = std::fs::read_to_string(dir.join("server.log")).unwrap();
    assert!(
        log.contains("a new TLS certificate is in use") && log.contains("the old one stays"),
        "{log}"
    );
    assert!(
        !log.contains("PRIVATE KEY") && !log.contains("rubbish"),
        "{log}"
    );
    drop(server);
}

/// What cannot serve is told before anything starts, with the exit code of a bad configuration.
#[test]
fn bad_certificate_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write_pair(dir, "one.example");
    std::fs::rename(dir.join("key.pem"), dir.join("other.pem")).unwrap();
    write_pair(dir, "two.example");
    for (cert, key, words) in [
        ("cert.pem", "other.pem", "does not belong"),
        ("none.pem", "key.pem", "none.pem"),
        ("key.pem", "key.pem", "no certificate"),
        ("cert.pem", "cert.pem", "no private key"),
    ] {
        let (code, said) = fails(dir, &["server", "--tls-cert", cert, "--tls-key", key]);
        assert!(code == 78 && said.contains(words), "{code} {said}");
    }
    std::fs::write(
        dir.join("minikv.toml"),
        "[[users]]\naccess-key = \"alice\"\nsecret-key = \"a-users-secret\"\n".repeat(2),
    )
    .unwrap();
    let (code, said) = fails(dir, &["server", "--config", "minikv.toml"]);
    assert!(
        code == 78 && said.contains("user 2") && !said.contains("a-users-secret"),
        "{code} {said}"
    );
}
