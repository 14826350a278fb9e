//! What a newcomer does in the first five minutes, with the real binary, and what goes wrong then.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a real process lives in real time"
)]

mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use process::{Server, fails, http, minikv, ok, repository, run, text};

/// An empty directory, one command, and files go in and out with nothing configured.
#[test]
fn empty_directory_becomes_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    std::fs::write(dir.join("hello.txt"), "hello\n").unwrap();

    // Bucket demo is there; bucket kv comes with the first bare key.
    assert!(ok(dir, &["bucket", "ls"]).contains("demo"));
    assert_eq!(ok(dir, &["ls"]), "");
    ok(dir, &["put", "hello", "hello.txt"]);
    assert_eq!(ok(dir, &["get", "hello"]), "hello\n");
    assert!(ok(dir, &["ls"]).trim_end().ends_with("6  hello"));
    ok(dir, &["put", "demo/a/b c+ä%.txt", "hello.txt"]);
    ok(dir, &["put", "demo/a", "hello.txt"]);
    ok(dir, &["get", "demo/a/b c+ä%.txt", "back.txt"]);
    assert_eq!(std::fs::read(dir.join("back.txt")).unwrap(), b"hello\n");
    assert!(ok(dir, &["ls", "demo/"]).contains("PRE  a/"));
    let all = ok(dir, &["ls", "-r", "demo/", "--json"]);
    let keys: Vec<serde_json::Value> = all
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        (keys[0]["key"].as_str(), keys[1]["key"].as_str()),
        (Some("a"), Some("a/b c+ä%.txt"))
    );
    assert_eq!(ok(dir, &["get", "demo/a", "-", "--range", "1-2"]), "el");

    // Exit codes that scripts rely on.
    assert_eq!(fails(dir, &["get", "demo/absent"]).0, 3);
    assert_eq!(fails(dir, &["get", "absent-bucket/key"]).0, 3);
    let (code, words) = fails(dir, &["put", "absent-bucket/key", "hello.txt"]);
    assert!(
        code == 3 && words.contains("minikv bucket create absent-bucket"),
        "{words}"
    );
    assert_eq!(
        fails(dir, &["put", "--no-overwrite", "demo/a", "hello.txt"]).0,
        5
    );
    assert_eq!(fails(dir, &["bucket", "delete", "demo"]).0, 5);
    assert_eq!(
        fails(
            dir,
            &["get", "demo/a", "--access-key", "who", "--secret-key", "me"]
        )
        .0,
        4
    );
    assert_eq!(
        fails(dir, &["get", "demo/a", "--endpoint", "http://127.0.0.1:1"]).0,
        6
    );
    assert_eq!(fails(dir, &["get"]).0, 2);

    ok(dir, &["delete", "demo/a"]);
    assert_eq!(fails(dir, &["get", "demo/a"]).0, 3);

    let status: serde_json::Value = serde_json::from_str(&ok(dir, &["status", "--json"])).unwrap();
    assert_eq!(status["ready"], true);
    assert_eq!(status["groups"].as_array().unwrap().len(), 9);
    assert!(ok(dir, &["status"]).contains("ready"));
    assert!(ok(dir, &["health"]).contains("[+]groups ok"));
    drop(server);
    assert_eq!(fails(dir, &["health"]).0, 6);
}

/// Nothing else notices: what comes out is what went in.
#[test]
fn a_bucket_is_compressed_by_one_command() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _server = Server::start(dir, &[]);
    std::fs::write(dir.join("log"), "GET / 200 OK\n".repeat(100_000)).unwrap();
    let stored = || {
        let status = ok(dir, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        let groups = status["groups"].as_array().unwrap();
        groups
            .iter()
            .map(|group| group["bytes"].as_u64().unwrap())
            .sum::<u64>()
    };
    assert!(ok(dir, &["bucket", "compression", "demo"]).contains("off"));
    ok(dir, &["put", "demo/plain", "log"]);
    assert_eq!(stored(), 1_300_000);
    assert!(ok(dir, &["bucket", "compression", "demo", "zstd"]).contains("zstd"));
    ok(dir, &["put", "demo/packed", "log"]);
    assert!(stored() < 1_310_000, "{}", stored());
    for name in ["demo/plain", "demo/packed"] {
        ok(dir, &["get", name, "back"]);
        let same =
            std::fs::read(dir.join("back")).unwrap() == std::fs::read(dir.join("log")).unwrap();
        assert!(same, "{name}");
    }
    let shown = ok(dir, &["bucket", "compression", "demo", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["compression"], "zstd");
    assert_eq!(
        fails(dir, &["bucket", "compression", "nobody", "zstd"]).0,
        3
    );
    let (code, words) = fails(dir, &["bucket", "compression", "demo", "gzip"]);
    assert!(code == 2 && words.contains("zstd"), "{words}");
}

/// What is printed for other clients carries the very keys of this store; logs and banner carry no secret.
#[test]
fn secret_is_shown_on_demand_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    let shown: serde_json::Value =
        serde_json::from_str(&ok(dir, &["credentials", "show", "--json"])).unwrap();
    let (access, secret) = (
        shown["access_key"].as_str().unwrap(),
        shown["secret_key"].as_str().unwrap(),
    );
    assert_eq!(server.ready["access_key"].as_str(), Some(access));
    assert!(
        access.len() == 20 && secret.len() == 40,
        "{access} {}",
        secret.len()
    );
    let env = ok(dir, &["env"]);
    assert!(
        env.contains(&format!("export AWS_SECRET_ACCESS_KEY={secret}\n")),
        "{env}"
    );
    assert!(env.contains(&format!(
        "export AWS_ENDPOINT_URL_S3=http://{}\n",
        server.s3
    )));
    for client in ["aws", "boto3", "rclone", "mc", "s3cmd"] {
        let snippet = ok(dir, &["client-config", client]);
        assert!(
            snippet.contains(secret) && snippet.contains(&server.s3),
            "{client}: {snippet}"
        );
    }
    let mode = std::fs::metadata(dir.join("minikv-data/credentials.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    ok(dir, &["put", "x", "minikv-data/credentials.toml"]);
    let log = std::fs::read_to_string(dir.join("server.log")).unwrap();
    assert!(
        !log.contains(secret) && !log.contains("AWS4-HMAC-SHA256"),
        "{log}"
    );
    assert!(!server.ready.to_string().contains(secret));
}

/// Large files and endless input: the bytes that come back are those that went in.
#[test]
fn large_files_and_streams_come_back_whole() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _server = Server::start(dir, &[]);
    let mut bytes = vec![0u8; 70 << 20];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for word in bytes.chunks_exact_mut(8) {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        word.copy_from_slice(&state.to_le_bytes());
    }
    std::fs::write(dir.join("large"), &bytes).unwrap();
    ok(dir, &["put", "demo/large", "large"]);
    ok(dir, &["get", "demo/large", "large.back"]);
    assert!(std::fs::read(dir.join("large.back")).unwrap() == bytes);

    let piped = |key: &str, bytes: &[u8]| {
        let mut put = minikv(dir, &["put", key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = put.stdin.take().unwrap();
        stdin.write_all(bytes).unwrap();
        drop(stdin);
        assert!(put.wait().unwrap().success());
        assert!(run(dir, &["get", key]).stdout == bytes, "{key}");
    };
    piped("demo/stream", &bytes[..40 << 20]);
    piped("demo/even", &bytes[..16 << 20]);
    piped("demo/empty", b"");
    // A failed get leaves the file that was there.
    assert_eq!(fails(dir, &["get", "demo/absent", "large.back"]).0, 3);
    assert!(std::fs::read(dir.join("large.back")).unwrap() == bytes);
    let litter: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .filter(|e| text(e.as_ref().unwrap().file_name().as_encoded_bytes()).contains(".part"))
        .collect();
    assert!(litter.is_empty(), "{litter:?}");
}

/// The three demo lines of the example file, word for word but for the port.
#[test]
fn example_config_opens_the_demo() {
    let dir = tempfile::tempdir().unwrap();
    let config = repository().join("config.example.toml");
    let server = Server::start(dir.path(), &["--config", config.to_str().unwrap()]);
    let (status, body) = http(&server.http, "GET", "/health/ready", &[], b"");
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    // What `curl -d` sends.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let (status, _) = http(&server.http, "PUT", "/s3/mybucket/hello", &form, b"hi");
    assert_eq!(status, 200);
    assert_eq!(
        http(&server.http, "GET", "/s3/mybucket/hello", &[], b""),
        (200, "hi".to_owned())
    );
    assert_eq!(
        http(&server.http, "GET", "/s3/mybucket/absent", &[], b"").0,
        404
    );
    assert_eq!(
        http(&server.http, "GET", "/s3/absent-bucket/hello", &[], b"").0,
        404
    );
    assert_eq!(
        http(&server.http, "PUT", "/s3/No_Bucket/hello", &[], b"hi").0,
        400
    );
    assert!(
        http(&server.http, "GET", "/s3/mybucket", &[], b"")
            .1
            .contains("hello")
    );
    assert_eq!(
        http(&server.http, "DELETE", "/s3/mybucket/hello", &[], b"").0,
        204
    );
    assert_eq!(
        http(&server.http, "GET", "/s3/mybucket/hello", &[], b"").0,
        404
    );
    // A web page elsewhere that makes a browser come here under its own name (DNS rebinding).
    assert_eq!(
        http(
            &server.http,
            "GET",
            "/s3/mybucket/",
            &[("host", "evil.example")],
            b""
        )
        .0,
        403
    );
    // The demo sees its own buckets only.
    assert_eq!(http(&server.http, "GET", "/s3/demo/", &[], b"").0, 403);

    // Without the demo the path is not there for anybody.
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(
        http(&server.http, "GET", "/s3/mybucket/hello", &[], b"").0,
        403
    );
}

/// Two processes on one directory would destroy it; the second one says which process is in the way.
#[test]
fn second_process_on_a_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    ok(dir, &["put", "k", "server.log"]);
    std::fs::create_dir(dir.join("second")).unwrap();
    let data = dir.join("minikv-data");
    let words =
        match Server::try_start(&dir.join("second"), &["--data-dir", data.to_str().unwrap()]) {
            Ok(_) => panic!("a second process was let in"),
            Err(words) => words,
        };
    assert!(words.contains("exit status: 1"), "{words}");
    assert!(
        words.contains(&format!("process {}", server.child.id())) && words.contains("--data-dir"),
        "{words}"
    );
    // Also when the port is what gives it away.
    let taken = [
        "server",
        "--s3-addr",
        &server.s3,
        "--data-dir",
        data.to_str().unwrap(),
    ];
    let (code, words) = fails(dir, &taken);
    assert!(
        code == 1 && words.contains(&format!("process {}", server.child.id())),
        "{words}"
    );
    assert!(run(dir, &["get", "k"]).status.success());
}

/// SIGTERM: the request in flight is answered, the process ends well, and everything is there at the next start.
#[test]
fn sigterm_finishes_what_it_began() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let server = Server::start(dir, &["--demo", "--log", "debug"]);
    ok(dir, &["put", "k", "/proc/self/cmdline"]);
    ok(dir, &["bucket", "delete", "demo"]);
    // A body that is half there when the signal comes.
    let mut upload = TcpStream::connect(&server.http).unwrap();
    let head = format!(
        "PUT /s3/slow/object HTTP/1.1\r\nhost: {}\r\ncontent-length: 10\r\n\r\nfirst",
        server.http
    );
    upload.write_all(head.as_bytes()).unwrap();
    let mut idle = TcpStream::connect(&server.s3).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    upload.write_all(b"-last").unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let mut nothing = String::new();
    idle.read_to_string(&mut nothing).unwrap();
    let (code, took) = server.end();
    assert_eq!(code, Some(0));
    assert!(took < Duration::from_secs(10), "{took:?}");

    let server = Server::start(dir, &["--demo"]);
    assert_eq!(
        http(&server.http, "GET", "/s3/slow/object", &[], b"").1,
        "first-last"
    );
    ok(dir, &["get", "k"]);
    // Deleted by its owner: the second start does not bring it back.
    assert!(!ok(dir, &["bucket", "ls"]).contains("demo"));
}

/// A config that would not be honoured is refused before anything is made.
#[test]
fn wrong_config_ends_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("odd.toml"), "s3_addr = \"127.0.0.1:9000\"\n").unwrap();
    let (code, words) = fails(dir, &["--config", "odd.toml"]);
    assert!(
        code == 78 && words.contains("did you mean `s3-addr`"),
        "{words}"
    );
    for args in [
        &[
            "--s3-addr",
            "0.0.0.0:0",
            "--root-access-key",
            "minioadmin",
            "--root-secret-key",
            "minioadmin",
        ][..],
        &["--s3-addr", "0.0.0.0:0", "--demo"],
        &["--fsync", "sometimes"],
        &["--log", "==="],
        &["--config", "absent.toml"],
        &["--root-access-key", "alone"],
    ] {
        let (code, words) = fails(dir, args);
        assert_eq!(code, 78, "{args:?}: {words}");
        assert!(!words.contains("minioadmin"), "{words}");
    }
    assert!(!dir.join("minikv-data").exists(), "nothing was made");
    // Weak credentials kept from an earlier start on this machine are judged again.
    let weak = [
        "--root-access-key",
        "minioadmin",
        "--root-secret-key",
        "minioadmin",
    ];
    drop(Server::start(dir, &weak));
    let (code, words) = fails(
        dir,
        &["--s3-addr", "0.0.0.0:0", "--http-addr", "127.0.0.1:0"],
    );
    assert!(
        code == 78 && words.contains("well-known default"),
        "{words}"
    );
}

/// Given credentials replace the kept ones, and stay when they are given no more.
#[test]
fn given_credentials_replace_the_kept_ones() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let first = Server::start(dir, &[]);
    let random = first.ready["access_key"].clone();
    assert_eq!(first.stop().0, Some(0));
    let given = [
        "--root-access-key",
        "operator",
        "--root-secret-key",
        "a-secret-of-our-own",
    ];
    let second = Server::start(dir, &given);
    assert_eq!(second.ready["access_key"], "operator");
    assert_ne!(second.ready["access_key"], random);
    ok(dir, &["bucket", "ls"]);
    assert_eq!(second.stop().0, Some(0));
    let third = Server::start(dir, &[]);
    assert_eq!(third.ready["access_key"], "operator");
    ok(
        dir,
        &[
            "bucket",
            "ls",
            "--access-key",
            "operator",
            "--secret-key",
            "a-secret-of-our-own",
        ],
    );
    drop(third);
}

/// Who may see what on the HTTP port; MinIO's probes on the S3 port.
#[test]
fn probes_are_open_and_the_rest_is_signed() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    let get = |path: &str| http(&server.http, "GET", path, &[], b"");
    assert_eq!(get("/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get("/health/live").0, 200);
    let (status, body) = get("/readyz?verbose");
    assert!(
        status == 200 && body.contains("[+]disk ok") && body.contains("[+]room ok"),
        "{body}"
    );
    for path in ["/admin/v1/status", "/", "/kv/x", "/nothing"] {
        assert_eq!(get(path).0, 403, "{path}");
    }
    assert_eq!(
        http(
            &server.http,
            "GET",
            "/metrics",
            &[("x-forwarded-for", "10.0.0.1")],
            b""
        )
        .0,
        403
    );
    ok(dir.path(), &["bucket", "ls"]);
    let (status, metrics) = get("/metrics");
    assert_eq!(status, 200);
    assert!(
        metrics.contains("minikv_s3_requests_total{api=\"ListBuckets\",code_class=\"2xx\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("minikv_ready 1"));
    for path in [
        "/minio/health/live",
        "/minio/health/ready",
        "/minio/health/cluster",
        "/_minikv/readyz",
    ] {
        assert_eq!(http(&server.s3, "GET", path, &[], b"").0, 200, "{path}");
    }
    assert_eq!(http(&server.s3, "GET", "/_minikv/nothing", &[], b"").0, 404);
}

/// A client that stops in the middle of its body is cut off after half a minute, with S3's answer, and leaves nothing.
#[test]
fn slow_upload_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--demo"]);
    let mut upload = TcpStream::connect(&server.http).unwrap();
    let head = format!(
        "PUT /s3/slow/object HTTP/1.1\r\nhost: {}\r\ncontent-length: 100000\r\n\r\nfirst",
        server.http
    );
    upload.write_all(head.as_bytes()).unwrap();
    let began = Instant::now();
    let mut answer = String::new();
    let _ = upload.read_to_string(&mut answer);
    assert!(
        began.elapsed() < Duration::from_secs(45),
        "{:?}",
        began.elapsed()
    );
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("RequestTimeout"),
        "{answer}"
    );
    assert_eq!(
        http(&server.http, "GET", "/s3/slow/object", &[], b"").0,
        404
    );
}

/// Encryption needs no set-up: the ring is there after the first start, for its owner alone, and grows by one command.
#[test]
fn key_ring_is_made_listed_and_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    assert_eq!(fails(dir, &["key", "list"]).0, 3);
    let server = Server::start(dir, &[]);
    let file = dir.join("minikv-data/keyring.toml");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(ok(dir, &["key", "list"]).contains("version 1"));
    let rotated = ok(dir, &["key", "rotate"]);
    assert!(rotated.contains("version 2"), "{rotated}");
    ok(dir, &["key", "add", "payroll"]);
    let (code, words) = fails(dir, &["key", "add", "payroll"]);
    assert!(code == 1 && words.contains("payroll"), "{words}");
    assert_eq!(fails(dir, &["key", "rotate", "nobody"]).0, 3);
    assert_eq!(fails(dir, &["key", "add", "a/b"]).0, 2);
    let listed: serde_json::Value =
        serde_json::from_str(&ok(dir, &["key", "list", "--json"])).unwrap();
    assert_eq!(listed["current"], "minikv");
    assert_eq!(listed["keys"][0]["versions"].as_array().unwrap().len(), 2);
    let secrets = std::fs::read_to_string(&file).unwrap();
    let secret = secrets.split('"').find(|text| text.len() == 44).unwrap();
    assert!(!listed.to_string().contains(secret), "keys are not shown");
    server.stop();

    let named = dir.join("other.toml");
    let named = named.to_str().unwrap();
    let refused = Server::try_start(dir, &["--keyring", named]).err().unwrap();
    assert!(refused.contains("minikv key add"), "{refused}");
    ok(dir, &["key", "add", "main", "--keyring", named]);
    Server::start(dir, &["--keyring", named]).stop();
}
