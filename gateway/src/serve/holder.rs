//! Who holds a data directory? Read from the kernel's own table of locks, so that the answer cannot be stale as a
//! pid file is.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The process that holds the directory's lock, if there is one and we may know it (not from inside a container).
pub fn of(data_dir: &Path) -> Option<u32> {
    let lock = std::fs::metadata(data_dir.join("lock")).ok()?;
    let (major, minor) = (rustix::fs::major(lock.dev()), rustix::fs::minor(lock.dev()));
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    holder(&table, &format!("{major:02x}:{minor:02x}:{}", lock.ino()))
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`
fn holder(table: &str, file: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.nth(1) == Some("FLOCK")).then_some(())?;
        let pid = words.nth(2)?.parse().ok()?;
        (words.next()? == file && pid != 0).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A user who starts minikv twice is told which process to look at.
    #[test]
    fn lock_names_its_process() {
        let table = "1: POSIX  ADVISORY  WRITE 11 fd:01:5678 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 fd:01:9999 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 33 fd:01:5678 0 EOF\n";
        assert_eq!(holder(table, "fd:01:5678"), Some(33));
        assert_eq!(holder(table, "fd:01:1"), None);

        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(dir.path()), None);
        let file = std::fs::File::create(dir.path().join("lock")).unwrap();
        assert_eq!(of(dir.path()), None);
        file.try_lock().unwrap();
        assert_eq!(of(dir.path()), Some(std::process::id()));
    }
}
