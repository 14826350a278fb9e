//! A real minikv process on a real directory, started, killed and stopped by a test.
//!
//! Always true: the process does not outlive the `Server`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::s3::S3;

const ACCESS_KEY: &str = "testroot";
const SECRET_KEY: &str = "a-secret-of-these-tests";

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The binary: see [`binary`].
    pub binary: PathBuf,
    /// The data directory.
    pub data_dir: PathBuf,
    /// More settings, as environment variables.
    pub settings: Vec<(String, String)>,
}

/// A running process.
pub struct Server {
    child: Child,
    binary: PathBuf,
    s3_addr: SocketAddr,
    http_addr: SocketAddr,
    /// From exec to the line that says so.
    pub ready_after: Duration,
}

/// The binary to test: the one that was built with the test, or the one that `MINIKV_BINARY` names (a release build, for runs
/// at full size).
pub fn binary(built: &str) -> PathBuf {
    std::env::var_os("MINIKV_BINARY").map_or_else(|| PathBuf::from(built), PathBuf::from)
}

impl Setup {
    /// Starts it and waits until it says that it is ready.
    pub async fn start(&self) -> Result<Server, String> {
        let began = Instant::now();
        let mut child = self.spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(Duration::from_secs(60), line).await;
        let ready = match line {
            Ok(Ok(Ok(line))) => serde_json::from_str::<serde_json::Value>(&line).ok(),
            _ => None,
        };
        let addr = |name: &str| {
            let url = ready.as_ref()?.get(name)?.as_str()?;
            url.strip_prefix("http://")?.parse::<SocketAddr>().ok()
        };
        match (addr("s3"), addr("http")) {
            (Some(s3_addr), Some(http_addr)) => {
                let ready_after = began.elapsed();
                let binary = self.binary.clone();
                Ok(Server {
                    child,
                    binary,
                    s3_addr,
                    http_addr,
                    ready_after,
                })
            }
            _ => {
                let _ = child.kill();
                let status = child.wait().map_err(|error| error.to_string())?;
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                Err(format!(
                    "minikv did not become ready ({status}): {}",
                    last.join(" | ")
                ))
            }
        }
    }

    fn spawn(&self) -> Result<Child, String> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log());
        let log = log.map_err(|error| format!("{}: {error}", self.log().display()))?;
        Command::new(&self.binary)
            .args(["server", "--json"])
            .env("MINIKV_DATA_DIR", &self.data_dir)
            .env("MINIKV_S3_ADDR", "127.0.0.1:0")
            .env("MINIKV_HTTP_ADDR", "127.0.0.1:0")
            .env("MINIKV_ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("MINIKV_ROOT_SECRET_KEY", SECRET_KEY)
            .envs(self.settings.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.binary.display()))
    }

    /// Where its log lines go: beside the data directory.
    pub fn log(&self) -> PathBuf {
        self.data_dir.with_extension("log")
    }
}

impl Server {
    /// A client.
    pub fn s3(&self) -> S3 {
        S3::new(self.s3_addr, ACCESS_KEY, SECRET_KEY)
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM; the process goes on for a while.
    pub fn terminate(&self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("kill -TERM {pid}: {other:?}")),
        }
    }

    /// Waits for its end.
    pub async fn ended(mut self, within: Duration) -> Result<ExitStatus, String> {
        let began = Instant::now();
        while began.elapsed() < within {
            if let Some(status) = self.child.try_wait().map_err(|error| error.to_string())? {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(format!("it still runs after {within:?}"))
    }

    /// An unsigned GET on the HTTP port: status and body.
    pub async fn http_get(&self, path: &str) -> Option<(u16, String)> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(self.http_addr).await.ok()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.http_addr
        );
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned());
        Some((status, body.unwrap_or_default()))
    }

    /// What `minikv status --json` prints.
    pub fn status(&self) -> Result<serde_json::Value, String> {
        let output = Command::new(&self.binary)
            .args(["status", "--json", "--http-endpoint"])
            .arg(format!("http://{}", self.http_addr))
            .env("MINIKV_ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("MINIKV_ROOT_SECRET_KEY", SECRET_KEY)
            .output()
            .map_err(|error| error.to_string())?;
        let told = || String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", told()))
    }

    /// Memory that it occupies, in bytes.
    pub fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace()
            .nth(1)?
            .parse::<u64>()
            .ok()
            .map(|kib| kib * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that a directory takes on the disk (blocks, not lengths: segments are allocated ahead).
pub fn disk_usage(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A file that is unlinked while we look is no error.
        let Ok(about) = entry.metadata() else {
            continue;
        };
        bytes += match about.is_dir() {
            true => disk_usage(&entry.path())?,
            false => about.blocks() * 512,
        };
    }
    Ok(bytes)
}
