//! What a write will do with its body, decided before the first byte of it is read.
//!
//! Always true: a declared length is kept to the byte, or nothing is written; what is too large is refused before a
//! byte of it is stored, when its length is declared.

/// Largest single PUT or part, as in S3.
pub const MAX_BODY: u64 = 5 << 30;

/// How the body goes to the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutPlan {
    /// Collected and sent with the command; its length is at most the inline limit.
    Inline {
        /// Its length.
        len: u64,
    },
    /// Streamed into a stage.
    Staged {
        /// Its length.
        len: u64,
    },
    /// Length unknown: collected, and moved to a stage when it outgrows the inline limit.
    Undeclared,
}

/// The body is larger than S3 allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("Your proposed upload exceeds the maximum allowed size")]
pub struct TooLarge;

impl PutPlan {
    /// From the declared length.
    pub fn new(declared: Option<u64>, inline_limit: usize) -> Result<PutPlan, TooLarge> {
        match declared {
            None => Ok(PutPlan::Undeclared),
            Some(len) if len > MAX_BODY => Err(TooLarge),
            Some(len) if len <= inline_limit as u64 => Ok(PutPlan::Inline { len }),
            Some(len) => Ok(PutPlan::Staged { len }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_decides_how_a_body_travels() {
        let limit = 64 << 10;
        assert_eq!(PutPlan::new(Some(0), limit), Ok(PutPlan::Inline { len: 0 }));
        assert_eq!(
            PutPlan::new(Some(65_536), limit),
            Ok(PutPlan::Inline { len: 65_536 })
        );
        assert_eq!(
            PutPlan::new(Some(65_537), limit),
            Ok(PutPlan::Staged { len: 65_537 })
        );
        assert_eq!(
            PutPlan::new(Some(MAX_BODY), limit),
            Ok(PutPlan::Staged { len: MAX_BODY })
        );
        assert_eq!(PutPlan::new(Some(MAX_BODY + 1), limit), Err(TooLarge));
        assert_eq!(PutPlan::new(Some(u64::MAX), limit), Err(TooLarge));
        assert_eq!(PutPlan::new(None, limit), Ok(PutPlan::Undeclared));
    }
}
