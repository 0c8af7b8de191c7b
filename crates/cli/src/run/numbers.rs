//! Numbers of processes and threads in other pid namespaces than this process's: an image says what
//! it is called where it is.

use super::loaded::shares;
use crate::processes;
use std::fs;
use std::path::Path;

/// A process that calls itself `pid` and counts in the file with this inode, and its thread that
/// calls itself `tid`, as this process numbers them. `None`: there is none to be seen.
pub(super) fn here(pid: i32, tid: Option<i32>, counters: u64) -> Option<(i32, Option<i32>)> {
    let is_it = |candidate: &i32| {
        let status = Path::new("/proc").join(candidate.to_string()).join("status");
        innermost(&status) == Some(pid) && shares(*candidate, counters)
    };
    // Most often it is called the same here.
    let others = || processes::all_numbers().into_iter().find(is_it);
    let found = Some(pid).filter(is_it).or_else(others)?;
    let Some(tid) = tid else { return Some((found, None)) };
    let tasks = Path::new("/proc").join(found.to_string()).join("task");
    let is_it = |task: &Path| innermost(&task.join("status")) == Some(tid);
    let number = |task: &Path| task.file_name()?.to_str()?.parse().ok();
    let same = tasks.join(tid.to_string());
    if is_it(&same) {
        return Some((found, Some(tid)));
    }
    let mut all = fs::read_dir(tasks).ok()?.flatten().map(|task| task.path());
    let thread = all.find(|task| is_it(task)).and_then(|task| number(&task))?;
    Some((found, Some(thread)))
}

/// What a thread is called in its own namespace, by the kernel's file of it.
fn innermost(status: &Path) -> Option<i32> {
    let status = fs::read_to_string(status).ok()?;
    let all = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    all.split_ascii_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{here, innermost};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    #[test]
    fn what_is_called_the_same() {
        let own = std::process::id().cast_signed();
        assert_eq!(innermost(Path::new("/proc/self/status")), Some(own));
        let file = std::fs::metadata("/proc/self/exe").expect("it is there");
        // It has its program mapped, and not shared.
        assert_eq!(here(own, None, file.ino()), None);
    }
}
