//! What a request carries: nothing, bytes, or a range of a file, read again for every try.
//!
//! Always true: the same content has the same checksum at every try; a file that shrank or changed under us is
//! noticed (by us as too few bytes, by the server as a wrong checksum) and nothing is stored.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use futures::{TryStreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;

/// Bytes read from a file at a time.
const BLOCK: usize = 256 * 1024;

/// Called with the number of bytes that went out.
pub type Progress = Arc<dyn Fn(u64) + Send + Sync>;

/// A body as hyper wants it.
pub type Outgoing = UnsyncBoxBody<Bytes, io::Error>;

/// What a request carries.
#[derive(Clone, Default)]
pub enum Content {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes in memory.
    Bytes(Bytes),
    /// A range of a file.
    Range {
        /// Open for reading.
        file: Arc<File>,
        /// Start.
        offset: u64,
        /// Length.
        len: u64,
    },
}

impl Content {
    /// Its length.
    pub fn len(&self) -> u64 {
        match self {
            Content::Empty => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Range { len, .. } => *len,
        }
    }

    /// Whether it carries nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `x-amz-checksum-crc64nvme` of it: the server checks it before it stores anything.
    pub async fn crc64nvme(&self) -> io::Result<String> {
        let content = self.clone();
        let sum = tokio::task::spawn_blocking(move || {
            let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
            match &content {
                Content::Empty => {}
                Content::Bytes(bytes) => digest.update(bytes),
                Content::Range { file, offset, len } => {
                    let mut block = vec![0; BLOCK];
                    let mut done = 0;
                    while done < *len {
                        let want = BLOCK.min((*len - done) as usize);
                        file.read_exact_at(&mut block[..want], offset + done)?;
                        digest.update(&block[..want]);
                        done += want as u64;
                    }
                }
            }
            Ok::<u64, io::Error>(digest.finalize())
        });
        let sum = sum.await.map_err(io::Error::other)??;
        Ok(base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes()))
    }

    /// A body that gives these bytes.
    pub fn body(&self, progress: Option<Progress>) -> Outgoing {
        match self {
            Content::Empty => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Content::Bytes(bytes) => {
                if let Some(progress) = progress {
                    progress(bytes.len() as u64);
                }
                Full::new(bytes.clone())
                    .map_err(|never| match never {})
                    .boxed_unsync()
            }
            Content::Range { file, offset, len } => {
                let (file, end) = (file.clone(), offset + len);
                let blocks = stream::try_unfold(*offset, move |at| {
                    let (file, progress) = (file.clone(), progress.clone());
                    async move {
                        if at == end {
                            return Ok(None);
                        }
                        let want = BLOCK.min((end - at) as usize);
                        let block = tokio::task::spawn_blocking(move || {
                            let mut block = vec![0; want];
                            file.read_exact_at(&mut block, at)
                                .map(|()| Bytes::from(block))
                        });
                        let block = block.await.map_err(io::Error::other)??;
                        if let Some(progress) = progress {
                            progress(want as u64);
                        }
                        Ok(Some((block, at + want as u64)))
                    }
                });
                StreamBody::new(blocks.map_ok(Frame::data)).boxed_unsync()
            }
        }
    }
}
