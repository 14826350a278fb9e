//! A real minikv process in a directory of its own, and a few ways to talk to it.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a real process lives in real time"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A command of the binary under test, without the settings of whoever runs the tests.
pub fn minikv(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minikv"));
    command.current_dir(dir).args(args).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("MINIKV_")
            || name.starts_with("AWS_")
            || name.starts_with("MINIO_")
            || name == "RUST_LOG"
        {
            command.env_remove(name);
        }
    }
    // Small segments: unoptimised test builds look through them at each start, and 70 MiB objects fill several.
    command.env("MINIKV_STORE_SEGMENT_MIB", "8");
    command
}

/// Runs a command to its end.
pub fn run(dir: &Path, args: &[&str]) -> Output {
    minikv(dir, args).output().unwrap()
}

/// Standard output of a command that must succeed.
pub fn ok(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(
        output.status.success(),
        "{args:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Exit code and standard error of a command that must fail.
pub fn fails(dir: &Path, args: &[&str]) -> (i32, String) {
    let output = run(dir, args);
    assert!(
        !output.status.success(),
        "{args:?} succeeded: {}",
        text(&output.stdout)
    );
    (output.status.code().unwrap(), text(&output.stderr))
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server; killed when dropped.
pub struct Server {
    pub child: Child,
    /// Host and port of the S3 port.
    pub s3: String,
    /// Host and port of the HTTP port.
    pub http: String,
    /// The line that said "ready".
    pub ready: serde_json::Value,
}

impl Server {
    /// Starts in `dir` on free ports and waits until it is ready.
    pub fn start(dir: &Path, args: &[&str]) -> Server {
        Server::try_start(dir, args)
            .unwrap_or_else(|words| panic!("the server did not start: {words}"))
    }

    /// Starts, or gives what it said.
    pub fn try_start(dir: &Path, args: &[&str]) -> Result<Server, String> {
        let mut command = minikv(
            dir,
            &[
                "server",
                "--json",
                "--s3-addr",
                "127.0.0.1:0",
                "--http-addr",
                "127.0.0.1:0",
            ],
        );
        let log = std::fs::File::create(dir.join("server.log")).unwrap();
        let mut child = command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let Ok(ready) = serde_json::from_str::<serde_json::Value>(&line) else {
            let code = child.wait().unwrap();
            let said = std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
            return Err(format!("{code}: {line}{said}"));
        };
        let address = |name: &str| {
            ready[name]
                .as_str()
                .unwrap()
                .split_once("://")
                .unwrap()
                .1
                .to_owned()
        };
        Ok(Server {
            child,
            s3: address("s3"),
            http: address("http"),
            ready,
        })
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// SIGTERM, and how it ended.
    pub fn stop(self) -> (Option<i32>, Duration) {
        self.signal("TERM");
        self.end()
    }

    /// Waits for it to end by itself.
    pub fn end(mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        (self.child.wait().unwrap().code(), began.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One plain HTTP request on a connection of its own: status and body.
pub fn http(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let host = if headers.iter().any(|(name, _)| *name == "host") {
        String::new()
    } else {
        format!("host: {address}\r\n")
    };
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = text(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}
