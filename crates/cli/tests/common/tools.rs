//! Programs that a test needs and a machine may lack.

pub(crate) use super::missing::missing;
use std::path::PathBuf;

/// The path of `name`, or nothing: then the test says that it is skipped. With CI set, nothing may
/// be missing.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    // Debian's own programs before whatever a user has put in front of them.
    let path = std::env::var("PATH").unwrap_or_default();
    let found = "/usr/bin:/usr/sbin:/bin:/sbin"
        .split(':')
        .chain(path.split(':'))
        .map(|directory| PathBuf::from(directory).join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        missing(name);
    }
    found
}
