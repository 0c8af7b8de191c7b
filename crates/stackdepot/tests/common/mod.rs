//! What the tests share: mapped memory, stacks, a small generator, processes.
#![allow(dead_code, reason = "each test file uses its part")]

use stackdepot::{Reader, Region};
use std::ptr::NonNull;

/// Anonymous memory, private or shared with fork children.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    pub(crate) fn private(bytes: usize) -> Self {
        Self::map(bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    pub(crate) fn shared(bytes: usize) -> Self {
        Self::map(bytes, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
    }

    /// Maps `bytes` of a memory file that has only `backed` bytes.
    pub(crate) fn of_file(bytes: usize, backed: usize) -> Self {
        // SAFETY: a name and no flags.
        let fd = unsafe { libc::memfd_create(c"stackdepot".as_ptr(), 0) };
        assert!(fd >= 0);
        // SAFETY: an own descriptor.
        assert_eq!(unsafe { libc::ftruncate(fd, backed as libc::off_t) }, 0);
        let mapping = Self::map(bytes, libc::MAP_SHARED, fd);
        // SAFETY: an own descriptor; the mapping keeps the file.
        unsafe { libc::close(fd) };
        mapping
    }

    fn map(bytes: usize, flags: i32, fd: i32) -> Self {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Self { base: NonNull::new(base.cast()).unwrap(), bytes }
    }

    /// From here on any write to the mapping is a fault.
    pub(crate) fn protect(&self) {
        assert_eq!(
            // SAFETY: the own mapping.
            unsafe { libc::mprotect(self.base.as_ptr().cast(), self.bytes, libc::PROT_READ) },
            0
        );
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn as_private(&self) -> Region {
        // SAFETY: tests drop their depots before the mapping, and reach into it only through
        // `word`.
        unsafe { Region::private(self.base, self.bytes) }
    }

    pub(crate) fn as_shared(&self) -> Region {
        // SAFETY: as above.
        unsafe { Region::shared(self.base, self.bytes) }
    }

    pub(crate) fn reader(&self) -> Result<Reader, stackdepot::Error> {
        // SAFETY: tests drop their readers before the mapping.
        unsafe { Reader::new(self.base, self.bytes) }
    }

    /// Word `i` of the mapping, as an attacker reaches it.
    pub(crate) fn word(&self, i: usize) -> &std::sync::atomic::AtomicU64 {
        assert!(i < self.bytes / 8);
        // SAFETY: inside the mapping, by the assertion.
        let at = unsafe { self.base.cast::<std::sync::atomic::AtomicU64>().add(i) };
        // SAFETY: mapped for the life of self and aligned; all accesses to it are atomic.
        unsafe { at.as_ref() }
    }

    /// The same bytes in memory of their own.
    pub(crate) fn copy(&self) -> Self {
        let other = Self::private(self.bytes);
        // SAFETY: two mappings of the same size; nobody writes meanwhile.
        unsafe {
            std::ptr::copy_nonoverlapping(self.base.as_ptr(), other.base.as_ptr(), self.bytes)
        };
        other
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the own mapping; nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

// SAFETY: an address range.
unsafe impl Send for Mapping {}
// SAFETY: an address range.
unsafe impl Sync for Mapping {}

/// splitmix64: the same numbers every time.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Stack number `n`: its depth (1 to `deepest`) and all its frames follow from the number.
pub(crate) fn stack(n: u64, deepest: u64) -> Vec<u64> {
    let mut rng = Rng(n);
    let depth = 1 + rng.below(deepest);
    (0..depth).map(|i| 0x5500_0000_0000 + (rng.next() & 0xf_ffff) + i).collect()
}

/// Runs `f` in a fork child and returns the child's exit code, or minus the signal that killed it.
/// The child exits without unwinding into the test runner.
pub(crate) fn in_child(f: impl FnOnce() -> i32) -> i32 {
    let pid = fork(f);
    wait(pid)
}

/// Starts `f` in a fork child.
pub(crate) fn fork(f: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child runs `f` and leaves by _exit.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_or(101);
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) };
    }
    pid
}

pub(crate) fn kill(pid: i32) {
    // SAFETY: an own child.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

pub(crate) fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: an own child and a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
}
