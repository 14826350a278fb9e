//! Open files: raises the soft limit, so that thousands of connections do not starve the log of file descriptors.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one and gives it. Many systems start processes with 1024.
pub fn raise_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (Some(soft), hard) = (limit.current, limit.maximum) else {
        return u64::MAX;
    };
    // Without a hard limit the kernel's own (fs.nr_open, 1,048,576 by default) still holds.
    let wanted = hard.unwrap_or(1 << 20).min(1 << 20);
    if wanted > soft
        && setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(wanted),
                maximum: hard,
            },
        )
        .is_ok()
    {
        return wanted;
    }
    soft
}
