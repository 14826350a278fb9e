//! One worker: does one operation after another on its own connection, and keeps account.

use crate::args::{Args, ListFrom, Op};
use crate::client::{Answer, Call, Client, Failure, Keep, TwoPart, xml_text};
use crate::payload::{self, Payloads};
use crate::sigv4;
use crate::stats::Stats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What all workers of a run share.
pub struct Shared {
    pub args: Args,
    pub payloads: Payloads,
    /// The next index no object has yet.
    pub next_index: AtomicU64,
    /// The next operation's number (for --count and for deletes).
    pub next_op: AtomicU64,
    pub begin: Instant,
    pub measure_from: Instant,
    pub deadline: Option<Instant>,
    pub exhausted: AtomicBool,
}

impl Shared {
    fn key(&self, index: u64) -> String {
        match self.args.folders {
            0 => format!("{}{index:010}", self.args.prefix),
            n => format!("{}f{:03}/{index:010}", self.args.prefix, index % n),
        }
    }

    fn path(&self, index: u64) -> String {
        format!("/{}/{}", self.args.bucket, self.key(index))
    }
}

pub struct Worker {
    pub shared: Arc<Shared>,
    client: Client,
    id: usize,
    rng: u64,
    /// Mixed: the objects that are this worker's to read and delete.
    own: Vec<u64>,
    /// List: where the walk stands.
    token: Option<String>,
    stats: Stats,
}

impl Worker {
    pub fn new(shared: &Arc<Shared>, id: usize, of: usize) -> Self {
        let a = &shared.args;
        let own = if a.op == Op::Mixed {
            (id as u64..a.objects).step_by(of).collect()
        } else {
            vec![]
        };
        Worker {
            client: Client::new(a, id),
            rng: payload::mix(a.seed ^ (id as u64) << 40),
            shared: shared.clone(),
            id,
            own,
            token: None,
            stats: Stats::default(),
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.rng = self.rng.wrapping_add(1);
        payload::mix(self.rng) % below.max(1)
    }

    pub async fn put(&mut self, index: u64) -> Result<u64, Failure> {
        let (a, b) = self.shared.payloads.parts(index);
        self.client
            .call(Call {
                body: TwoPart::new(a, b),
                ..Call::new("PUT", &self.shared.path(index))
            })
            .await?;
        Ok(self.shared.args.size as u64)
    }

    /// The whole object, or a random range of it.
    async fn get(&mut self, index: u64) -> Result<(u64, Answer), Failure> {
        let args = &self.shared.args;
        let size = args.size as u64;
        let (verify, length) = (args.verify, args.range.map_or(size, |n| n.min(size)));
        let range = args.range.map(|_| {
            let first = self.random(size - length + 1);
            (first, first + length.max(1) - 1)
        });
        let path = self.shared.path(index);
        let call = Call {
            range,
            want: if range.is_some() { 206 } else { 200 },
            keep: if verify && range.is_none() {
                Keep::Crc
            } else {
                Keep::Length
            },
            ..Call::new("GET", &path)
        };
        let answer = self.client.call(call).await?;
        if answer.body_len != length {
            let why = format!("object {index}: {} bytes, not {length}", answer.body_len);
            return Err(Failure::Content(why));
        }
        if answer
            .crc
            .is_some_and(|crc| crc != self.shared.payloads.crc(index))
        {
            return Err(Failure::Content(format!("object {index}: content differs")));
        }
        Ok((length, answer))
    }

    async fn stat(&mut self, index: u64) -> Result<u64, Failure> {
        let answer = self
            .client
            .call(Call::new("HEAD", &self.shared.path(index)))
            .await?;
        match answer.content_length {
            Some(n) if n == self.shared.args.size as u64 => Ok(0),
            other => Err(Failure::Content(format!(
                "object {index}: content-length {other:?}"
            ))),
        }
    }

    async fn delete(&mut self, index: u64) -> Result<u64, Failure> {
        self.client
            .call(Call {
                want: 204,
                ..Call::new("DELETE", &self.shared.path(index))
            })
            .await?;
        Ok(0)
    }

    /// The key behind which a page is to begin.
    fn list_after(&mut self) -> Option<String> {
        let (objects, page) = (self.shared.args.objects, self.shared.args.page_size);
        match self.shared.args.list_from {
            ListFrom::Walk | ListFrom::First => None,
            ListFrom::Last => {
                // The newest of them are the last of their folder: so many steps back in the last folder.
                let folders = self.shared.args.folders.max(1);
                let newest = (objects.max(1) - 1) / folders * folders + folders - 1;
                let newest = if newest < objects {
                    newest
                } else {
                    newest - folders
                };
                Some(
                    self.shared
                        .key(newest.saturating_sub(u64::from(page) * folders)),
                )
            }
            ListFrom::Random => {
                let index = self.random(objects);
                Some(self.shared.key(index))
            }
        }
    }

    /// One page; a walk that ends starts over.
    async fn list(&mut self) -> Result<u64, Failure> {
        let after = self.list_after();
        let a = &self.shared.args;
        let mut query = String::new();
        if let Some(t) = &self.token {
            query = format!("continuation-token={}&", sigv4::uri_encode(t));
        }
        if let Some(delimiter) = &a.delimiter {
            query.push_str(&format!("delimiter={}&", sigv4::uri_encode(delimiter)));
        }
        query.push_str(&format!(
            "list-type=2&max-keys={}&prefix={}",
            a.page_size,
            sigv4::uri_encode(&a.prefix)
        ));
        if let Some(after) = after {
            query.push_str(&format!("&start-after={}", sigv4::uri_encode(&after)));
        }
        let path = format!("/{}", a.bucket);
        let answer = self
            .client
            .call(Call {
                query: &query,
                keep: Keep::Text,
                ..Call::new("GET", &path)
            })
            .await?;
        let text = String::from_utf8_lossy(&answer.text);
        self.stats.keys_listed += text.matches("<Key>").count() as u64;
        self.stats.keys_listed += text.matches("<CommonPrefixes>").count() as u64;
        self.token = xml_text(&text, "NextContinuationToken");
        if a.list_from != ListFrom::Walk {
            self.token = None;
        } else if xml_text(&text, "IsTruncated").as_deref() == Some("true") {
            if self.token.is_none() {
                return Err(Failure::Content("a truncated page without a token".into()));
            }
        } else {
            self.token = None;
            self.stats.walks += 1;
        }
        Ok(answer.body_len)
    }

    /// A connection that asks for nothing until the end; one that the server has closed by then is an error.
    async fn idle(&mut self) -> Result<u64, Failure> {
        let opened = Instant::now();
        self.client.connect().await?;
        let end = self.shared.deadline.unwrap_or(opened);
        tokio::time::sleep_until(end.into()).await;
        if !self.client.is_open() {
            return Err(Failure::Transport("the server closed it".into()));
        }
        Ok(0)
    }

    /// A whole upload, its parts one after another.
    async fn multipart(&mut self, index: u64) -> Result<u64, Failure> {
        let path = self.shared.path(index);
        let answer = self
            .client
            .call(Call {
                query: "uploads=",
                keep: Keep::Text,
                ..Call::new("POST", &path)
            })
            .await?;
        let id = xml_text(&String::from_utf8_lossy(&answer.text), "UploadId")
            .ok_or_else(|| Failure::Content("no UploadId".into()))?;
        let id = sigv4::uri_encode(&id);
        let (a, b) = self.shared.payloads.parts(index);
        let (size, step) = (self.shared.args.size, self.shared.args.part_size);
        let mut complete = String::from(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">",
        );
        let mut at = 0;
        let mut number = 1;
        while at < size || number == 1 {
            let to = (at + step).min(size);
            let part = TwoPart::new(
                a.slice(at.min(a.len())..to.min(a.len())),
                b.slice(at.saturating_sub(a.len())..to.saturating_sub(a.len())),
            );
            let query = format!("partNumber={number}&uploadId={id}");
            let answer = self
                .client
                .call(Call {
                    query: &query,
                    body: part,
                    ..Call::new("PUT", &path)
                })
                .await?;
            complete.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{}</ETag></Part>",
                answer.etag
            ));
            (at, number) = (to, number + 1);
        }
        complete.push_str("</CompleteMultipartUpload>");
        let body = TwoPart::new(complete.into(), bytes::Bytes::new());
        let answer = self
            .client
            .call(Call {
                query: &format!("uploadId={id}"),
                body,
                keep: Keep::Text,
                ..Call::new("POST", &path)
            })
            .await?;
        // CompleteMultipartUpload may fail after its 200.
        let text = String::from_utf8_lossy(&answer.text);
        if text.contains("<Error>") {
            return Err(Failure::Content(text.chars().take(300).collect()));
        }
        Ok(size as u64)
    }

    /// One operation; None when there is nothing left to do.
    async fn operate(&mut self, number: u64) -> Option<Result<(u64, Option<Answer>), Failure>> {
        let objects = self.shared.args.objects;
        let plain = |r: Result<u64, Failure>| r.map(|n| (n, None));
        Some(match self.shared.args.op {
            Op::Put => {
                let i = self.shared.next_index.fetch_add(1, Relaxed);
                plain(self.put(i).await)
            }
            Op::Multipart => {
                let i = self.shared.next_index.fetch_add(1, Relaxed);
                plain(self.multipart(i).await)
            }
            Op::Get => {
                let i = self.random(objects);
                self.get(i).await.map(|(n, a)| (n, Some(a)))
            }
            Op::Stat => {
                let i = self.random(objects);
                plain(self.stat(i).await)
            }
            Op::List => plain(self.list().await),
            Op::Idle => plain(self.idle().await),
            Op::Delete if number >= objects => {
                self.shared.exhausted.store(true, Relaxed);
                return None;
            }
            Op::Delete => plain(self.delete(number).await),
            Op::Mixed => {
                let mix = self.shared.args.mix;
                let mut draw = self.random(u64::from(mix.iter().sum::<u32>())) as u32;
                let mut which = 0;
                while draw >= mix[which] {
                    draw -= mix[which];
                    which += 1;
                }
                if self.own.is_empty() {
                    which = 2;
                }
                let at = self.random(self.own.len() as u64) as usize;
                match which {
                    0 => self.get(self.own[at]).await.map(|(n, a)| (n, Some(a))),
                    1 => plain(self.stat(self.own[at]).await),
                    2 => {
                        let i = self.shared.next_index.fetch_add(1, Relaxed);
                        let done = self.put(i).await;
                        if done.is_ok() {
                            self.own.push(i);
                        }
                        plain(done)
                    }
                    _ => {
                        let i = self.own.swap_remove(at);
                        plain(self.delete(i).await)
                    }
                }
            }
        })
    }

    /// Until the deadline, the count or the objects end.
    pub async fn run(mut self, workers: usize) -> Stats {
        let shared = self.shared.clone();
        let args = &shared.args;
        let interval = args
            .rate
            .map(|r| Duration::from_secs_f64(workers as f64 / r));
        let mut due = shared.begin
            + interval
                .unwrap_or_default()
                .mul_f64(self.id as f64 / workers as f64);
        loop {
            let mut start = Instant::now();
            if let Some(step) = interval {
                tokio::time::sleep_until(due.into()).await;
                start = due;
                due += step;
            }
            if shared.deadline.is_some_and(|d| start >= d) {
                break;
            }
            let number = shared.next_op.fetch_add(1, Relaxed);
            if args.count.is_some_and(|c| number >= c) {
                break;
            }
            let Some(result) = self.operate(number).await else {
                break;
            };
            if start < shared.measure_from {
                continue;
            }
            match result {
                Ok((bytes, answer)) => {
                    self.stats.latency.push(micros(start.elapsed()));
                    self.stats.bytes += bytes;
                    if let Some(t) = answer.and_then(|a| a.first_byte) {
                        self.stats.first_byte.push(micros(t.duration_since(start)));
                    }
                }
                Err(f) => {
                    self.stats.fail(&f, micros(start.elapsed()));
                    // A server that is down is not worth a busy loop.
                    if matches!(f, Failure::Transport(_)) {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        }
        self.stats
    }
}

fn micros(d: Duration) -> u32 {
    u32::try_from(d.as_micros()).unwrap_or(u32::MAX)
}
