//! Who owns a block, and whether a process is still there.
#![allow(unsafe_code)]

/// A process, by its number in its pid namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Process.
    pub pid: u32,
    /// The lower 24 bits of its pid namespace's inode, or 0 if that cannot be known: then nobody
    /// finds out whether the process is gone, and its blocks are not used again.
    pub space: u32,
}

impl Owner {
    /// The calling process.
    ///
    /// # Context
    /// Two system calls, by number: libc's functions may be probed.
    pub fn current() -> Self {
        // SAFETY: no arguments.
        let pid = unsafe { libc::syscall(libc::SYS_getpid) as u32 };
        // SAFETY: zero is a valid stat.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        let path = c"/proc/self/ns/pid".as_ptr();
        // SAFETY: a name that lives through the call, and a place for the answer.
        let failed =
            unsafe { libc::syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path, &raw mut stat, 0) }
                != 0;
        Self { pid, space: if failed { 0 } else { stat.st_ino as u32 & 0xff_ffff } }
    }

    /// The calling process, a fork child of `parent`, without asking for what cannot have changed.
    ///
    /// # Context
    /// As [`Owner::current`].
    pub fn child_of(parent: Self) -> Self {
        // SAFETY: no arguments.
        let its = unsafe { libc::syscall(libc::SYS_getppid) as u32 };
        if its != parent.pid {
            // In a new namespace the parent has no number; or it has died meanwhile.
            return Self::current();
        }
        // SAFETY: no arguments.
        Self { pid: unsafe { libc::syscall(libc::SYS_getpid) as u32 }, ..parent }
    }
}

/// Whether the kernel knows no process of that number, in the caller's namespace.
pub(crate) fn gone(pid: u32) -> bool {
    // SAFETY: signal 0 is sent to nobody.
    let failed = unsafe { libc::syscall(libc::SYS_kill, pid, 0) } != 0;
    failed && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

#[cfg(test)]
mod tests {
    use super::{Owner, gone};

    #[test]
    fn the_living_and_the_dead() {
        let own = Owner::current();
        assert_eq!((own.pid, gone(own.pid)), (std::process::id(), false));
        assert!(!gone(1), "it belongs to somebody else, and lives");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        assert!(!gone(pid), "until it is waited for");
        child.wait().unwrap();
        assert!(gone(pid));
    }
}
