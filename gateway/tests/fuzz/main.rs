//! The fuzz targets, driven without a fuzzer: every file of `fuzz/corpus`, then mutations of them from a seed.
//!
//! This finds what a few seconds on every run can find, on stable Rust. `MINIKV_FUZZ_SECONDS=600` makes it a fuzzer
//! for a while, blind to coverage; `MINIKV_FUZZ_SEED` repeats a run, `MINIKV_FUZZ_TARGET` picks one target. What makes
//! a target panic is written to `MINIKV_FUZZ_FINDINGS`, or to the temporary directory, and named: put it into the
//! corpus, and it is a test. With a nightly toolchain `cargo fuzz run TARGET` drives the same functions by coverage.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    missing_docs,
    reason = "a driver in real time"
)]

#[path = "../../../fuzz/targets.rs"]
mod targets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use targets::{TARGETS, Target};

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(name);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|_| panic!("no corpus {}", dir.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.clone(), std::fs::read(file).unwrap()))
        .collect()
}

/// xorshift: the same seed, the same inputs.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

/// What parsers stumble over.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\0",
    b"%",
    b"%00",
    b"%2F",
    b"+",
    b"=",
    b"&",
    b";",
    b",",
    b":",
    b"/",
    b"\"",
    b"*",
    b"-",
    b"<",
    b">",
    b"<![CDATA[",
    b"]]>",
    b"bytes=",
    b"18446744073709551615",
    b"-1",
    b"\xc3\xa4",
];

fn mutate(dice: &mut Dice, files: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut data = files[dice.roll(files.len())].1.clone();
    for _ in 0..=dice.roll(6) {
        let (at, len) = (dice.roll(data.len() + 1), data.len());
        match dice.roll(8) {
            0 if at < len => data[at] ^= 1 << dice.roll(8),
            1 if at < len => data[at] = dice.roll(256) as u8,
            2 if at < len => drop(data.remove(at)),
            3 => data.insert(at, dice.roll(256) as u8),
            4 => drop(data.splice(at..at, WORDS[dice.roll(WORDS.len())].iter().copied())),
            5 => data.truncate(at),
            6 => {
                let end = (at + 1 + dice.roll(16)).min(len);
                let copy = data[at.min(end)..end].to_vec();
                let to = dice.roll(data.len() + 1);
                drop(data.splice(to..to, copy));
            }
            _ => {
                let other = &files[dice.roll(files.len())].1;
                let from = dice.roll(other.len() + 1);
                data.truncate(at);
                data.extend_from_slice(&other[from..]);
            }
        }
        data.truncate(64 << 10);
    }
    data
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(otherwise, |text| text.parse().unwrap())
}

/// A target takes this input, or the input is kept and named.
fn try_input((name, target): Target, data: &[u8]) {
    if std::panic::catch_unwind(|| target(data)).is_err() {
        let dir = std::env::var("MINIKV_FUZZ_FINDINGS")
            .map_or_else(|_| std::env::temp_dir(), PathBuf::from);
        let file = dir.join(format!("{name}-{:x}", crc(data)));
        std::fs::write(&file, data).unwrap();
        panic!(
            "{name} does not take {}: {:?}",
            file.display(),
            String::from_utf8_lossy(data)
        );
    }
}

fn crc(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// What was found once is never found again: each finding is a file of the corpus.
#[test]
fn every_file_of_the_corpus_is_taken() {
    for target in TARGETS {
        let files = corpus(target.0);
        assert!(!files.is_empty(), "{} has no corpus", target.0);
        for (file, data) in files {
            println!("{}", file.display());
            try_input(target, &data);
        }
        for empty in [&[][..], &[0], &[0xff; 9]] {
            try_input(target, empty);
        }
    }
}

/// Parsers take what nobody would send: they refuse it, and keep their promises.
#[test]
fn mutations_of_the_corpus_are_taken() {
    let seconds = setting("MINIKV_FUZZ_SECONDS", 0);
    let each = if seconds == 0 {
        Duration::from_millis(500)
    } else {
        Duration::from_secs(seconds)
    };
    let seed = setting("MINIKV_FUZZ_SEED", 1);
    let only = std::env::var("MINIKV_FUZZ_TARGET").ok();
    for target in TARGETS {
        if only.as_deref().is_some_and(|only| only != target.0) {
            continue;
        }
        let files = corpus(target.0);
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (began, mut inputs) = (Instant::now(), 0_u64);
        while began.elapsed() < each {
            for _ in 0..64 {
                try_input(target, &mutate(&mut dice, &files));
            }
            inputs += 64;
        }
        println!(
            "{}: {inputs} inputs in {:.1} s, seed {seed}",
            target.0,
            began.elapsed().as_secs_f64()
        );
    }
}
