//! The checksum of everything in the log: CRC32C (Castagnoli), in hardware where there is any.

/// CRC32C of `bytes`.
#[inline]
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    // The 32 bits come in the low half.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// What marks everything one opening of the log wrote: secret, and different for each opening.
///
/// Secret, because recovery looks for headers in places that users filled: whoever uploads bytes that look like one
/// must not be able to guess it. Different, because behind a cut tail old bytes stay readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp(pub u64);

impl Stamp {
    /// The stamp of the opening `incarnation` of the log `log_id`.
    pub(super) fn of(log_id: u64, incarnation: u32) -> Stamp {
        Stamp(xxhash_rust::xxh3::xxh3_64_with_seed(
            &incarnation.to_le_bytes(),
            log_id,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both are in the format: written by one version, checked by the next.
    #[test]
    fn checksum_and_stamp_never_change() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(b""), 0);
        assert_eq!(Stamp::of(7, 1), Stamp::of(7, 1));
        assert_ne!(Stamp::of(7, 1), Stamp::of(7, 2));
        assert_ne!(Stamp::of(7, 1), Stamp::of(8, 1));
    }
}
