//! Files of runs that were killed. A run holds a lock on its segment, which the kernel gives back with the process, whatever its end was.

use crate::sys;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::Segment;

pub(super) const PREFIX: &str = "trapline-";
pub(super) const SEGMENT: &str = ".segment";
pub(super) const LOG: &str = ".log";
/// A segment as young as this may belong to a run that has not locked it yet.
const YOUNG: Duration = Duration::from_secs(10);

/// Removes the segments of ours in `directory` that no run uses any more, and their logs. What cannot be looked at stays.
pub(super) fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_named(path, SEGMENT)) {
        if let Some(log) = abandoned(&path) {
            let _ = std::fs::remove_file(&path);
            if is_named(&log, LOG) {
                let _ = std::fs::remove_file(log);
            }
        }
    }
}

fn is_named(path: &Path, suffix: &str) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(PREFIX.as_bytes()) && name.as_bytes().ends_with(suffix.as_bytes()))
}

/// The log of an abandoned segment, or an empty path if it has none; `None`: the segment is in use, or somebody else's.
fn abandoned(path: &Path) -> Option<PathBuf> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    let old = metadata.modified().ok()?.elapsed().is_ok_and(|age| age >= YOUNG);
    if !metadata.is_file() || metadata.uid() != sys::Ids::current().user || !old {
        return None;
    }
    let file = File::options().read(true).write(true).open(path).ok()?;
    if !sys::lock(&file) {
        return None;
    }
    let log = Segment::from_file(&file).map(|segment| segment.log_path()).unwrap_or_default();
    Some(PathBuf::from(OsStr::from_bytes(&log)))
}

#[cfg(test)]
mod tests {
    use super::{abandoned, sweep};
    use crate::sys;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    #[test]
    fn what_nobody_holds_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str, age: u64| {
            let path = directory.path().join(name);
            let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
            (path, file)
        };
        let (left, _) = make("trapline-a.segment", 60);
        let (held, file) = make("trapline-b.segment", 60);
        assert!(sys::lock(&file));
        let (young, _) = make("trapline-c.segment", 0);
        let (other, _) = make("other.segment", 60);
        assert!(abandoned(&held).is_none());
        sweep(directory.path());
        assert!(!left.exists());
        assert!(held.exists() && young.exists() && other.exists());
    }
}
