//! The promises of a simulated disk. What works in any file system is in `basics`, what a crash leaves in `crash`, what
//! goes wrong on demand in `fault`.

#![allow(clippy::unwrap_used)]

mod basics;
mod crash;
mod fault;

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::executor::block_on;

use super::*;
use crate::env::disk::{File, Open, Space};
use crate::env::{clock, sim};

const P: usize = 4096;

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.plant_dir("/d").unwrap();
    disk
}

fn env(disk: &SimDisk) -> Arc<dyn crate::env::disk::Disk> {
    disk.env().disk
}

fn create(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    env(disk).open(path.as_ref(), Open::CreateNew).unwrap()
}

fn open(disk: &SimDisk, path: &str) -> Arc<dyn File> {
    env(disk).open(path.as_ref(), Open::ReadWrite).unwrap()
}

fn write(file: &Arc<dyn File>, at: u64, bytes: impl Into<Bytes>) -> io::Result<()> {
    block_on(file.write_at(&[bytes.into()], at))
}

fn sync(file: &Arc<dyn File>) -> io::Result<()> {
    block_on(file.sync_data())
}

fn sync_dir(disk: &SimDisk, dir: &str) -> io::Result<()> {
    block_on(env(disk).sync_dir(dir.as_ref()))
}

fn page(fill: u8) -> Vec<u8> {
    vec![fill; P]
}

/// A durable file with one page of `a`s.
fn durable_file(disk: &SimDisk) -> Arc<dyn File> {
    disk.plant("/d/f", &page(b'a')).unwrap();
    open(disk, "/d/f")
}

fn kind(result: io::Result<()>) -> io::ErrorKind {
    result.unwrap_err().kind()
}
