#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

/// Text in long stretches, noise in others.
fn mixed(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if (bytes.len() / 200_000) % 2 == 0 {
            bytes.extend_from_slice(format!("line {} of a log file\n", state % 1000).as_bytes());
        } else {
            bytes.extend_from_slice(&state.to_le_bytes());
        }
    }
    bytes.truncate(len);
    bytes
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 88172645463325252_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(len)
    .collect()
}

fn pack(codec: Codec, plain: &[u8], at_once: usize) -> Vec<u8> {
    let mut packer = Packer::new(codec);
    let mut packed = Vec::new();
    for bytes in plain.chunks(at_once) {
        packer.update(bytes);
        packed.extend_from_slice(&packer.take());
    }
    let (rest, len) = packer.finish();
    packed.extend_from_slice(&rest);
    assert_eq!(packed.len() as u64, len);
    packed
}

fn unpack(
    stretches: &[Stretch],
    packed: &[u8],
    range: std::ops::Range<u64>,
    at_once: usize,
) -> Result<Vec<u8>, BadBlock> {
    let mut tables = Tables::new(stretches.iter().copied(), &range).unwrap();
    let slice = |range: std::ops::Range<u64>| {
        let len = packed.len() as u64;
        &packed[range.start.min(len) as usize..range.end.min(len) as usize]
    };
    for (number, needed) in tables.needed() {
        tables.learn(number, slice(needed))?;
    }
    let (wanted, mut unpacker) = tables.unpacker();
    let mut plain = Vec::new();
    for bytes in slice(wanted).chunks(at_once) {
        unpacker.push(bytes);
        while let Some(bytes) = unpacker.unpack_next()? {
            plain.extend_from_slice(&bytes);
        }
    }
    Ok(plain)
}

fn whole(codec: Codec, plain: &[u8], packed: &[u8]) -> Vec<Stretch> {
    vec![Stretch {
        codec: Some(codec),
        plain: plain.len() as u64,
        packed: packed.len() as u64,
    }]
}

/// Old objects stay readable: the format is final.
#[test]
fn the_bytes_of_a_block_never_change() {
    let packed = pack(Codec::Lz4, &[b'a'; 100], 1000);
    let golden = "0c00000099ada35e1f6101004a6061616161616114000000";
    assert_eq!(crate::object::etag::hex(&packed), golden);
    let raw = pack(Codec::Zstd, b"0123456789", 1000);
    let golden = "0a0000809e060c283031323334353637383912000000";
    assert_eq!(crate::object::etag::hex(&raw), golden);
}

/// 12 bytes for each 128 KiB, and no more than a few tries.
#[test]
fn what_cannot_be_compressed_grows_by_twelve_bytes_a_block() {
    for codec in [Codec::Lz4, Codec::Zstd] {
        for len in [1, 100, BLOCK, BLOCK + 1, 10 * BLOCK] {
            let plain = noise(len);
            let packed = pack(codec, &plain, 1 << 20);
            assert_eq!(
                packed.len(),
                len + 12 * len.div_ceil(BLOCK),
                "{codec} {len}"
            );
        }
        assert!(!is_worth_it(codec, &noise(1 << 20)));
        assert!(!is_worth_it(codec, b"tiny"));
        assert!(is_worth_it(codec, &mixed(1 << 20, 1)));
    }
}

#[test]
fn text_shrinks() {
    let plain = mixed(190_000, 3);
    for (codec, parts) in [(Codec::Lz4, 2), (Codec::Zstd, 4)] {
        let packed = pack(codec, &plain, 1 << 20);
        assert!(
            packed.len() * parts < plain.len(),
            "{codec}: {}",
            packed.len()
        );
    }
}

/// Every byte counts: a changed one is an error, or lies where it does not matter; the plain bytes are never others.
#[test]
fn what_was_changed_is_refused() {
    let plain = mixed(3 * BLOCK + 500, 7);
    for codec in [Codec::Lz4, Codec::Zstd] {
        let packed = pack(codec, &plain, 1 << 20);
        let stretches = whole(codec, &plain, &packed);
        for at in (0..packed.len())
            .step_by(97)
            .chain(packed.len() - 20..packed.len())
        {
            let mut changed = packed.clone();
            changed[at] ^= 0x10;
            for range in [0..plain.len() as u64, 200_000..300_000] {
                let expected = &plain[range.start as usize..range.end as usize];
                match unpack(&stretches, &changed, range, 1 << 20) {
                    Err(_) => {}
                    Ok(found) => assert!(
                        expected.starts_with(&found),
                        "{codec}: byte {at} gave other bytes"
                    ),
                }
            }
        }
    }
}

/// A block that says it is small and is not, and one of another stretch.
#[test]
fn a_block_never_becomes_longer_than_its_plain_length() {
    let bomb = pack(Codec::Zstd, &vec![0; BLOCK], 1 << 20);
    let short = [Stretch {
        codec: Some(Codec::Zstd),
        plain: 1000,
        packed: bomb.len() as u64,
    }];
    assert!(unpack(&short, &bomb, 0..1000, 1 << 20).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the sizes of the content, of its parts and of what arrives at a time, packed or not.
    #[test]
    fn every_range_is_the_plain_bytes(
        parts in proptest::collection::vec((0_usize..600_000, 0_u32..3, any::<u64>()), 1..4),
        (a, b) in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        feed in 1_usize..300_000,
        written in 1_usize..300_000,
    ) {
        let (mut plain, mut packed, mut stretches) = (Vec::new(), Vec::new(), Vec::new());
        for (len, codec, seed) in parts {
            let bytes = mixed(len, seed);
            let codec = Codec::of_number(codec).ok();
            let stored = match codec {
                Some(codec) => pack(codec, &bytes, written),
                None => bytes.clone(),
            };
            stretches.push(Stretch { codec, plain: len as u64, packed: stored.len() as u64 });
            plain.extend_from_slice(&bytes);
            packed.extend_from_slice(&stored);
        }
        let (a, b) = (a.index(plain.len() + 1), b.index(plain.len() + 1));
        let range = a.min(b)..a.max(b);
        prop_assume!(!range.is_empty());
        let found = unpack(&stretches, &packed, range.start as u64..range.end as u64, feed).unwrap();
        prop_assert_eq!(&found, &plain[range]);
    }

    /// Lengths and tables that are not true: an error or a beginning of something, no panic and no endless room.
    #[test]
    fn nonsense_is_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        codec in 0_u32..3,
        plain in 0_u64..1_000_000,
        range in (0_u64..1_000_000, 1_u64..1_000_000),
    ) {
        let stretch = Stretch { codec: Codec::of_number(codec).ok(), plain, packed: bytes.len() as u64 };
        let range = range.0..range.0 + range.1;
        if let Some(mut tables) = Tables::new([stretch], &range) {
            for (number, needed) in tables.needed() {
                let (from, to) = (needed.start as usize, (needed.end as usize).min(bytes.len()));
                if tables.learn(number, &bytes[from.min(to)..to]).is_err() {
                    return Ok(());
                }
            }
            let (_, mut unpacker) = tables.unpacker();
            unpacker.push(&bytes);
            while let Ok(Some(out)) = unpacker.unpack_next() {
                prop_assert!(out.len() <= BLOCK.max(bytes.len()));
            }
        }
    }
}
