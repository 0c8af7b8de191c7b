//! Who owns a block, and whether a process is still there.

use sys::file::{AT_FDCWD, fstatat};
use sys::{Errno, process};

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
    /// Two system calls.
    pub fn current() -> Self {
        let space = fstatat(AT_FDCWD, c"/proc/self/ns/pid");
        Self {
            pid: process::getpid().cast_unsigned(),
            space: space.map_or(0, |stat| stat.ino as u32 & 0xff_ffff),
        }
    }

    /// The calling process, a fork child of `parent`, without asking for what cannot have changed.
    ///
    /// # Context
    /// As [`Owner::current`].
    pub fn child_of(parent: Self) -> Self {
        if process::getppid().cast_unsigned() != parent.pid {
            // In a new namespace the parent has no number; or it has died meanwhile.
            return Self::current();
        }
        Self { pid: process::getpid().cast_unsigned(), ..parent }
    }
}

/// Whether the kernel knows no process of that number, in the caller's namespace.
pub(crate) fn gone(pid: u32) -> bool {
    // Signal 0 is sent to nobody.
    process::kill(pid.cast_signed(), 0) == Err(Errno::ESRCH)
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
