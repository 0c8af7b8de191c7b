//! `struct stat`.

/// What `fstat(2)` answers (Linux `arch/x86/include/uapi/asm/stat.h`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Stat {
    /// Device.
    pub dev: u64,
    /// Number of the inode.
    pub ino: u64,
    /// Names of the file.
    pub nlink: u64,
    /// Kind and rights.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    padding: u32,
    /// Device that a special file stands for.
    pub rdev: u64,
    /// Bytes.
    pub size: i64,
    /// Bytes of a good read.
    pub blksize: i64,
    /// Units of 512 bytes on the device.
    pub blocks: i64,
    /// Last access, seconds and nanoseconds.
    pub atime: [u64; 2],
    /// Last change of the contents.
    pub mtime: [u64; 2],
    /// Last change of the inode.
    pub ctime: [u64; 2],
    reserved: [i64; 3],
}

const _: () = assert!(size_of::<Stat>() == 144, "the kernel writes 144 bytes");
