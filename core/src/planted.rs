//! Bugs planted on purpose, to see whether the suite notices them.
//!
//! With the feature `planted`, which the shipped binary refuses to be built with, one of them can be switched on by name at
//! run time: `simulate --plant BUG` of minikv-tests. Without it, `planted!("...")` is `false` and its branch is gone.
//! Which there are, and what finds them: docs/reliability.md.

/// Whether this build has planted bugs in it.
pub const PLANTED: bool = cfg!(feature = "planted");

/// Whether the named bug is switched on.
#[macro_export]
#[doc(hidden)]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is_on($name)
    };
}

/// The switch.
#[cfg(feature = "planted")]
mod switch {
    use std::sync::OnceLock;

    static ON: OnceLock<String> = OnceLock::new();

    /// Switches one bug on for the rest of the process. False: another one is on already.
    pub fn plant(name: &str) -> bool {
        ON.set(name.to_owned()).is_ok()
    }

    #[doc(hidden)]
    pub fn is_on(name: &str) -> bool {
        ON.get().is_some_and(|on| on == name)
    }
}

#[cfg(feature = "planted")]
pub use switch::{is_on, plant};

#[cfg(not(feature = "planted"))]
#[doc(hidden)]
#[inline(always)]
pub const fn is_on(_: &str) -> bool {
    false
}
