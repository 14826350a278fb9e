//! Content becomes a body.
//!
//! Always true: the first bytes are there before an answer begins, so that damage or a lost leader that shows at once is
//! a 500 or 503 and not a 200 that breaks off. What breaks later ends the stream with an error, and the connection with it.

use std::ops::Range;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, stream};
use minikv_core::kv::{ContentStream, KvError, Version};

use super::Store;
use super::payload::{Payload, PayloadError, Source};
use crate::object::checksum::Claims;
use crate::object::compression::{BadBlock, Unpacker};
use crate::object::encryption::keys::DataKey;
use crate::object::encryption::pieces::{Opener, Stretch, Unopened};

/// Bytes of a version on their way out.
pub enum Content {
    /// All of them are here.
    Bytes(Bytes),
    /// The first ones are here, the others follow.
    Stream {
        /// The first ones.
        first: Bytes,
        /// The others.
        rest: ContentStream,
        /// All together.
        len: u64,
    },
}

impl Content {
    /// Bytes in all.
    pub fn len(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Stream { len, .. } => *len,
        }
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it, at once: only for what is small.
    pub async fn collect(self) -> Result<Bytes, KvError> {
        match self {
            Content::Bytes(bytes) => Ok(bytes),
            Content::Stream {
                first,
                mut rest,
                len,
            } => {
                let mut all = BytesMut::with_capacity(len as usize);
                all.extend_from_slice(&first);
                while let Some(bytes) = rest.next().await {
                    all.extend_from_slice(&bytes?);
                }
                Ok(all.freeze())
            }
        }
    }

    /// Packed content becomes the `len` plain bytes that were asked for. The first block was unpacked before this answers,
    /// so that a damaged one at the beginning is no 200.
    pub async fn unpacked(
        self,
        unpacker: Unpacker,
        len: u64,
        key: &str,
    ) -> Result<Content, KvError> {
        let mut rest = unpacked(self.into_stream(), unpacker, key.to_owned());
        let first = rest.next().await.unwrap_or_else(|| Err(short()))?;
        if first.len() as u64 == len {
            Ok(Content::Bytes(first))
        } else {
            Ok(Content::Stream { first, rest, len })
        }
    }

    fn into_stream(self) -> ContentStream {
        match self {
            Content::Bytes(bytes) => stream::once(async { Ok(bytes) }).boxed(),
            Content::Stream { first, rest, .. } => {
                stream::once(async { Ok(first) }).chain(rest).boxed()
            }
        }
    }

    /// What is read becomes what is written: a copy.
    pub fn into_payload(self) -> Payload {
        match self {
            Content::Bytes(bytes) => Payload::from_bytes(bytes),
            Content::Stream { first, rest, len } => Payload::new(
                Reread {
                    first: Some(first),
                    rest,
                    left: len,
                },
                Some(len),
                Claims::default(),
            ),
        }
    }
}

struct Reread {
    first: Option<Bytes>,
    rest: ContentStream,
    left: u64,
}

impl Source for Reread {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        let next = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => futures::ready!(self.rest.poll_next_unpin(cx)),
        };
        Poll::Ready(match next {
            Some(Ok(bytes)) => {
                self.left = self.left.saturating_sub(bytes.len() as u64);
                Some(Ok(bytes))
            }
            Some(Err(error)) => Some(Err(PayloadError::Source(error))),
            None if self.left > 0 => Some(Err(PayloadError::Incomplete)),
            None => None,
        })
    }
}

impl Store {
    /// The bytes `range` of a version; it lies within `0..size`.
    pub async fn fetch(&self, version: &Version, range: Range<u64>) -> Result<Content, KvError> {
        let len = range.end - range.start;
        if len == 0 {
            return Ok(Content::Bytes(Bytes::new()));
        }
        if version.new.size <= self.kv().inline_limit() as u64
            && let Some(bytes) = self.kv().small_content(version).await?
        {
            let whole = bytes.len() as u64 == version.new.size;
            if !whole {
                return Err(KvError::Damaged(
                    "the content has another length than its record".to_owned(),
                ));
            }
            return Ok(Content::Bytes(
                bytes.slice(range.start as usize..range.end as usize),
            ));
        }
        let mut rest = self.kv().content(version, range);
        let first = rest.next().await.unwrap_or_else(|| Err(short()))?;
        if first.len() as u64 == len {
            Ok(Content::Bytes(first))
        } else {
            Ok(Content::Stream { first, rest, len })
        }
    }

    /// The plain bytes `range` of an encrypted version, which lies in these stretches. The first piece was opened before
    /// this answers, so that a wrong key or a changed piece at the beginning is no 200.
    pub async fn fetch_sealed(
        &self,
        version: &Version,
        data_key: DataKey,
        stretches: Vec<Stretch>,
        range: Range<u64>,
    ) -> Result<Content, KvError> {
        let len = range.end - range.start;
        if len == 0 {
            return Ok(Content::Bytes(Bytes::new()));
        }
        let (on_disk, opener) = Opener::new(data_key, stretches, range);
        if on_disk.end > version.new.size {
            return Err(short());
        }
        let sealed = self.fetch(version, on_disk).await?.into_stream();
        let key = String::from_utf8_lossy(&version.key).into_owned();
        let mut rest = opened(sealed, opener, key);
        let first = rest.next().await.unwrap_or_else(|| Err(short()))?;
        if first.len() as u64 == len {
            Ok(Content::Bytes(first))
        } else {
            Ok(Content::Stream { first, rest, len })
        }
    }
}

fn short() -> KvError {
    KvError::Damaged("the content is shorter than its record says".to_owned())
}

/// Sealed bytes become plain ones, a piece at a time: some 20 us of work, then others of this thread may go on.
fn opened(sealed: ContentStream, opener: Opener, key: String) -> ContentStream {
    let state = (sealed, opener, key);
    stream::try_unfold(state, |(mut sealed, mut opener, key)| async move {
        loop {
            let damaged = |cause: Unopened| KvError::Damaged(format!("{key}: {cause}"));
            if let Some(plain) = opener.open_next().map_err(damaged)? {
                return Ok(Some((plain, (sealed, opener, key))));
            }
            match sealed.next().await {
                Some(bytes) => opener.push(&bytes?),
                None => return Ok(None),
            }
        }
    })
    .boxed()
}

/// Packed bytes become plain ones, a block at a time.
fn unpacked(packed: ContentStream, unpacker: Unpacker, key: String) -> ContentStream {
    let state = (packed, unpacker, key);
    stream::try_unfold(state, |(mut packed, mut unpacker, key)| async move {
        loop {
            let damaged = |cause: BadBlock| KvError::Damaged(format!("{key}: {cause}"));
            if let Some(plain) = unpacker.unpack_next().map_err(damaged)? {
                return Ok(Some((plain, (packed, unpacker, key))));
            }
            match packed.next().await {
                Some(bytes) => unpacker.push(&bytes?),
                None if unpacker.is_done() => return Ok(None),
                None => return Err(short()),
            }
        }
    })
    .boxed()
}
