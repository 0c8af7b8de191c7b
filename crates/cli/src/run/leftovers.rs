//! Sockets of runs that were killed: nothing else of a run has a name.

use crate::sys;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub(super) const PREFIX: &str = "trapline-";
pub(super) const SOCKET: &str = ".socket";
/// A socket as young as this may belong to a run that does not listen yet.
const YOUNG: Duration = Duration::from_secs(10);

/// Removes the sockets of ours in `directory` that nobody listens to any more. What cannot be
/// looked at stays.
pub(super) fn sweep(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_named(path) && is_abandoned(path))
    {
        let _ = std::fs::remove_file(&path);
    }
}

fn is_named(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.starts_with(PREFIX.as_bytes()) && name.ends_with(SOCKET.as_bytes())
}

fn is_abandoned(path: &Path) -> bool {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return false };
    let old =
        metadata.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= YOUNG);
    let ours = metadata.file_type().is_socket() && metadata.uid() == sys::Ids::current().user;
    ours && old
        && UnixStream::connect(path)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::{is_abandoned, sweep};
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    /// Lets a file be a minute old.
    #[allow(unsafe_code)]
    fn age(path: &Path) {
        let path = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: no pointer but to the result, which may be null.
        let now = unsafe { libc::time(std::ptr::null_mut()) };
        let then = libc::timespec { tv_sec: now - 60, tv_nsec: 0 };
        let times = [then, then];
        // SAFETY: a terminated path and two times, which live through the call.
        let result = unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) };
        assert_eq!(result, 0);
    }

    #[test]
    fn what_nobody_listens_to_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        drop(UnixListener::bind(path("trapline-left.socket")).unwrap());
        let _held = UnixListener::bind(path("trapline-held.socket")).unwrap();
        drop(UnixListener::bind(path("other.socket")).unwrap());
        std::fs::write(path("trapline-file.socket"), b"").unwrap();
        for name in
            ["trapline-left.socket", "trapline-held.socket", "other.socket", "trapline-file.socket"]
        {
            age(&path(name));
        }
        drop(UnixListener::bind(path("trapline-young.socket")).unwrap());
        assert!(!is_abandoned(&path("trapline-young.socket")), "it may not have begun to listen");
        sweep(directory.path());
        assert!(!path("trapline-left.socket").exists());
        for name in [
            "trapline-held.socket",
            "other.socket",
            "trapline-file.socket",
            "trapline-young.socket",
        ] {
            assert!(path(name).exists(), "{name}");
        }
    }
}
