//! The idealised server: the wire that we use (hyper, s3s, SigV4) over a storage that drops what it gets and makes up what is read.
//! What minikv costs beyond it is minikv's own; `bench/run.sh` measures both in the same run.
//!
//! `null-s3 HOST:PORT ACCESS SECRET [--md5]`; with `--md5` the ETag is computed, as every server has to.
//! GET answers as many bytes as the last PUT brought, so that a reader finds what it expects.

use bytes::Bytes;
use futures::StreamExt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, auth::SimpleAuth, s3_error};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Default)]
struct Null {
    md5: bool,
    size: AtomicUsize,
}

const NO_MD5: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// Pieces of what a GET answers.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

#[async_trait::async_trait]
impl S3 for Null {
    async fn create_bucket(
        &self,
        _: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let mut md5 = self.md5.then(Md5::new);
        let mut size = 0;
        if let Some(mut body) = request.input.body {
            while let Some(piece) = body.next().await {
                let piece = piece.map_err(|_| s3_error!(IncompleteBody))?;
                size += piece.len();
                if let Some(md5) = &mut md5 {
                    md5.update(&piece);
                }
            }
        }
        self.size.store(size, Relaxed);
        let etag = md5.map_or(NO_MD5.to_owned(), |md5| {
            md5.finalize().iter().map(|b| format!("{b:02x}")).collect()
        });
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        _: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let size = self.size.load(Relaxed);
        let pieces = (0..size.div_ceil(ZEROS.len())).map(move |n| {
            let length = (size - n * ZEROS.len()).min(ZEROS.len());
            Ok::<_, std::io::Error>(Bytes::from_static(ZEROS.get(..length).unwrap_or_default()))
        });
        let body = StreamingBlob::wrap(futures::stream::iter(pieces));
        Ok(S3Response::new(GetObjectOutput {
            body: Some(body),
            content_length: i64::try_from(size).ok(),
            e_tag: Some(ETag::Strong(NO_MD5.to_owned())),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        _: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(self.size.load(Relaxed)).ok(),
            e_tag: Some(ETag::Strong(NO_MD5.to_owned())),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        _: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments: Vec<_> = std::env::args().skip(1).collect();
    let md5 = arguments.pop_if(|last| last == "--md5").is_some();
    let [address, access, secret] = <[String; 3]>::try_from(arguments)
        .map_err(|_| "usage: null-s3 HOST:PORT ACCESS SECRET [--md5]")?;
    let mut builder = S3ServiceBuilder::new(Null {
        md5,
        ..Null::default()
    });
    builder.set_auth(SimpleAuth::from_single(access, secret));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind(&address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection failed: {error}");
            }
        });
    }
}
