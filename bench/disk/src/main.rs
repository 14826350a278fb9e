//! What the writes of a log and the reads of objects cost on this disk, by the way they are made.
//!
//! `bench-disk DIR [TOTAL-MIB]` writes files of its own in DIR, removes them, and prints two tables: appending batches, each made durable
//! before the next, and reading at random. CPU is user and system time of all threads of this process, io_uring's workers included.
//! The median of three runs, the ways in turn.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use io_uring::{IoUring, opcode, squeue, types};

type Failed = Box<dyn std::error::Error>;

const BLOCK: usize = 4096;
const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;

/// How room is made before it is written to.
#[derive(Clone, Copy, PartialEq)]
enum Room {
    /// The file grows by writing.
    Grows,
    /// posix_fallocate.
    Reserved,
    /// Written with zeros before, and fsynced: what recycling a segment would give.
    Written,
}

#[derive(Clone, Copy, PartialEq)]
enum Cache {
    Through,
    /// O_DIRECT, from a buffer that the bytes are copied to first.
    Past,
}

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Plain,
    Uring,
}

/// One run's cost.
#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    wall: f64,
}

/// Memory whose address is a multiple of a block.
struct Aligned {
    memory: Vec<u8>,
    skip: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        let memory = vec![1; len + BLOCK];
        let skip = memory.as_ptr().align_offset(BLOCK);
        Aligned { memory, skip, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.memory[self.skip..self.skip + self.len]
    }
}

fn cpu() -> f64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

fn measured(work: impl FnOnce() -> Result<(), Failed>) -> Result<Cost, Failed> {
    let (began, before) = (Instant::now(), cpu());
    work()?;
    Ok(Cost {
        cpu: cpu() - before,
        wall: began.elapsed().as_secs_f64(),
    })
}

fn median(mut costs: Vec<Cost>) -> Cost {
    costs.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    costs[costs.len() / 2]
}

/// Submits what is queued and waits for all of it.
fn finish(ring: &mut IoUring, count: usize) -> Result<(), Failed> {
    ring.submit_and_wait(count)?;
    for done in ring.completion() {
        if done.result() < 0 {
            return Err(std::io::Error::from_raw_os_error(-done.result()).into());
        }
    }
    Ok(())
}

fn append(
    path: &Path,
    total: usize,
    batch: usize,
    room: Room,
    cache: Cache,
    call: Call,
) -> Result<Cost, Failed> {
    let _ = std::fs::remove_file(path);
    let file = File::create_new(path)?;
    match room {
        Room::Grows => {}
        Room::Reserved => {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, total as u64)?
        }
        Room::Written => {
            let zeros = vec![0; 4 << 20];
            for at in (0..total).step_by(zeros.len()) {
                file.write_all_at(&zeros[..zeros.len().min(total - at)], at as u64)?;
            }
            // Its pages are dropped, so that no way finds them there already.
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    file.sync_all()?;
    let flags = if cache == Cache::Past { O_DIRECT } else { 0 };
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    // Where the bytes come from: more than a cache holds.
    let source = vec![7_u8; (32 << 20) + batch];
    let mut buffer = Aligned::new(batch);
    let mut ring = IoUring::new(8)?;
    let cost = measured(|| {
        for at in (0..total - batch + 1).step_by(batch) {
            let from = at % (32 << 20);
            let mut bytes = &source[from..from + batch];
            if cache == Cache::Past {
                buffer.bytes().copy_from_slice(bytes);
                bytes = buffer.bytes();
            }
            match call {
                Call::Plain => {
                    file.write_all_at(bytes, at as u64)?;
                    rustix::fs::fdatasync(&file)?;
                }
                Call::Uring => {
                    let fd = types::Fd(file.as_raw_fd());
                    let write = opcode::Write::new(fd, bytes.as_ptr(), bytes.len() as u32)
                        .offset(at as u64)
                        .build();
                    let sync = opcode::Fsync::new(fd)
                        .flags(types::FsyncFlags::DATASYNC)
                        .build();
                    // SAFETY: `bytes` and the file live until both are finished, below.
                    unsafe {
                        ring.submission()
                            .push_multiple(&[write.flags(squeue::Flags::IO_LINK), sync])?
                    };
                    finish(&mut ring, 2)?;
                }
            }
        }
        Ok(())
    })?;
    std::fs::remove_file(path)?;
    Ok(cost)
}

fn read(
    file: &File,
    len: usize,
    size: usize,
    count: usize,
    depth: usize,
    call: Call,
) -> Result<Cost, Failed> {
    let mut buffers: Vec<Vec<u8>> = vec![vec![0; size]; depth];
    let mut ring = IoUring::new(64)?;
    // A step that is coprime to the number of places: each once, in no order that reads ahead.
    let places = len / size;
    let place = |n: usize| ((n * 7919) % places * size) as u64;
    measured(|| {
        for first in (0..count).step_by(depth) {
            match call {
                Call::Plain => {
                    for (n, buffer) in buffers.iter_mut().enumerate() {
                        file.read_exact_at(buffer, place(first + n))?;
                    }
                }
                Call::Uring => {
                    let fd = types::Fd(file.as_raw_fd());
                    for (n, buffer) in buffers.iter_mut().enumerate() {
                        let read = opcode::Read::new(fd, buffer.as_mut_ptr(), size as u32)
                            .offset(place(first + n))
                            .build();
                        // SAFETY: `buffers` and the file live until all are finished, below.
                        unsafe { ring.submission().push(&read)? };
                    }
                    finish(&mut ring, depth)?;
                }
            }
        }
        Ok(())
    })
}

fn main() -> Result<(), Failed> {
    let mut args = std::env::args_os().skip(1);
    let dir = args.next().ok_or("usage: bench-disk DIR [TOTAL-MIB]")?;
    let total = match args.next() {
        Some(text) => text.to_string_lossy().parse::<usize>()? << 20,
        None => 256 << 20,
    };
    let path = Path::new(&dir).join("bench-disk.tmp");

    println!("appending, each batch durable before the next:");
    println!(
        "{:>8}  {:9} {:8} {:8} {:>9} {:>10} {:>9}",
        "batch", "room", "cache", "call", "us CPU", "CPU-s/GB", "us wall"
    );
    for batch in [4 << 10, 36 << 10, 1 << 20, 4 << 20] {
        let bytes = (total.min(batch * 2000) / batch * batch).max(batch);
        let mut ways = Vec::new();
        for room in [Room::Grows, Room::Reserved, Room::Written] {
            for cache in [Cache::Through, Cache::Past] {
                for call in [Call::Plain, Call::Uring] {
                    ways.push((room, cache, call));
                }
            }
        }
        let mut costs = vec![Vec::new(); ways.len()];
        for _ in 0..3 {
            for (at, (room, cache, call)) in ways.iter().enumerate() {
                costs[at].push(append(&path, bytes, batch, *room, *cache, *call)?);
            }
        }
        for ((room, cache, call), costs) in ways.into_iter().zip(costs) {
            let (cost, times) = (median(costs), (bytes / batch) as f64);
            println!(
                "{:>4} KiB  {:9} {:8} {:8} {:>9.1} {:>10.3} {:>9.0}",
                batch >> 10,
                match room {
                    Room::Grows => "grows",
                    Room::Reserved => "reserved",
                    Room::Written => "written",
                },
                match cache {
                    Cache::Through => "through",
                    Cache::Past => "past",
                },
                match call {
                    Call::Plain => "plain",
                    Call::Uring => "io_uring",
                },
                cost.cpu / times * 1e6,
                cost.cpu / (bytes as f64 / 1e9),
                cost.wall / times * 1e6,
            );
        }
    }

    println!("\nreading at random:");
    println!(
        "{:>8}  {:8} {:>6} {:8} {:>9} {:>9}",
        "size", "cached", "depth", "call", "us CPU", "us wall"
    );
    let file = File::create_new(&path)?;
    let piece = vec![5_u8; 4 << 20];
    for at in (0..total).step_by(piece.len()) {
        file.write_all_at(&piece[..piece.len().min(total - at)], at as u64)?;
    }
    file.sync_all()?;
    drop(file);
    let file = File::open(&path)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
    for size in [4 << 10, 1 << 20] {
        let count = (total / size).min(8192) / 8 * 8;
        for cached in [true, false] {
            for depth in [1, 8] {
                for call in [Call::Plain, Call::Uring] {
                    let mut costs = Vec::new();
                    for _ in 0..3 {
                        if cached {
                            // Once before, so that all of it is there.
                            read(&file, total, size, count, depth, Call::Plain)?;
                        } else {
                            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
                        }
                        costs.push(read(&file, total, size, count, depth, call)?);
                    }
                    let cost = median(costs);
                    println!(
                        "{:>4} KiB  {:8} {:>6} {:8} {:>9.1} {:>9.1}",
                        size >> 10,
                        if cached { "yes" } else { "no" },
                        depth,
                        match call {
                            Call::Plain => "pread",
                            Call::Uring => "io_uring",
                        },
                        cost.cpu / count as f64 * 1e6,
                        cost.wall / count as f64 * 1e6,
                    );
                }
            }
        }
    }
    std::fs::remove_file(&path)?;
    Ok(())
}
